"""Workers that follow a script: they read like an agent, act in the shop, and are as careful as their skill."""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass
from typing import Literal

from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import Ask, Done, Job, Result
from nextstep_envs.types import Usage
from nextstep_envs.workers import pages, shopping
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.requirements import (
    Requirements,
    guess_domain,
    parse_list,
    parse_request,
    split_subtask,
    translate,
    write_list,
)
from nextstep_envs.workers.shopping import Style, Trip

Mode = Literal["plan", "check", "test", "open", "buy"]
EVERYTHING = 99
UNKNOWN_DOMAIN_SKILL = 0.5

_PLAN = re.compile(r"\b(plan|list|requirements? of|break down|analy[sz]e|extract)\b")
_TEST = re.compile(r"\btest\b")
_CHECK = re.compile(r"\b(check|verify|review|repair|correct)\b")
_BUY = re.compile(r"\b(buy|purchase|order|checkout|shop)\b")
_OPEN = re.compile(r"\b(search|find|open|look up)\b")


@dataclass(frozen=True, slots=True)
class ScriptedWorker:
    """An `Actor` that shops by rule. Its role (its worker id) decides what it is good at, its skill how good.

    It understands its subtask by key words: *list/plan* the requirements of a request, *open* the best product, *check*
    the open product, *test* it (only say what it lacks), *buy*. What to look for it takes from the latest requirement
    list in its context, else from a list or a request in its subtask, else from a request in its context; it sees
    nothing else. A list is followed to the letter; a raw request is understood only with the trade words the worker
    happens to know.

    One step is one call: everything it reads (subtask, context, pages) is prompt, everything it writes completion.
    """

    spec: WorkerSpec

    def advance(self, job: Job, memory: Trip | None, result: Result | None, rng: random.Random) -> Ask | Done:
        """Take one turn."""
        if memory is None:
            return self._begin(job, rng)
        page = str(result.value) if result is not None else ""
        read = estimate_tokens(page)
        return _act(shopping.move(memory._replace(read=memory.read + read), page, rng), read, calls=0)

    def _begin(self, job: Job, rng: random.Random) -> Ask | Done:
        read = estimate_tokens(job.subtask) + sum(map(estimate_tokens, job.context)) + estimate_tokens(job.view)
        mode = understand(job.subtask)
        wanted = find_requirements(job)
        if wanted is None:
            return _say("I was given no requirements, so I did nothing.", read, failed=True)
        skill = self.skill(job)
        if mode == "plan":
            return _say(write_list(self._list(wanted, skill)), read)
        if not wanted.listed:
            wanted = translate(wanted, self._knows(skill))
        style = shopping_style(self.spec.worker_id, skill, wanted.listed)
        if mode == "test":
            if not pages.is_item(job.view):
                return _say("No product is open, so there is nothing to test.", read, failed=True)
            style = style._replace(breadth=1)  # the open product, not others
        elif mode == "check" and self.spec.worker_id != "verification":  # others set the options, but take what is open
            style = style._replace(breadth=1, features=False)
        trip = Trip(wanted, style, buys=mode not in ("open", "test"), read=read)
        view = job.view if mode in ("check", "test") else ""
        return _act(shopping.start(trip, view, rng), read, calls=1)

    def skill(self, job: Job) -> float:
        """This worker's skill in the domain that subtask and context are about."""
        levels = dict(self.spec.skills)
        domain = guess_domain("\n".join((split_subtask(job.subtask)[1], *job.context)))
        if domain in levels:
            return levels[domain]
        return sum(levels.values()) / len(levels) if levels else UNKNOWN_DOMAIN_SKILL

    def _list(self, wanted: Requirements, skill: float) -> Requirements:
        """What goes on a requirement list: a worker leaves out the features it does not understand."""
        knows = self._knows(skill)
        understood = tuple(term for term in wanted.features if term.trade or knows(term.lay))
        return translate(wanted._replace(features=understood), knows)

    def _knows(self, skill: float) -> _Knows:
        return _Knows(self.spec.worker_id, know_share(self.spec.worker_id, skill))


@dataclass(frozen=True, slots=True)
class _Knows:
    """Which words a worker knows: always the same ones, a given share of all."""

    worker_id: str
    share: float

    def __call__(self, word: str) -> bool:
        return (zlib.crc32(f"{self.worker_id}/{word}".encode()) & 0xFFFF) / 0x10000 < self.share


def understand(subtask: str) -> Mode:
    """What a subtask asks for, by the key words outside the shopper's request."""
    head = split_subtask(subtask)[0].lower()
    if _TEST.search(head):
        return "test"
    if _CHECK.search(head):
        return "check"
    if _BUY.search(head):
        return "buy"
    if _PLAN.search(head):
        return "plan"
    return "open" if _OPEN.search(head) else "buy"


def find_requirements(job: Job) -> Requirements | None:
    """The latest list in the context, else a list or request in the subtask, else a request in the context."""
    for text in reversed(job.context):
        if listed := parse_list(text):
            return listed
    if found := parse_list(job.subtask) or parse_request(job.subtask):
        return found
    for text in reversed(job.context):
        if found := parse_request(text):
            return found
    return None


def _ramp(skill: float, low: float, high: float) -> float:
    return min(max((skill - low) / (high - low), 0.0), 1.0)


def know_share(role: str, skill: float) -> float:
    """The share of a domain's trade words that a worker of some skill knows."""
    if role == "tool_use":
        return _ramp(skill, 0.6, 0.9)
    if role == "verification":
        return 0.3 * _ramp(skill, 0.6, 0.9)
    return _ramp(skill, 0.2, 0.7)


def shopping_style(role: str, skill: float, listed: bool) -> Style:
    """How a worker of some skill shops, from a list or from a raw request."""
    slip = 0.01 + 0.04 * (1 - skill)
    careful = skill >= 0.6
    if role == "planning":
        return Style(1, False, False, 1, False, slip)
    if role == "general_reasoning":
        expert = skill >= 0.9
        return Style(4 if expert else 1, expert, expert, EVERYTHING, careful, slip)
    if role == "verification":
        return Style(5 if careful else 2, careful, careful, EVERYTHING, True, slip)
    if listed:
        return Style(3 if careful else 1, careful, False, EVERYTHING if careful else 1, True, slip)
    expert = skill >= 0.9
    return Style(3 if expert else 1, expert, False, EVERYTHING if expert else 1, expert, slip, weighs=expert)


def _say(text: str, read: int, failed: bool = False) -> Done:
    return Done(text, Usage(prompt_tokens=read, completion_tokens=estimate_tokens(text), calls=1), failed)


def _act(made: shopping.Move, read: int, calls: int) -> Ask | Done:
    written = estimate_tokens(made.call or made.report)
    usage = Usage(prompt_tokens=read, completion_tokens=written, calls=calls)
    if not made.call:
        sure = shopping.confidence(made.trip)
        return Done(made.report, usage, failed=sure is None, confidence=sure)
    return Ask("world", made.call, usage._replace(env_steps=1), made.trip)

"""The Workflow protocol: one action is one step {subtask, worker_id, access_list}, or finish, or a whole plan.

Steps run in sequence; access lists gate context (NextStep specification; Conductor, arXiv 2512.04388).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.episode import Decision, State
from nextstep_envs.ledger import estimate_tokens, total_allowance
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.messages import opening, report
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.protocols.templates import TEMPLATES
from nextstep_envs.types import Budget, Step
from nextstep_envs.workers.base import WorkerSpec

CONTEXTS = ("none", "last", "all")


class WorkflowProtocol:
    """Rules of Workflow for a pool of workers and a budget.

    Vector actions: `(worker * n_templates + template) * 3 + context`, context in (none, last, all); the last index is
    finish. Text actions: JSON, one step, `{"finish": true}` or `{"workflow": [step, ...]}`, which runs and ends.

    Attributes:
        n_actions: size of the vector action space.
        features: the vector observation.
    """

    name = "workflow"

    def __init__(self, pool: tuple[WorkerSpec, ...], budget: Budget) -> None:
        self.pool, self.budget = pool, budget
        self.slots = {spec.worker_id: i for i, spec in enumerate(pool)}
        self.n_actions = len(pool) * len(TEMPLATES) * len(CONTEXTS) + 1
        self.features = Features(pool, budget)
        self._total = total_allowance(budget)
        grid = np.indices((len(pool), len(TEMPLATES), len(CONTEXTS))).reshape(3, -1)
        self._worker, self._template, self._context = grid

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """The steps behind a vector index or a JSON text; what makes no sense is an invalid action."""
        return self._decode_text(state, action) if isinstance(action, str) else self._decode_index(state, int(action))

    def _decode_index(self, state: State, action: int) -> Decision:
        if action == self.n_actions - 1:
            return Decision(finish=True)
        if not 0 <= action < self.n_actions:
            return Decision(invalid=f"action {action} is outside 0..{self.n_actions - 1}")
        slot, template, context = self._worker[action], self._template[action], self._context[action]
        access = [] if context == 0 else [CONTEXTS[context]]
        entry = {"subtask": TEMPLATES[template].text, "worker_id": self.pool[slot].worker_id, "access_list": access}
        return self._plan(state, [entry], finish=False)

    def _decode_text(self, state: State, text: str) -> Decision:
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return Decision(invalid="no JSON object was found")
        if value.get("finish") is True:
            return Decision(finish=True)
        if "workflow" not in value:
            return self._plan(state, [value], finish=False)
        plan = value["workflow"]
        if not isinstance(plan, list):
            return Decision(invalid='"workflow" must be a list of steps')
        return self._plan(state, plan, finish=True)

    def _plan(self, state: State, plan: list[Any], finish: bool) -> Decision:
        """Check every entry; one bad entry makes the whole action invalid, so that nothing runs by half."""
        left = self.budget.steps - state.steps_used()
        if len(plan) > left:
            return Decision(invalid=f"the plan has {len(plan)} steps but only {left} are left")
        first, steps = len(state.steps), []
        present = {spec.worker_id for spec in state.pool}
        for index, entry in enumerate(plan, start=first):
            step = _step(entry, index, present, state.task.prompt)
            if isinstance(step, str):
                return Decision(invalid=f"step {index}: {step}")
            steps.append(step)
        return Decision(tuple(steps), finish)

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    def mask(self, state: State) -> npt.NDArray[np.int8]:
        """int8 [n_actions]: 1 where the worker is present, the context exists and the budget allows a call.

        Finish is always legal.
        """
        if state.end:
            return _finish_only(self.n_actions)
        left = self._total.minus(state.spent)
        fits = tuple(left.tokens >= need and left.calls >= 1 and left.usd_nano > 0 for need in self._needs(state))
        present = tuple(spec.worker_id for spec in state.pool)
        return self._mask(present, fits, min(len(state.steps), 2), state.steps_used() < self.budget.steps)

    def _needs(self, state: State) -> tuple[int, ...]:
        return _template_tokens(state.task.prompt)

    @lru_cache(maxsize=512)  # noqa: B019 - protocols live as long as the process's environments
    def _mask(self, present: tuple[str, ...], fits: tuple[bool, ...], steps: int, open_: bool) -> npt.NDArray[np.int8]:
        there = np.array([spec.worker_id in present for spec in self.pool])
        legal = there[self._worker] & np.array(fits)[self._template] & (self._context <= steps) & open_
        mask = np.append(legal, True).astype(np.int8)
        mask.flags.writeable = False
        return mask

    def message(self, state: State) -> str:
        """The next message to the orchestrator: the task at first, then what the last decision brought."""
        if not state.steps and not state.invalid and not state.end:
            return opening(state, self.budget)
        return report(state, self.budget)


@lru_cache(maxsize=64)
def _finish_only(n: int) -> npt.NDArray[np.int8]:
    mask = np.zeros(n, np.int8)
    mask[-1] = 1
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4096)
def _template_tokens(prompt: str) -> tuple[int, ...]:
    return tuple(estimate_tokens(t.text.replace("{task}", prompt)) for t in TEMPLATES)


def _step(entry: Any, index: int, present: set[str], prompt: str) -> Step | str:
    """A step from one JSON entry, or what is wrong with it."""
    if not isinstance(entry, Mapping):
        return "must be an object with subtask, worker_id and access_list"
    subtask, worker_id = entry.get("subtask"), entry.get("worker_id")
    if not isinstance(subtask, str) or not subtask.strip():
        return '"subtask" must be a non-empty text'
    if not isinstance(worker_id, str) or worker_id not in present:
        return f'"worker_id" must be one of {", ".join(sorted(present))}'
    reads = _reads(entry.get("access_list", []), index)
    if isinstance(reads, str):
        return reads
    after = (index - 1,) if index else ()
    return Step(index, subtask.replace("{task}", prompt), worker_id, after, reads)


def _reads(access: Any, index: int) -> tuple[int, ...] | str:
    """Indices of the steps named by an access list, or what is wrong with it."""
    entries = [access] if isinstance(access, str) else access
    if not isinstance(entries, list):
        return '"access_list" must be a list of earlier step numbers, or ["last"] or ["all"]'
    reads: set[int] = set()
    for entry in entries:
        if entry == "all":
            reads.update(range(index))
        elif entry == "last":
            reads.update(range(max(index - 1, 0), index))
        elif entry == "none":
            continue
        else:
            number = _number(entry)
            if number is None or not 0 <= number < index:
                return f'"access_list" names {entry!r}, which is no earlier step'
            reads.add(number)
    return tuple(sorted(reads))


def _number(entry: Any) -> int | None:
    if isinstance(entry, bool):
        return None
    if isinstance(entry, int):
        return entry
    return int(entry) if isinstance(entry, str) and entry.isdecimal() and len(entry) < 10 else None

"""Helpers for tests of the DAG protocol: episodes in the toy world, and workers that do as their subtask says."""

from __future__ import annotations

import json
import random
from typing import Any

from nextstep_envs.episode import Episode
from nextstep_envs.protocols.dag import DagProtocol
from nextstep_envs.requests import Ask, ChatRequest, Done, Job, Result
from nextstep_envs.types import Budget, Transition, Usage
from tests.envs.toy import POOL, Counter


class Obedient:
    """Acts on the words of its subtask, and keeps the jobs it saw.

    "wait": asks a model first; "call x": calls x in the world; "fail", "unsure" and "greedy": reports a failure, a
    confidence of 0.2, or needs more than anybody has; "end": ends the world. Each job costs 20 tokens and a call.
    """

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        words = job.subtask.split()
        if memory is None:
            self.jobs.append(job)
            memory = "started"
            if "wait" in words:
                return Ask("chat", ChatRequest("m", (("user", job.subtask),), 5), Usage(5, 5, 0), memory)
        if memory == "started":
            if "end" in words:
                return Ask("world", "end", Usage(env_steps=1), "acted")
            if "call" in words:
                return Ask("world", words[words.index("call") + 1], Usage(env_steps=1), "acted")
        tokens = 10**9 if "greedy" in words else 15
        confidence = 0.2 if "unsure" in words else None
        return Done(f"did {job.subtask}", Usage(tokens, 5, 1), "fail" in words, confidence)


class Run:
    """An episode of the toy world under DAG rules, with one obedient worker behind every name."""

    def __init__(self, budget: dict[str, Any] | None = None, limits: Any = None, **arguments: Any) -> None:
        self.budget = Budget(**{"steps": 10, **(budget or {})})
        self.rules = DagProtocol(POOL, self.budget, limits or {}, **arguments)
        self.worker = Obedient()
        self.episode = self.rules.episode(Counter(), {"a": self.worker, "b": self.worker})
        self.episode.reset("7", POOL, seed=1)

    def act(self, action: Any) -> Transition:
        """Take an action (JSON as a Python value, or an index); whatever waits is answered, one after the other."""
        self.episode.act(action if isinstance(action, int | str) else json.dumps(action))
        drain(self.episode)
        return self.episode.transition()

    def dag(self, *nodes: Any) -> Transition:
        """Run a whole DAG."""
        return self.act({"dag": list(nodes)})

    @property
    def started(self) -> list[str]:
        """Subtasks in the order in which they were started."""
        return [job.subtask for job in self.worker.jobs]


def node(subtask: str, *depends_on: Any, agent: str = "a", **more: Any) -> dict[str, Any]:
    """A node in JSON."""
    return {"subtask": subtask, "agent": agent, "depends_on": list(depends_on), **more}


def reply(episode: Episode, index: int) -> None:
    """Answer what one step waits for."""
    request = next(r for r in episode.poll() if r.id.startswith(f"{index}/"))
    episode.deliver(Result(request.id, "word", Usage(2, 2, 0)))


def drain(episode: Episode) -> None:
    """Answer everything, the lowest step first."""
    while asked := episode.poll():
        episode.deliver(Result(asked[0].id, "word", Usage(2, 2, 0)))


def waiting(episode: Episode) -> list[int]:
    """Indices of the steps at work."""
    return [int(request.id.split("/")[0]) for request in episode.poll()]

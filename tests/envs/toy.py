"""A tiny world and tiny workers for tests of the core: every request waits, every outcome is countable."""

from __future__ import annotations

import random
from typing import Any

from nextstep_envs.requests import Ask, ChatRequest, Done, Job, Request, Result
from nextstep_envs.types import Outcome, Task, Usage
from nextstep_envs.workers.base import WorkerSpec

POOL = (WorkerSpec("a", "Asks twice, then acts.", 1.0, 2.0, 7.0), WorkerSpec("b", "Acts and answers.", 3.0, 9.0, 70.0))


class Counter:
    """A world whose state is the tuple of calls made in it; "end" finishes it."""

    name = "counter"

    def ids(self, split: str) -> tuple[str, ...]:
        return ("7", "8")

    def sample_id(self, split: str, rng: random.Random) -> str:
        return rng.choice(self.ids(split))

    def task(self, task_id: str) -> Task:
        return Task(task_id, f"count to {task_id}")

    def begin(self, task: Task, rng: random.Random) -> tuple[str, ...]:
        return (f"start {rng.randint(1, 99)}",)

    def act(self, state: tuple[str, ...], call: str) -> tuple[tuple[str, ...], str]:
        return (*state, call), f"did {call}"

    def view(self, state: tuple[str, ...]) -> str:
        return state[-1]

    def available(self, state: tuple[str, ...]) -> dict[str, Any]:
        return {}

    def done(self, state: tuple[str, ...]) -> bool:
        return state[-1] == "end"

    def outcome(self, task: Task, state: tuple[str, ...]) -> Outcome:
        return Outcome(min(len(state) / 10, 1.0), False, {"calls": len(state) - 1})


class Asker:
    """Two requests with memory between them, one world call, then an answer."""

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        seen = (*(memory or ()), *((str(result.value),) if result else ()))
        if len(seen) == 3:
            return Done(" ".join(seen), Usage(completion_tokens=3))
        if len(seen) == 2:
            return Ask("world", f"look {seen[1]} {rng.random():.3f}", Usage(env_steps=1), seen)
        return Ask("chat", ChatRequest("m", (("user", job.subtask + str(seen)),), 40), Usage(10, 40, 1), seen)


class Actor:
    """One request, then a world call that shows its context, then an answer."""

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        if result is None:
            return Ask("chat", ChatRequest("m", (("user", job.subtask),), 90), Usage(10, 90, 1))
        if memory is None:
            return Ask("world", f"act {result.value} {job.context}", Usage(2, 0, 0, 1), True)
        return Done(str(result.value))


WORKERS = {"a": Asker(), "b": Actor()}


def answer(requests: Any) -> list[Result]:
    """A model whose words and lengths come from each request's seed alone."""
    results = []
    for request in requests:
        rng = random.Random(request.seed)
        used = Usage(10, rng.randint(1, request.payload.max_tokens), 1)
        results.append(Result(request.id, f"w{rng.randint(0, 9999)}", used))
    return results


def fail(requests: list[Request]) -> list[Result]:
    """A provider that stays down, after having billed something."""
    return [Result(r.id, usage=Usage(5, 0, 1), error="connection refused") for r in requests]

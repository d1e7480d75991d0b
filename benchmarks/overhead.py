"""Microseconds of an orchestration step that are spent outside the world, single and vectorised.

Workers answer at once, so what is left is the machinery: decoding, ledger, records, observation, mask and info. Time in
the world's own methods is measured and taken off. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import nextstep_envs  # noqa: F401
from nextstep_envs.requests import Ask, Done, Job, Result
from nextstep_envs.types import Budget, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.crew import Crew
from registry import components

ID = "NextStep/WebShop-Workflow-v0"


class Instant:
    """A worker that answers at once."""

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        """End with a fixed text."""
        return Done("done", Usage(20, 5, 1))


def instant_crew(specs: tuple[WorkerSpec, ...], budget: Budget) -> Crew:
    """Instant workers for a whole pool."""
    return Crew(specs, {spec.worker_id: Instant() for spec in specs})


class TimedWorld:
    """Passes every call on to a world and adds up the CPU time spent there."""

    def __init__(self, world: Any) -> None:
        self.world, self.seconds = world, 0.0

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.world, name)
        return self._timed(member) if callable(member) else member

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return call


def single(steps: int) -> float:
    """Microseconds a step through `gym.make`."""
    env = gym.make(ID, workers="instant")
    core: Any = env.unwrapped
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    timed = TimedWorld(core.setup.world)
    core.episode.world = timed
    start, policy = time.process_time(), 0.0
    for _ in range(steps):
        before = time.process_time()
        action = int(rng.choice(np.flatnonzero(obs["action_mask"])))
        policy += time.process_time() - before
        obs, _, terminated, _, _ = env.step(action)
        if terminated:
            obs, _ = env.reset()
    return (time.process_time() - start - policy - timed.seconds) / steps * 1e6


def vectorised(steps: int, n: int = 64) -> float:
    """Microseconds a sub-environment step through `gym.make_vec`."""
    envs: Any = gym.make_vec(ID, num_envs=n, vectorization_mode="vector_entry_point", workers="instant")
    rng = np.random.default_rng(0)
    obs, _ = envs.reset(seed=0)
    timed = TimedWorld(envs.setup.world)
    for episode in envs.episodes:
        episode.world = timed
    start, policy = time.process_time(), 0.0
    for _ in range(steps):
        before = time.process_time()
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in obs["action_mask"]])
        policy += time.process_time() - before
        obs, *_ = envs.step(actions)
    return (time.process_time() - start - policy - timed.seconds) / (steps * n) * 1e6


def main() -> None:
    """Run both sides in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    components.register("worker", "instant", "__main__:instant_crew")
    pairs = [(single(3000), vectorised(60)) for _ in range(repeats)]
    one, many = np.median(pairs, axis=0)
    print(json.dumps({"overhead_us": round(float(one), 1), "vector_overhead_us": round(float(many), 1)}))


if __name__ == "__main__":
    main()

"""Microseconds to capture and restore an environment with its wrappers, half-way through an episode.

`deepcopy` copies the same state instead, in the same process and in turn. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import nextstep_envs  # noqa: F401
import registry
from wrappers import CostPenalty, RecordCost

ID = "NextStep/WebShop-Workflow-v0"


def microseconds(call: Callable[[], Any], times: int) -> float:
    """CPU time of one call."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times * 1e6


def halfway(env: gym.Env[Any, Any], steps: int) -> gym.Env[Any, Any]:
    """The environment after some random legal decisions of one episode."""
    rng = np.random.default_rng(0)
    over, seed = True, 0
    while over:  # some episodes end sooner
        _, info = env.reset(seed=seed)
        seed, over = seed + 1, False
        for _ in range(steps):
            legal = np.flatnonzero(info["action_mask"])[:-1]  # the last one ends the episode
            _, _, terminated, truncated, info = env.step(int(rng.choice(legal)))
            over = over or terminated or truncated
            if over:
                break
    return env


def main() -> None:
    """Measure in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="decisions before the snapshot")
    arguments = parser.parse_args()
    made = halfway(gym.make(ID), arguments.steps)
    stack = halfway(
        RecordCost(CostPenalty(RecordEpisodeStatistics(TimeLimit(gym.make(ID), 100)), 0.2, "log")), arguments.steps
    )
    sides: dict[str, Callable[[], Any]] = {
        "gym_make": lambda: registry.restore(made, registry.snapshot(made)),
        "four_wrappers": lambda: registry.restore(stack, registry.snapshot(stack)),
        "deepcopy_of_the_state": lambda: copy.deepcopy(made.unwrapped.snapshot()),  # type: ignore[attr-defined]
    }
    rows = [[microseconds(call, 1000) for call in sides.values()] for _ in range(arguments.repeats)]
    medians = np.median(rows, axis=0)
    print(json.dumps({f"{name}_us": round(float(value), 1) for name, value in zip(sides, medians, strict=True)}))


if __name__ == "__main__":
    main()

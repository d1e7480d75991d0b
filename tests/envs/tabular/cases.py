"""The named problems, and models of the tests' own."""

from __future__ import annotations

from typing import Any

import numpy as np

from nextstep_envs.tabular import DagRetries, JointPlanWork, RetryStop, TabularCMDP, TierRouting

PROBLEMS = (TierRouting, RetryStop, DagRetries, JointPlanWork)


def uniform(env: TabularCMDP) -> np.ndarray:
    """The policy that takes every legal action alike."""
    return env.mask / env.mask.sum(-1, keepdims=True)


def loop(**changes: Any) -> dict[str, Any]:
    """Arguments of a process of three states that returns to where it was: random numbers, two costs."""
    rng = np.random.default_rng(7)
    arguments: dict[str, Any] = {
        "P": rng.dirichlet(np.ones(3), (3, 2)),
        "R": rng.random((3, 2)),
        "C": rng.random((2, 3, 2)),
        "mu": [0.5, 0.5, 0.0],
        "d": [2.0, 2.2],
        "horizon": 4,
    }
    return {**arguments, **changes}


def one_shot(**changes: Any) -> dict[str, Any]:
    """Arguments of two states that end at once, with one cost that cannot be avoided."""
    arguments: dict[str, Any] = {
        "P": np.zeros((2, 2, 2)),
        "R": [[1.0, 2.0], [0.0, 3.0]],
        "C": [[[0.5, 1.0], [0.25, 2.0]]],
        "mu": [0.5, 0.5],
        "d": [1.0],
    }
    return {**arguments, **changes}

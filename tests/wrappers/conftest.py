"""A tiny environment with the same `info` as the real ones, so that every number can be checked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from nextstep_envs.types import Budget, Outcome, Step, StepRecord, Usage

ID = "NextStepTests/Bill-v0"


@dataclass(frozen=True)
class Spec:
    """Stands for a worker in a pool."""

    worker_id: str


class Bill(gym.Env[Any, Any]):
    """Ends after four steps; each costs the action in tokens and its square in dollars; the reward is 1 at the end."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(5)
    cost_names = ("tokens", "usd")
    budget = Budget(steps=4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start, with an empty bill."""
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), self._info(0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pay for the action."""
        self._steps += 1
        over = self._steps == 4
        info = self._info(int(action))
        record = StepRecord(Step(self._steps - 1, "résumé", "anna"), (), f"output {action}", (), Usage(int(action)))
        info["records"] = (record,)
        if over:
            info["outcome"] = Outcome(1.0, True, {"r_type": 0.5})
        return self._observation(), float(over), over, False, info

    def _observation(self) -> Any:
        return np.array([self._steps], np.float32)

    def _info(self, action: int) -> dict[str, Any]:
        costs = np.array([action, action**2], np.float64)
        terms = {"tokens": float(action), "usd": float(action**2), "calls": 1.0 if action else 0.0}
        return {"task_id": "7", "sample": 0, "costs": costs, "cost": float(action), "cost_terms": terms, "records": ()}


@pytest.fixture(autouse=True)
def bill_id() -> Iterator[str]:
    """The id of the environment, registered for one test."""
    gym.register(ID, entry_point=f"{Bill.__module__}:Bill")
    yield ID
    gym.registry.pop(ID)


@pytest.fixture
def bill() -> gym.Env[Any, Any]:
    """The environment, bare of Gymnasium's own wrappers."""
    return Bill()

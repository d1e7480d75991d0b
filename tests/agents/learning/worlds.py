"""Small environments of other people's making, for the tests of learning."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Walk(gym.Env[Any, Any]):
    """Goes on for `length` decisions; action 1 pays 1 and costs 1. `fail` episodes in ten end masked."""

    def __init__(self, length: int = 3, fail: int = 0, key: str = "cost") -> None:
        self.observation_space, self.action_space = spaces.Box(-10, 10, (2,), np.float32), spaces.Discrete(2, start=5)
        self.length, self.fail, self.key, self.steps = length, fail, key, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.bad = 0, self.np_random.integers(10) < self.fail
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        self.steps += 1
        paid = float(action == 6)
        costs = {"cost": paid} if self.key == "cost" else {"costs": np.array([paid, 2.0])} if self.key else {}
        over = self.steps == self.length
        info = {**costs, **({"mask_sample": True} if over and self.bad else {})}
        return self._seen(), paid, over and not self.bad, over and self.bad, info

    def _seen(self) -> Any:
        return np.array([self.steps, 1.0], np.float32)


class Aim(gym.Env[Any, Any]):
    """One decision: hit the number that is shown, -1 ... 1. The reward is the squared error, the cost the size."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.target = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.target, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        error = float(action[0] - self.target[0])
        return self.target, -(error**2), True, False, {"cost": float(abs(action[0]))}


class Pair(ParallelEnv[str, Any, Any]):
    """Two agents; the second leaves after its first of three decisions. Agent i's cost is (i + 1) * its action."""

    metadata = {"name": "pair"}

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.steps = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (1 if agent == "a" else 3,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.steps = ["a", "b"], 0
        return self._seen(), {"a": {}, "b": {}}

    def step(self, actions: dict[str, int]) -> Any:
        assert set(actions) == set(self.agents)
        acted, self.steps = self.agents, self.steps + 1
        over = self.steps == 3
        self.agents = [] if over else ["a"]
        ends = {agent: over or agent == "b" for agent in acted}
        infos = {agent: {"cost": (1 + self.possible_agents.index(agent)) * float(actions[agent])} for agent in acted}
        rewards = {agent: float(actions[agent]) for agent in acted}
        return self._seen(), rewards, ends, dict.fromkeys(acted, False), infos

    def _seen(self) -> Any:
        return {a: np.zeros(self.observation_space(a).shape, np.float32) for a in self.agents}

"""The step of Safety-Gymnasium, for trainers written for it (OmniSafe, SafePO)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from nextstep_envs.errors import ConfigError, check_choice


class SafetyGymnasium(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """`step` returns six values: observation, reward, **cost**, terminated, truncated, info.

    A change of form only: reward, observation and the rest of `info` stay as they are; `info["cost_sum"]` holds the
    step's cost once more, where such trainers log it. Put it outermost, since Gymnasium's wrappers expect five values,
    and outside of `CostPenalty` only if the cost is to count twice. Safety-Gymnasium itself pins an older Gymnasium and
    cannot be installed beside this package; nothing of it is needed here.

    Args:
        env: any environment with `info["cost"]` and `info["cost_terms"]`.
        cost: what the third value is: None for `info["cost"]`, the name of an entry of `info["cost_terms"]`, or
            weights by name for a weighted sum of them.

    Raises:
        ConfigError: a name is not among the costs of the environment (when the episode starts), or a weight is not a
            finite number >= 0.
    """

    def __init__(self, env: gym.Env[Any, Any], cost: str | Mapping[str, float] | None = None) -> None:
        RecordConstructorArgs.__init__(self, cost=cost)
        gym.Wrapper.__init__(self, env)
        self._weights = {cost: 1.0} if isinstance(cost, str) else None if cost is None else dict(cost)
        if self._weights == {}:
            raise ConfigError("cost={} weighs nothing; name at least one cost, or leave it out for info['cost']")
        for name, weight in (self._weights or {}).items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"cost[{name!r}]={weight!r} must be a finite number >= 0")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        for name in self._weights or ():
            check_choice("cost", name, info["cost_terms"])
        return observation, {**info, "cost_sum": self._cost(info)}

    def step(  # type: ignore[override]  # the sixth value is what this wrapper is for
        self, action: Any
    ) -> tuple[Any, SupportsFloat, float, bool, bool, dict[str, Any]]:
        """Take a step; the third value is its cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost = self._cost(info)
        return observation, reward, cost, terminated, truncated, {**info, "cost_sum": cost}

    def _cost(self, info: Mapping[str, Any]) -> float:
        if self._weights is None:
            return float(info["cost"])
        return float(sum(weight * info["cost_terms"][name] for name, weight in self._weights.items()))

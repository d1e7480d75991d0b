"""Puppeteer's reward for Routing, as its paper and as its code have it (arXiv 2505.19591)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsFloat, cast

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.types import StepRecord
from nextstep_envs.workers.personas import WEB_SEARCHES
from wrappers.columns import Progress, step_column
from wrappers.cost import CostScorer

Mode = Literal["paper", "code"]
MODES = ("paper", "code")
FACTORS = {"default": -1.0, "terminator": 0.5, "web_search": -1.5}
FLOPS_UNIT = 1e14  # Puppeteer weighs 2 * parameters in billions * tokens by 1e-5


@dataclass(frozen=True)
class RoutingScorer:
    """The reward of one decision, a pure function of who acted, what it cost, its position and how the episode ended.

    With decision t = 0, 1, ..., F = FLOPs of the decision / `FLOPS_UNIT`, phi = `max_steps` and outcome r in [0, 1]:

        paper:  -weight * F * log(1 + (t + 1) / phi), and + r at the end
        code:   F * factor * c(t) for each agent, and at the end r + f c(T) if r > 0, else -1 - f c(T)
                c(t) = scale * log(1 + g x) / log(1 + g), x = (t + 1) / (phi + 1); inverse: scale minus that
                factor: "web_search" for agents that search the web, "default" for others; f: "terminator"; T = t where
                the episode ended by terminating, else t + 1 (the terminator is appended)

    Attributes:
        mode: "paper" or "code".
        max_steps: the most decisions of an episode; later ones count like the last.
        weight: lambda of the paper.
        scale, growth_rate, inverse: of c(t).
        factors: "default", "web_search" and "terminator".
    """

    mode: Mode
    max_steps: int
    weight: float = 0.1
    scale: float = 0.1
    growth_rate: float = 1.0
    inverse: bool = False
    factors: Mapping[str, float] = field(default_factory=lambda: dict(FACTORS))

    def __post_init__(self) -> None:
        check_choice("reward_mode", self.mode, MODES)
        for name in self.factors:
            check_choice("factors entry", name, FACTORS)
        for name, value in {"weight": self.weight, **{f"factors[{k!r}]": v for k, v in self.factors.items()}}.items():
            if not math.isfinite(value):
                raise ConfigError(f"{name}={value!r} must be a finite number")
        self._growth()  # checks scale, growth_rate and max_steps

    def reward(self, t: int, flops: float, actions: tuple[str, ...], end: float | None) -> float:
        """The reward of decision t.

        Args:
            t: its position.
            flops: what it cost.
            actions: the personas' actions that ended in it; empty for the terminator.
            end: the outcome r if it ended the episode, else None.
        """
        spent = flops / FLOPS_UNIT
        if self.mode == "paper":
            return (end or 0.0) - self.weight * spent * math.log1p((min(t, self.max_steps - 1) + 1) / self.max_steps)
        growth, factors = self._growth(), {**FACTORS, **self.factors}
        web = [action in WEB_SEARCHES for action in actions]
        reward = sum(spent * factors["web_search" if searches else "default"] * growth.factor(t) for searches in web)
        if end is None:
            return reward
        last = factors["terminator"] * growth.factor(t + bool(actions))
        return reward + (end + last if end > 0 else -1.0 - last)

    def _growth(self) -> CostScorer:
        form: Literal["inverse", "log"] = "inverse" if self.inverse else "log"
        return CostScorer(1.0, form, self.scale, self.growth_rate, self.max_steps)


def _actions(rules: Any, records: tuple[StepRecord, ...] | None) -> tuple[str, ...]:
    return tuple(rules.action_of(record.step.agent) for record in records or ())


def _rules(setup: Any) -> Any:
    if setup.rules.name != "routing":
        raise ConfigError(f"RoutingReward needs an environment of the Routing protocol, got {setup.rules.name!r}")
    if not setup.scored:
        raise ConfigError(
            "RoutingReward takes the base reward as the outcome: make the environment with reward='outcome'"
        )
    return setup.rules


class RoutingReward(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """Replaces the reward of a Routing environment by Puppeteer's; the base reward is taken as the outcome r.

    Args:
        env: an environment of the Routing protocol with `reward="outcome"`.
        reward_mode: "paper" or "code"; the two published forms differ in sign convention, in what is weighed and in the
            range of r (see `RoutingScorer`).
        weight: lambda of the paper's form.
        scale: of the step cost in the code's form.
        growth_rate: of its logarithm.
        inverse: whether early decisions are the dear ones.
        factors: changes to `{"default": -1.0, "terminator": 0.5, "web_search": -1.5}`.
        max_steps: phi; the environment's own budget of steps by default.

    Raises:
        ConfigError: another protocol, an environment with `reward="none"`, or a value out of range.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        reward_mode: Mode = "code",
        weight: float = 0.1,
        scale: float = 0.1,
        growth_rate: float = 1.0,
        inverse: bool = False,
        factors: Mapping[str, float] | None = None,
        max_steps: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, reward_mode=reward_mode, weight=weight, scale=scale, growth_rate=growth_rate, inverse=inverse,
            factors=factors, max_steps=max_steps,
        )  # fmt: skip
        gym.Wrapper.__init__(self, env)
        setup = env.get_wrapper_attr("setup")
        self._rules = _rules(setup)
        steps = setup.budget.steps if max_steps is None else max_steps
        self.scorer = RoutingScorer(reward_mode, steps, weight, scale, growth_rate, inverse, dict(factors or {}))
        self._decision = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._decision = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Activate an agent; an outage (truncation) is not judged."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        end = float(reward) if terminated else None
        actions = _actions(self._rules, info["records"])
        scored = self.scorer.reward(self._decision, info["cost_terms"]["flops"], actions, end)
        self._decision += 1
        return observation, scored, terminated, truncated, info


class RoutingRewardVector(RecordConstructorArgs, VectorWrapper):
    """`RoutingReward` for a vector environment, with the same numbers; arguments as there."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        reward_mode: Mode = "code",
        weight: float = 0.1,
        scale: float = 0.1,
        growth_rate: float = 1.0,
        inverse: bool = False,
        factors: Mapping[str, float] | None = None,
        max_steps: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, reward_mode=reward_mode, weight=weight, scale=scale, growth_rate=growth_rate, inverse=inverse,
            factors=factors, max_steps=max_steps,
        )  # fmt: skip
        VectorWrapper.__init__(self, env)
        batch: Any = env.unwrapped
        setup = batch.setup if hasattr(batch, "setup") else batch.get_attr("setup")[0]
        self._rules = _rules(setup)
        steps = setup.budget.steps if max_steps is None else max_steps
        self.scorer = RoutingScorer(reward_mode, steps, weight, scale, growth_rate, inverse, dict(factors or {}))
        self._progress = Progress(self.num_envs, env.metadata)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes, in all sub-environments or those of `options["reset_mask"]`."""
        self._progress.reset(options)
        # Gymnasium declares one seed, and its vector environments take a list as well.
        return self.env.reset(seed=cast("int | None", seed), options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Activate an agent in every sub-environment."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        n, live = self.num_envs, self._progress.live
        flops = step_column(infos, "cost_terms/flops", np.zeros(n))
        records = step_column(infos, "records", np.full(n, None, dtype=object))
        scored = np.zeros(n)
        for i in np.flatnonzero(live):
            end = float(rewards[i]) if terminations[i] else None
            did = _actions(self._rules, records[i])
            scored[i] = self.scorer.reward(int(self._progress.decisions[i]), float(flops[i]), did, end)
        self._progress.step(terminations | truncations)
        return observations, scored, terminations, truncations, infos

"""Subtracts what a step cost from its reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from nextstep_envs.errors import ConfigError, check_choice
from wrappers.columns import Progress, step_column

Form = Literal["linear", "log", "inverse"]
FORMS = ("linear", "log", "inverse")


@dataclass(frozen=True)
class CostScorer:
    """The penalty of a step, a pure function of its cost and its position.

    With decision t = 0, 1, ..., x = (t + 1) / (max_steps + 1) and growth g,

        linear:   penalty = weight * cost
        log:      penalty = weight * cost * scale * log(1 + g x) / log(1 + g)
        inverse:  penalty = weight * cost * scale * (1 - log(1 + g x) / log(1 + g))

    The second is Puppeteer's (arXiv 2505.19591, as its code has it): late decisions cost more; the third is its
    mirror image. Puppeteer uses scale 0.1 and g 1 on FLOPs with weight 1e-5: `cost="flops"` in `make`.

    Attributes:
        weight: of `info["cost"]`, or one for each entry of `info["costs"]`.
        form: "linear", "log" or "inverse".
        scale, growth_rate: of the last two forms.
        max_steps: the most decisions of an episode; later ones count like the last.
    """

    weight: float | tuple[float, ...]
    form: Form = "linear"
    scale: float = 1.0
    growth_rate: float = 1.0
    max_steps: int = 6

    def __post_init__(self) -> None:
        check_choice("form", self.form, FORMS)
        weights = self.weight if isinstance(self.weight, tuple) else (self.weight,)
        for name, value in (*(("weight", weight) for weight in weights), ("scale", self.scale)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}={value!r} must be a finite number >= 0: a cost is subtracted, so no minus")
        if not (math.isfinite(self.growth_rate) and self.growth_rate > 0):
            raise ConfigError(f"growth_rate={self.growth_rate!r} must be a finite number > 0")
        if self.max_steps < 1:
            raise ConfigError(f"max_steps={self.max_steps!r} must be >= 1")

    @property
    def key(self) -> str:
        """The entry of `info` that is weighed: "cost", or "costs" where there is a weight for each."""
        return "costs" if isinstance(self.weight, tuple) else "cost"

    def factor(self, decision: int) -> float:
        """What the weighted cost of decision t = 0, 1, ... is multiplied by."""
        if self.form == "linear":
            return 1.0
        x = (min(decision, self.max_steps - 1) + 1) / (self.max_steps + 1)
        growth = math.log1p(self.growth_rate * x) / math.log1p(self.growth_rate)
        return self.scale * (growth if self.form == "log" else 1.0 - growth)

    def penalty(self, cost: float | npt.NDArray[np.float64], decision: int) -> float:
        """The penalty of decision t, given `info[key]`."""
        return float(np.dot(self.weight, cost)) * self.factor(decision)


def _scorer(
    env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
    weight: float | Sequence[float],
    form: Form,
    scale: float,
    growth_rate: float,
    max_steps: int | None,
) -> CostScorer:
    """A scorer that fits the environment: as many weights as it has costs, its own limit of steps."""
    if isinstance(weight, Sequence):
        weight = tuple(float(value) for value in weight)
        names = _attribute(env, "cost_names")
        if len(weight) != len(names):
            raise ConfigError(f"weight={weight} has {len(weight)} entries, but the costs are {', '.join(names)}")
    else:
        weight = float(weight)
    if form == "linear":
        max_steps = 1  # of no consequence
    elif max_steps is None:
        try:
            max_steps = int(_attribute(env, "budget").steps)
        except AttributeError as error:
            raise ConfigError(f"form={form!r} needs max_steps=: this environment has no budget of steps") from error
    return CostScorer(weight, form, scale, growth_rate, max_steps)


def _attribute(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], name: str) -> Any:
    """An attribute of an environment, or of the first of many."""
    if isinstance(env, gym.Env):
        return env.get_wrapper_attr(name)
    batch: Any = env.unwrapped
    return getattr(batch, name) if hasattr(batch, name) else batch.get_attr(name)[0]


class CostPenalty(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """Reward minus the step's cost: `reward - scorer.penalty(info["cost"], t)`.

    Args:
        env: any environment with `info["cost"]` (and `info["costs"]`, for several weights).
        weight: price of one unit of `info["cost"]`, or a list with one price for each of `cost_names`.
        form: "linear", "log" or "inverse"; see `CostScorer`.
        scale: of the last two forms.
        growth_rate: of the last two forms.
        max_steps: of the last two forms; the environment's own budget of steps by default.

    Raises:
        ConfigError: a value is out of range, or the number of weights is not the number of costs.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        weight: float | Sequence[float] = 1.0,
        form: Form = "linear",
        scale: float = 1.0,
        growth_rate: float = 1.0,
        max_steps: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, weight=weight, form=form, scale=scale, growth_rate=growth_rate, max_steps=max_steps
        )
        gym.Wrapper.__init__(self, env)
        self.scorer = _scorer(env, weight, form, scale, growth_rate, max_steps)
        self._decision = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._decision = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; the reward is less by its penalty."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        penalty = self.scorer.penalty(info[self.scorer.key], self._decision)
        self._decision += 1
        return observation, float(reward) - penalty, terminated, truncated, info


class CostPenaltyVector(RecordConstructorArgs, VectorWrapper):
    """`CostPenalty` for a vector environment, with the same numbers; arguments as there."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        weight: float | Sequence[float] = 1.0,
        form: Form = "linear",
        scale: float = 1.0,
        growth_rate: float = 1.0,
        max_steps: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, weight=weight, form=form, scale=scale, growth_rate=growth_rate, max_steps=max_steps
        )
        VectorWrapper.__init__(self, env)
        self.scorer = _scorer(env, weight, form, scale, growth_rate, max_steps)
        shape = (self.num_envs, len(self.scorer.weight)) if isinstance(self.scorer.weight, tuple) else self.num_envs
        self._zeros = np.zeros(shape)
        self._progress = Progress(self.num_envs, env.metadata)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes, in all sub-environments or those of `options["reset_mask"]`."""
        self._progress.reset(options)
        # Gymnasium declares one seed, and its vector environments take a list as well.
        return self.env.reset(seed=cast("int | None", seed), options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step; each reward is less by its penalty."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        weighted = step_column(infos, self.scorer.key, self._zeros) * np.asarray(self.scorer.weight)
        weighted = weighted.reshape(self.num_envs, -1).sum(axis=1)
        factors = np.array([self.scorer.factor(int(decision)) for decision in self._progress.decisions])
        penalties = np.where(self._progress.live, weighted * factors, 0.0)
        self._progress.step(terminations | truncations)
        return observations, np.asarray(rewards, dtype=np.float64) - penalties, terminations, truncations, infos

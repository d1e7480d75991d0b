r"""Lagrange multipliers of budgets, by gradient ascent and by PID control.

All quantities are dimensionless: costs are counted in budgets and rewards in the spread of returns, so one set of gains
suits tokens and dollars, and scaling a cost together with its budget changes nothing. A multiplier of 1 says that one
budget's worth of cost weighs as much as one standard deviation of the return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nextstep_agents.algorithms.types import Floats, Memory
from nextstep_envs.errors import ConfigError


@dataclass(frozen=True)
class Ascent:
    r"""$\lambda \leftarrow \max(0, \lambda + \eta (\Delta + o (\Delta - \Delta')))$ once a round, before the policy.

    With $\Delta = (J_C - d)/d$, and $\Delta'$ that of the round before. Plain ascent (Ray et al. 2019), o = 0, lets
    multiplier and policy chase each other in circles. Optimism, o > 0, counts on the last change to go on, which damps
    them (Daskalakis et al. 2018, arXiv 1711.00141; of constrained policies, Moskovitz et al. 2023, arXiv 2302.01275).
    Not Adam: a step must be in proportion to the violation.

    Attributes:
        rate: eta.
        optimism: o.
        first: the multiplier before the first round.
        most: an upper bound, which an infeasible budget reaches.
    """

    rate: float = 1.0
    optimism: float = 2.0
    first: float = 0.0
    most: float = 100.0

    def __post_init__(self) -> None:
        _check(self.rate, self.first, self.most)
        if not self.optimism >= 0:
            raise ConfigError(f"multiplier optimism={self.optimism} must be >= 0; 0 is plain ascent")

    def start(self, costs: int) -> Memory:
        """The multipliers before the first round."""
        return {"multipliers": np.full(costs, self.first), "delta": np.zeros((0, costs))}

    def step(self, memory: Memory, excess: Floats, progress: float) -> Memory:
        """The multipliers after a round whose relative excess was `excess` [C]."""
        delta, before = bounded(excess), memory["delta"]
        change = delta + self.optimism * (delta - before[0]) if len(before) else delta
        multipliers = np.clip(memory["multipliers"] + self.rate * change, 0.0, self.most)
        return {"multipliers": multipliers, "delta": delta[None]}


@dataclass(frozen=True)
class PID:
    r"""PID control of the multiplier (Stooke et al. 2020, arXiv 2007.03964, algorithm 2).

    With $\Delta = (J_C - d)/d$: $I \leftarrow \max(0, I + K_I \Delta)$, $P$ and $D$ are moving averages of $\Delta$ and
    of the rise of $J_C$ over `delay` rounds, $\lambda = \max(0, K_P P + I + K_D \max(0, D))$.

    Attributes:
        proportional, integral, derivative: K_P, K_I, K_D.
        smoothing: of P and D, 0...1: the weight of the past.
        delay: rounds over which a rise is measured.
        first: I before the first round.
        most: an upper bound of I and lambda.
    """

    proportional: float = 4.0
    integral: float = 0.5
    derivative: float = 0.0
    smoothing: float = 0.5
    delay: int = 10
    first: float = 0.0
    most: float = 100.0

    def __post_init__(self) -> None:
        _check(self.integral, self.first, self.most)
        if self.proportional < 0 or self.derivative < 0 or not 0 <= self.smoothing < 1 or self.delay < 1:
            raise ConfigError(
                f"PID gains {self.proportional}, {self.derivative} must be >= 0, smoothing={self.smoothing} in [0, 1) "
                f"and delay={self.delay} at least 1"
            )

    def start(self, costs: int) -> Memory:
        """The controller before the first round."""
        zero = np.zeros(costs)
        return {
            "multipliers": np.full(costs, self.first),
            "integral": np.full(costs, self.first),
            "error": zero,
            "levels": np.zeros((0, costs)),
        }

    def step(self, memory: Memory, excess: Floats, progress: float) -> Memory:
        """The controller after a round whose relative excess was `excess` [C]."""
        delta, levels = bounded(excess), memory["levels"]
        integral = np.clip(memory["integral"] + self.integral * delta, 0.0, self.most)
        begun = len(levels) > 0
        error = self.smoothing * memory["error"] + (1 - self.smoothing) * delta if begun else delta
        level = self.smoothing * levels[-1] + (1 - self.smoothing) * delta if begun else delta
        levels = np.vstack([levels, level])[-self.delay - 1 :]
        rise = np.maximum(0.0, levels[-1] - levels[0])
        multipliers = self.proportional * error + integral + self.derivative * rise
        return {
            "multipliers": np.clip(multipliers, 0.0, self.most),
            "integral": integral,
            "error": error,
            "levels": levels,
        }


def bounded(excess: Floats) -> Floats:
    """The relative excess between -1 (nothing spent) and 1: a first round far over budget must not decide the rest."""
    return np.clip(excess, -1.0, 1.0)


def _check(rate: float, first: float, most: float) -> None:
    if not rate >= 0 or not 0 <= first <= most:
        raise ConfigError(f"multiplier rate={rate} must be >= 0, and 0 <= first={first} <= most={most}")

"""Means, intervals and paired comparisons by the bootstrap over tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Values, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of `values` with a percentile interval (Efron 1979).

    Args:
        values: [tasks] or [tasks, seeds]; tasks are resampled whole, since attempts at one task are not independent.
        resamples: number of resamples.
        seed: of the resampling.
    """
    per_task = values.reshape(len(values), -1).mean(1)
    rng = np.random.default_rng(seed)
    means = per_task[rng.integers(len(per_task), size=(resamples, len(per_task)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(per_task.mean()), float(low), float(high))


def paired(a: Values, b: Values, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of a - b, paired by task and seed, with its interval. Both [tasks] or [tasks, seeds], in the same order."""
    if a.shape != b.shape:
        raise ValueError(f"paired values must have one shape, got {a.shape} and {b.shape}")
    return bootstrap(a - b, resamples, seed)

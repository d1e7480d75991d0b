"""What a policy on vectors earns and costs, by playing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_agents.learning.constraints import discounted
from nextstep_agents.learning.play import SEED_RANGE, play
from nextstep_agents.learning.stages import Stage
from nextstep_agents.policies.mlp import Actor
from nextstep_agents.rollout import Start
from nextstep_envs.seeding import derive

CHUNK = 128  # episodes that are held in memory at once
Z95 = 1.959963984540054  # of a normal distribution, 95% lie within so many standard deviations


def evaluate(
    stage: Stage,
    actor: Actor,
    episodes: int,
    seed: int,
    gamma: float = 1.0,
    max_decisions: int | None = None,
    deterministic: bool = False,
) -> dict[str, Any]:
    """Play a policy and average.

    Args:
        stage: where.
        actor: the policies.
        episodes: how many; failed ones count in `masked_rate` only.
        seed: of the episodes and of the actions.
        gamma: discount of returns and costs, for problems that are defined with one.
        max_decisions: stop an episode after so many; its costs are left out, since they are not all there.
        deterministic: take the likeliest actions, which is another policy than the one that was trained.

    Returns:
        return, return_interval: mean and 95% interval (float64 [2], normal approximation).
        costs, costs_interval: of every cost of the environment, float64 [K] and [K, 2].
        cost_names: theirs.
        episodes: how many counted.
        masked_rate: share of episodes that failed.
    """
    returns, costs = [], []
    for begin in range(0, episodes, CHUNK):
        size = min(CHUNK, episodes - begin)
        starts = [Start(derive(seed, "evaluation", begin + i) % SEED_RANGE) for i in range(size)]
        played = play(stage, actor, starts, derive(seed, "evaluated actions", begin), max_decisions, deterministic)
        counted = played.batch.weight > 0
        returns.append(discounted(played.batch.rewards.double(), gamma)[counted].numpy())
        costs.append(discounted(played.batch.costs, gamma)[played.complete].numpy())
    earned, spent = np.concatenate(returns), np.concatenate(costs)
    mean, interval = _interval(earned[:, None])
    level, levels = _interval(spent)
    return {
        "return": float(mean[0]),
        "return_interval": interval[0],
        "costs": level,
        "costs_interval": levels,
        "cost_names": stage.cost_names,
        "episodes": len(earned),
        "masked_rate": 1 - len(earned) / episodes,
    }


def _interval(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means [K] and intervals [K, 2] of values [n, K]; NaN where there are none."""
    n, k = values.shape
    if n == 0:
        return np.full(k, np.nan), np.full((k, 2), np.nan)
    mean = values.mean(0)
    half = Z95 * values.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(k, np.nan)
    return mean, np.stack([mean - half, mean + half], 1)

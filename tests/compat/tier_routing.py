"""What a library has to learn on TierRouting: nearly the best there is, as known from a linear program."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

import nextstep_envs  # noqa: F401  (registers)
from wrappers import CostPenalty, CostPenaltyVector

ID = "NextStep/TierRouting-v0"
WEIGHT = 0.225  # the multiplier of the budget: at this price the constrained optimum is also an unconstrained one
N_STATES, N_ACTIONS = 3, 4
ENOUGH = 0.98


def make() -> gym.Env[Any, Any]:
    """The environment with its cost at the right price."""
    return CostPenalty(gym.make(ID), weight=WEIGHT)


def make_vector(num_envs: int) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Many of it in lock step."""
    return CostPenaltyVector(gym.make_vec(ID, num_envs=num_envs), weight=WEIGHT)


def observations() -> dict[str, npt.NDArray[Any]]:
    """What is observed in each state, stacked: [3, ...]."""
    cmdp: Any = gym.make(ID).unwrapped
    rows = [cmdp.observation(state) for state in range(N_STATES)]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def one_hot(actions: Any) -> npt.NDArray[np.float64]:
    """The table of a policy that takes one action in each state."""
    return np.eye(N_ACTIONS)[np.asarray(actions, dtype=np.int64)]


def share(table: Any) -> float:
    """How much of the best possible value a policy has: return less priced cost, exactly, over that of the optimum.

    Args:
        table: probabilities, float [3, 4].
    """
    cmdp: Any = gym.make(ID).unwrapped
    table = np.asarray(table, dtype=np.float64)
    table = table / table.sum(axis=1, keepdims=True)  # libraries compute in float32
    return _value(cmdp.evaluate(table)) / _value(cmdp.optimum())


def best_blind_share() -> float:
    """The same of the best policy that does not look: with a price on the cost it takes a single action."""
    return max(share(one_hot([action] * N_STATES)) for action in range(N_ACTIONS))


def assert_learned(table: Any, name: str) -> None:
    """Fail unless the policy is close to the optimum, and better than any that does not look."""
    reached = share(table)
    print(f"{name}: {reached:.1%} of the optimum")
    assert reached >= ENOUGH, f"{name} reached {reached:.1%} with\n{np.round(table, 3)}"
    assert reached > best_blind_share()


def _value(solution: dict[str, Any]) -> float:
    return float(solution["return"] - WEIGHT * solution["costs"][0])

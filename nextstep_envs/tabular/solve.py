"""Exact solutions of a constrained MDP: the best policy under budgets, and the value of any policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.linalg import spsolve

from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular.cmdp import Model, numbers
from nextstep_envs.tabular.outcomes import Floats

ILLEGAL_MASS = 1e-6  # what a policy may put on illegal actions: the rounding of a softmax, not a choice


def optimum(model: Model, limits: Floats) -> dict[str, Any]:
    """The best policy under budgets, by linear programming over occupancy measures (Altman, 1999).

    Returns:
        return: its expected return.
        costs: its expected costs, float64 [K].
        multipliers: of the budgets, float64 [K], >= 0: what one more unit of each would add to the return.
        policy: probabilities [S, A]; uniform over legal actions where the optimum never comes.

    Raises:
        ConfigError: no policy keeps the budgets.
    """
    found = occupancy_optimum(model, limits)
    if found is None:
        lowest = [float(_program(model, -cost, np.full(len(limits), np.inf)).fun) for cost in model.costs]
        raise ConfigError(
            f"d={limits.tolist()} is infeasible: no policy keeps all budgets at once; the lowest expected costs, "
            f"each on its own, are {[round(cost, 6) for cost in lowest]}"
        )
    return found


def occupancy_optimum(model: Model, limits: Floats) -> dict[str, Any] | None:
    """As `optimum`, but None where no policy keeps the budgets."""
    result = _program(model, model.reward, limits)
    if result is None:
        return None
    occupancy = np.zeros(model.mask.shape)
    occupancy[model.mask] = np.maximum(result.x, 0.0)
    multipliers = np.zeros(len(limits))
    multipliers[np.isfinite(limits)] = np.maximum(-result.ineqlin.marginals, 0.0)
    return {
        "return": float((occupancy * model.reward).sum()),
        "costs": (occupancy * model.costs).sum((1, 2)),
        "multipliers": multipliers,
        "policy": _policy(occupancy, model),
    }


def evaluate(model: Model, policy: Floats) -> dict[str, Any]:
    """Expected return and costs [K] of a policy [S, A], by solving for its occupancy measure.

    Args:
        model: what it is evaluated on.
        policy: as `check_policy` returns it.
    """
    n_states, n_actions = policy.shape
    rows = np.repeat(np.arange(n_states), n_actions)
    choice = sparse.csr_array((policy.ravel(), (rows, np.arange(n_states * n_actions))))
    balance = sparse.eye_array(n_states, format="csc") - model.gamma * (choice @ model.matrix).T
    occupancy = np.atleast_1d(spsolve(balance.tocsc(), model.start))[:, None] * policy
    return {
        "return": float((occupancy * model.reward).sum()),
        "costs": (occupancy * model.costs).sum((1, 2)),
    }


def check_policy(policy: Any, mask: Any) -> Floats:
    """A policy as probabilities [S, A], exactly 0 on illegal actions, or `ConfigError`."""
    table = numbers("policy", policy)
    if table.shape != mask.shape:
        raise ConfigError(f"a policy of shape {table.shape} must have shape {mask.shape}: [states, actions]")
    total = table.sum(-1)
    wrong = ~(np.isfinite(table).all(-1) & (table >= -ILLEGAL_MASS).all(-1) & (abs(total - 1.0) <= 1e-4))
    if wrong.any():
        state = np.flatnonzero(wrong)[0]
        raise ConfigError(f"policy[{state}]={table[state]} is no distribution: entries >= 0 that sum to 1")
    illegal = np.where(mask, 0.0, table).sum(-1)
    if (illegal > ILLEGAL_MASS).any():
        state = illegal.argmax()
        raise ConfigError(f"policy[{state}] puts {illegal[state]:.3g} on illegal actions; apply the action mask")
    legal: Floats = np.where(mask, np.maximum(table, 0.0), 0.0)
    legal /= legal.sum(-1, keepdims=True)
    return legal


def _policy(occupancy: Floats, model: Model) -> Floats:
    visits = occupancy.sum(-1, keepdims=True)
    uniform = model.mask / model.mask.sum(-1, keepdims=True)
    # Below this, what the solver leaves of a state is rounding.
    policy: Floats = np.where(visits > 1e-12, occupancy / np.maximum(visits, 1e-12), uniform)
    return policy


def _program(model: Model, gain: Floats, limits: Floats) -> Any:
    """Maximise the gain [S, A] over occupancy measures of the legal pairs; None where there is none in the limits."""
    states = np.nonzero(model.mask)[0]
    pairs = np.flatnonzero(model.mask)
    here = sparse.csr_array((np.ones(len(pairs)), (states, np.arange(len(pairs)))))
    binding = np.isfinite(limits)
    program = {
        "c": -gain[model.mask],
        "A_ub": model.costs[binding][:, model.mask],
        "b_ub": limits[binding],
        "A_eq": here - model.gamma * model.matrix[pairs].T,
        "b_eq": model.start,
        "bounds": (0, None),
    }
    result = linprog(**program, method="highs")
    if result.status == 4:  # numerical difficulties: the simplex gives up on some large programs that are infeasible
        result = linprog(**program, method="highs-ipm")
    if result.status == 2:
        return None
    if result.status != 0:
        raise RuntimeError(f"the linear program has no solution: {result.message}")
    return result

"""A constrained Markov decision process as checked arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular.outcomes import Flags, Floats, Outcomes, from_expectations

ArrayLike = npt.ArrayLike
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Model:
    """A constrained MDP with S states, A actions and K costs.

    Attributes:
        outcomes: what can come of every decision; illegal ones end the episode and bring nothing.
        matrix: transitions as a sparse matrix [S * A, S].
        reward: expected, [S, A].
        costs: expected, [K, S, A].
        start: distribution of the first state, [S].
        limits: budgets, [K].
        gamma: discount of rewards and costs.
        mask: legal actions, bool [S, A].
    """

    outcomes: Outcomes
    matrix: Any
    reward: Floats
    costs: Floats
    start: Floats
    limits: Floats
    gamma: float
    mask: Flags


def make_model(
    P: ArrayLike,
    R: ArrayLike,
    C: ArrayLike | Sequence[ArrayLike],
    mu: ArrayLike,
    d: ArrayLike,
    gamma: float,
    horizon: int | None,
    mask: ArrayLike | None,
    outcomes: Outcomes | None,
) -> Model:
    """Check everything; put time into the states if a policy could otherwise outlast the horizon.

    Raises:
        ConfigError: the first argument that is wrong, naming its value and the fix.
    """
    transitions = _transitions(P)
    n_states, n_actions, _ = transitions.shape
    costs = numbers("C", C)
    costs = costs[None] if costs.ndim == 2 else costs
    costs = _shaped("C", costs, (*costs.shape[:1], n_states, n_actions))
    limits = check_limits(d, len(costs))
    reward = _shaped("R", R, (n_states, n_actions))
    start = _distribution(mu, n_states)
    legal = _mask(mask, n_states, n_actions)
    if isinstance(gamma, bool) or not isinstance(gamma, int | float | np.number) or not 0.0 < gamma <= 1.0:
        raise ConfigError(f"gamma={gamma!r} must be in (0, 1]")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1):
        raise ConfigError(f"horizon={horizon!r} must be None or a whole number >= 1")
    if outcomes is None:
        outcomes = from_expectations(transitions, reward, costs)
    else:
        _check_outcomes(outcomes, transitions, reward, costs)
    reward, costs = np.where(legal, reward, 0.0), np.where(legal, costs, 0.0)
    outcomes = outcomes.only(legal)
    model = Model(outcomes, outcomes.matrix(), reward, costs, start, limits, float(gamma), legal)
    if horizon is not None and _can_outlast(model, int(horizon)):
        return _over_time(model, int(horizon))
    if gamma == 1.0:
        _check_that_it_ends(model)
    return model


def check_limits(d: ArrayLike, count: int) -> Floats:
    """Budgets as an array [K], or `ConfigError`; infinite ones do not bind."""
    limits = np.atleast_1d(numbers("d", d))
    if limits.ndim != 1 or not len(limits) or len(limits) != count:
        raise ConfigError(f"d={d!r} must hold one budget for each of {count} costs")
    if not (limits >= 0).all():
        raise ConfigError(f"d={d!r}: a budget must be a number >= 0 (inf for none)")
    return limits


def numbers(name: str, value: Any) -> Floats:
    """A copy as float64, or `ConfigError` naming what is no array of numbers."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={value!r} is no array of numbers: {error}") from error


def _transitions(P: ArrayLike) -> Floats:
    transitions = numbers("P", P)
    if transitions.ndim != 3 or transitions.shape[0] != transitions.shape[2] or 0 in transitions.shape:
        raise ConfigError(f"P has shape {transitions.shape}; it must be [states, actions, states]")
    transitions = _shaped("P", transitions, transitions.shape)
    total = transitions.sum(-1)
    for wrong, what in ((transitions.min(-1) < 0, "has a negative entry"), (total > 1 + _TOLERANCE, "sums to > 1")):
        if wrong.any():
            state, action = np.argwhere(wrong)[0]
            raise ConfigError(f"P[{state}, {action}]={transitions[state, action]} {what}: rows hold probabilities")
    # A row that is whole but for rounding must not end an episode once in 10**9 steps.
    whole = abs(total - 1.0) <= _TOLERANCE
    transitions[whole] /= total[whole, None]
    return transitions


def _shaped(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = numbers(name, value)
    if array.shape != shape:
        raise ConfigError(f"{name} has shape {array.shape}; with this P it must be {shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name}{np.argwhere(~np.isfinite(array))[0].tolist()} is not finite; every entry must be")
    return array


def _distribution(mu: ArrayLike, n_states: int) -> Floats:
    start = _shaped("mu", mu, (n_states,))
    if (start < 0).any() or abs(start.sum() - 1.0) > _TOLERANCE:
        raise ConfigError(f"mu={start} sums to {start.sum()}; it must hold the probabilities of the first state")
    start /= start.sum()
    return start


def _mask(mask: ArrayLike | None, n_states: int, n_actions: int) -> Flags:
    if mask is None:
        return np.ones((n_states, n_actions), bool)
    values = np.array(mask)
    if values.shape != (n_states, n_actions) or not np.isin(values, (0, 1)).all():
        raise ConfigError(f"mask of shape {values.shape} must be booleans of shape {(n_states, n_actions)}")
    legal = values.astype(bool)
    if not legal.any(-1).all():
        raise ConfigError(f"mask: state {np.flatnonzero(~legal.any(-1))[0]} has no legal action; allow at least one")
    return legal


def _check_outcomes(outcomes: Outcomes, transitions: Floats, reward: Floats, costs: Floats) -> None:
    shape, n_states = outcomes.probability.shape, len(transitions)
    for name, array, wanted in (
        ("probability", outcomes.probability, (*reward.shape, *shape[-1:])),
        ("next_state", outcomes.next_state, shape),
        ("reward", outcomes.reward, shape),
        ("costs", outcomes.costs, (*shape, len(costs))),
    ):
        if array.shape != wanted:
            raise ConfigError(f"outcomes.{name} has shape {array.shape}; it must be {wanted}")
    total = outcomes.probability.sum(-1)
    if (outcomes.probability < 0).any() or not np.allclose(total, 1.0, rtol=0.0, atol=_TOLERANCE):
        raise ConfigError(
            f"outcomes.probability: rows must hold probabilities that sum to 1, not {total.min()} to {total.max()}"
        )
    if not np.isin(outcomes.next_state, np.arange(n_states + 1)).all():
        raise ConfigError(f"outcomes.next_state must be whole numbers from 0 to {n_states} (the end)")
    for name, drawn, stated in zip("PRC", outcomes.expected(), (transitions, reward, costs), strict=True):
        if not np.allclose(drawn, stated, rtol=0.0, atol=_TOLERANCE):
            raise ConfigError(f"outcomes: their expectation is not {name}; take {name} from `outcomes.expected()`")


def _can_outlast(model: Model, horizon: int) -> bool:
    """Whether some policy can still be running after `horizon` steps."""
    running = model.start > 0
    for _ in range(horizon):
        if not running.any():
            return False
        running = _reached(model, running)
    return bool(running.any())


def _reached(model: Model, states: Flags) -> Flags:
    """Where one legal step can lead from any of `states`; bool [S]."""
    pairs = (states[:, None] & model.mask).ravel()
    reached: Flags = model.matrix.T @ pairs.astype(np.float64) > 0
    return reached


def _over_time(model: Model, horizon: int) -> Model:
    outcomes = model.outcomes.over_time(horizon)
    start = np.concatenate([model.start, np.zeros(len(model.start) * (horizon - 1))])
    return Model(
        outcomes,
        outcomes.matrix(),
        np.tile(model.reward, (horizon, 1)),
        np.tile(model.costs, (1, horizon, 1)),
        start,
        model.limits,
        model.gamma,
        np.tile(model.mask, (horizon, 1)),
    )


def _check_that_it_ends(model: Model) -> None:
    """Raise unless every policy ends for sure: no set of reachable states may be left only by choice."""
    n_states, n_actions = model.reward.shape
    reachable = model.start > 0
    while (wider := reachable | _reached(model, reachable)).sum() > reachable.sum():
        reachable = wider
    ends = (model.outcomes.probability * (model.outcomes.next_state == n_states)).sum(-1) > 0
    stays = reachable
    while True:
        leaves = (model.matrix @ (~stays).astype(np.float64)).reshape(n_states, n_actions) > 0
        kept = stays & (model.mask & ~ends & ~leaves).any(-1)
        if not kept.any():
            return
        if kept.sum() == stays.sum():
            raise ConfigError(
                f"gamma=1 and horizon=None, but a policy can stay in states {np.flatnonzero(kept).tolist()} for ever: "
                "give a horizon, gamma < 1, or rows of P that sum to less than 1"
            )
        stays = kept

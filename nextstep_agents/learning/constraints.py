"""Which costs are limited, and how: names, budgets, and indicator costs for chance constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.types import Floats
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, check_choice

Limits = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Chance:
    r"""A chance constraint for every budget B: $P(C \le tolerance \cdot B) \ge probability$.

    It is one more cost, 1 at the end of an episode that spent more than tolerance * B, with the budget 1 - probability.
    """

    tolerance: float = 1.05
    probability: float = 0.95

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or not 0 < self.probability < 1:
            raise ConfigError(
                f"chance: tolerance={self.tolerance} must be > 0 and probability={self.probability} in (0, 1)"
            )


@dataclass(frozen=True)
class Constraints:
    """The limited costs of a run, C of them.

    Attributes:
        names: of the constraints; a chance constraint is "<cost> chance".
        columns: the column of the environment's costs behind each.
        limits: budgets, float64 [C], of an episode's total.
        owners: the agent whose cost it is, 0 where there is one agent.
        chance: of the constraints that are chance constraints, the total above which an episode counts; else inf.
        gamma: discount of the totals, 1 unless the environment defines its budgets discounted.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    limits: Floats
    owners: tuple[int, ...]
    chance: Floats
    gamma: float = 1.0

    def __len__(self) -> int:
        return len(self.names)

    def costs(self, batch: Batch) -> Batch:
        """The batch with the constrained costs as its columns, [B, K, C]."""
        chosen = batch.costs[:, :, list(self.columns)]
        if np.isfinite(self.chance).any():
            over = (chosen.sum(1) > torch.from_numpy(self.chance)).double()
            last = torch.zeros_like(chosen)
            length = batch.turn.max(1).values
            rows = torch.arange(len(batch))
            last[rows, length] = over
            chosen = torch.where(torch.isfinite(torch.from_numpy(self.chance)), last, chosen)
        return replace(batch, costs=chosen)

    def totals(self, costs: Tensor) -> Tensor:
        """Total costs of each episode, [B, C], of `costs` [B, K, C]."""
        return discounted(costs, self.gamma)


def discounted(values: Tensor, gamma: float) -> Tensor:
    r"""Totals $\sum_t \gamma^t v_t$ of each episode, [B, ...], of `values` [B, K, ...]."""
    if gamma == 1.0:
        return values.sum(1)
    weights = gamma ** torch.arange(values.shape[1], dtype=values.dtype)
    return (values * weights.view(-1, *[1] * (values.dim() - 2))).sum(1)


def make_constraints(
    cost_limits: Limits,
    cost_names: Sequence[str],
    agents: Sequence[str],
    gamma: float = 1.0,
    chance: Chance | None = None,
) -> Constraints:
    """Budgets as a user writes them, checked against the environment's costs.

    Args:
        cost_limits: one budget for each of the environment's costs in order (inf for none); or by name; for a team by
            agent, or by agent and name. None or empty: nothing is limited.
        cost_names: of the columns of costs; of a team "<agent>/<name>".
        agents: names, ("",) for one.
        gamma: see `Constraints`.
        chance: add a chance constraint for each budget.

    Raises:
        ConfigError: a name that does not exist, a budget that is no number >= 0, too many or too few.
    """
    limits = _by_column(cost_limits, tuple(cost_names), agents)
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float | np.number) or not limit >= 0:
            raise ConfigError(f"cost_limits: {name}={limit!r} must be a number >= 0 (inf for none)")
    finite = {name: float(limit) for name, limit in limits.items() if np.isfinite(limit)}
    columns = [list(cost_names).index(name) for name in finite]
    owners = [_owner(name, agents) for name in finite]
    names, budgets, bounds = list(finite), list(finite.values()), [np.inf] * len(finite)
    if chance is not None:
        names += [f"{name} chance" for name in finite]
        bounds += [chance.tolerance * limit for limit in budgets]
        budgets = budgets + [1 - chance.probability] * len(finite)
        columns, owners = columns * 2, owners * 2
    return Constraints(tuple(names), tuple(columns), np.array(budgets), tuple(owners), np.array(bounds), gamma)


def _by_column(cost_limits: Limits, cost_names: tuple[str, ...], agents: Sequence[str]) -> dict[str, Any]:
    if cost_limits is None or not len(cost_limits):
        return {}
    if isinstance(cost_limits, Mapping):
        flat: dict[str, Any] = {}
        for name, limit in cost_limits.items():
            if isinstance(limit, Mapping):
                flat |= {f"{name}/{cost}": one for cost, one in limit.items()}
            elif name in agents and name:
                own = [column for column in cost_names if column.startswith(f"{name}/")]
                if len(own) != 1:
                    raise ConfigError(f"cost_limits[{name!r}]={limit!r}: say which of {', '.join(own)} is limited")
                flat[own[0]] = limit
            else:
                flat[str(name)] = limit
        for name in flat:
            check_choice("cost_limits", name, cost_names)
        return flat
    if isinstance(cost_limits, str) or len(cost_limits) != len(cost_names):
        raise ConfigError(
            f"cost_limits={cost_limits!r} must hold one budget for each cost of the environment: "
            f"{', '.join(cost_names) or 'it has none; add info[cost] in a wrapper'}"
        )
    return dict(zip(cost_names, cost_limits, strict=True))


def _owner(column: str, agents: Sequence[str]) -> int:
    return next((i for i, agent in enumerate(agents) if agent and column.startswith(f"{agent}/")), 0)

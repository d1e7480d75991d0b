"""Budgets as users write them, and what becomes of costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nextstep_agents.batch import Batch
from nextstep_agents.learning.constraints import Chance, discounted, make_constraints
from nextstep_envs.errors import ConfigError

ONE, TWO = ("",), ("planner", "worker")
TEAM_COSTS = ("planner/usd", "planner/calls", "worker/usd", "worker/calls")


def batch_of(costs: Any, lengths: list[int]) -> Batch:
    values = torch.tensor(costs, dtype=torch.float64)
    n, k, _ = values.shape
    turn = torch.where(torch.arange(k) < torch.tensor(lengths)[:, None], torch.arange(k), -1)
    blank = torch.zeros(n, k)
    return Batch(blank.long(), turn, turn >= 0, blank, blank, values, torch.ones(n), torch.arange(n), {})


@pytest.mark.parametrize(
    ("limits", "names", "columns"),
    [
        (None, (), ()),
        ([], (), ()),
        ({}, (), ()),
        ([3.0, 0.5], ("spend", "leaks"), (0, 1)),
        ((np.float32(3), 1), ("spend", "leaks"), (0, 1)),
        (np.array([3.0, np.inf]), ("spend",), (0,)),
        ({"leaks": 0.5}, ("leaks",), (1,)),
        ({"leaks": 0.5, "spend": 2}, ("leaks", "spend"), (1, 0)),
    ],
)
def test_budgets_come_by_position_or_by_name(limits: Any, names: tuple[str, ...], columns: tuple[int, ...]) -> None:
    found = make_constraints(limits, ("spend", "leaks"), ONE)
    assert (found.names, found.columns, len(found)) == (names, columns, len(names))
    assert found.owners == (0,) * len(names) and np.isinf(found.chance).all()


@pytest.mark.parametrize(
    "limits",
    [
        {"worker": {"usd": 2.0}, "planner": {"calls": 3}},
        {"worker/usd": 2.0, "planner/calls": 3},
        [np.inf, 3.0, 2.0, np.inf],
    ],
)
def test_a_team_has_budgets_by_agent(limits: Any) -> None:
    found = make_constraints(limits, TEAM_COSTS, TWO)
    by_name = {
        name: (column, owner) for name, column, owner in zip(found.names, found.columns, found.owners, strict=True)
    }
    assert by_name == {"worker/usd": (2, 1), "planner/calls": (1, 0)}


def test_an_agent_with_one_cost_needs_no_name_for_it() -> None:
    found = make_constraints({"worker": 2.0}, ("planner/usd", "worker/usd"), TWO)
    assert (found.names, found.limits.tolist(), found.owners) == (("worker/usd",), [2.0], (1,))


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ([1.0], r"one budget for each cost.*spend, leaks"),
        ("spend", "one budget for each cost"),
        ({"usd": 1.0}, "'usd'.*'spend', 'leaks'"),
        ([-1.0, 2.0], r"spend=-1.0.*>= 0"),
        ([float("nan"), 2.0], r"spend=nan"),
        ({"spend": "much"}, r"spend='much'"),
        ({"spend": True}, r"spend=True"),
        ({"spend": None}, r"spend=None"),
    ],
)
def test_a_wrong_budget_is_named(limits: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_constraints(limits, ("spend", "leaks"), ONE)


def test_wrong_budgets_of_a_team_are_named() -> None:
    with pytest.raises(ConfigError, match=r"cost_limits\['worker'\]=2.0.*worker/usd, worker/calls"):
        make_constraints({"worker": 2.0}, TEAM_COSTS, TWO)
    with pytest.raises(ConfigError, match="'boss/usd'.*'planner/usd'"):
        make_constraints({"boss": {"usd": 1.0}}, TEAM_COSTS, TWO)
    with pytest.raises(ConfigError, match="info"):
        make_constraints([1.0], (), ONE)


def test_a_chance_constraint_is_one_more_cost_at_the_end_of_an_episode() -> None:
    chance = Chance(tolerance=1.05, probability=0.9)
    found = make_constraints({"leaks": 2.0}, ("spend", "leaks"), ONE, chance=chance)
    assert found.names == ("leaks", "leaks chance") and found.columns == (1, 1)
    np.testing.assert_allclose(found.limits, [2.0, 0.1])
    batch = batch_of([[[9, 1], [9, 1.2], [0, 0]], [[9, 2.1], [9, 0], [9, 0]], [[9, 1], [0, 0], [0, 0]]], [2, 3, 1])
    costs = found.costs(batch).costs
    assert costs[..., 0].tolist() == batch.costs[..., 1].tolist()
    assert costs[..., 1].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]  # 2.2 > 2.1; 2.1 is still within
    np.testing.assert_allclose(found.totals(costs), [[2.2, 1], [2.1, 0], [1, 0]])


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"probability": 1.0}, {"probability": 0.0}])
def test_a_wrong_chance_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Chance(**wrong)


def test_totals_are_discounted_where_the_budget_is() -> None:
    costs = torch.tensor([[[1.0, 2.0], [1.0, 0.0], [1.0, 4.0]]], dtype=torch.float64)
    assert make_constraints([1, 1], ("a", "b"), ONE).totals(costs).tolist() == [[3, 6]]
    assert make_constraints([1, 1], ("a", "b"), ONE, gamma=0.5).totals(costs).tolist() == [[1.75, 3.0]]
    assert discounted(costs[..., 0], 0.5).tolist() == [1.75]

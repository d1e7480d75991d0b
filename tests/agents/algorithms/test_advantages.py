"""Advantages in closed form, and groups that teach nothing."""

from __future__ import annotations

import pytest
import torch

from nextstep_agents.algorithms.advantages import flat_rows, group_advantages

ONES = torch.ones(4)


def test_a_group_is_standardised_by_its_population_deviation() -> None:
    group = torch.tensor([7, 7, 3, 3])
    advantage = group_advantages(torch.tensor([0.0, 1.0, 5.0, 9.0]), group, ONES)
    torch.testing.assert_close(advantage, torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("baseline", "scale", "expected"),
    [
        ("mean", "none", [-2.0, -1.0, 0.0, 3.0]),
        ("leave_one_out", "none", [-8 / 3, -4 / 3, 0.0, 4.0]),
        ("mean", "batch", [-2 / 3.5**0.5, -1 / 3.5**0.5, 0.0, 3 / 3.5**0.5]),
        ("mean", "group", [-2 / 3.5**0.5, -1 / 3.5**0.5, 0.0, 3 / 3.5**0.5]),
    ],
)
def test_baseline_and_scale(baseline: str, scale: str, expected: list[float]) -> None:
    returns = torch.tensor([0.0, 1.0, 2.0, 5.0])
    advantage = group_advantages(returns, torch.zeros(4, dtype=torch.long), ONES, baseline, scale)
    torch.testing.assert_close(advantage, torch.tensor(expected), atol=1e-5, rtol=0)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    returns = torch.tensor([0.3, 0.1, 0.9, 0.2, 0.7])
    advantage = group_advantages(returns, torch.zeros(5, dtype=torch.long), torch.ones(5), "leave_one_out", "none")
    for i in range(5):
        others = torch.cat([returns[:i], returns[i + 1 :]]).mean()
        assert float(advantage[i]) == pytest.approx(float(returns[i] - others), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("size", [2, 3, 7, 8])
def test_equal_returns_have_advantage_exactly_zero(dtype: torch.dtype, scale: str, size: int) -> None:
    group = torch.zeros(size, dtype=torch.long)
    for value in (0.1, 0.3, 1 / 3, -0.7):
        returns = torch.full((size,), value, dtype=dtype)
        assert group_advantages(returns, group, torch.ones(size), scale=scale).tolist() == [0.0] * size


def test_a_group_of_one_has_advantage_zero() -> None:
    advantage = group_advantages(torch.tensor([3.0, 0.0, 1.0]), torch.tensor([0, 1, 1]), torch.ones(3))
    assert advantage.tolist()[0] == 0.0 and advantage.tolist()[2] > 0.9


def test_failed_rows_neither_get_an_advantage_nor_move_the_baseline() -> None:
    returns, group = torch.tensor([0.0, 1.0, 100.0]), torch.zeros(3, dtype=torch.long)
    advantage = group_advantages(returns, group, torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(advantage, torch.tensor([-1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    alone = group_advantages(returns, group, torch.tensor([0.0, 1.0, 0.0]))
    assert alone.tolist() == [0.0, 0.0, 0.0]


def test_flat_means_flat_in_reward_and_in_every_cost() -> None:
    group = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    returns = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.5])
    costs = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 3.0], *[[0.0, 0.0]] * 4], dtype=torch.float64)
    weight = torch.tensor([1.0] * 7 + [0.0])
    flat = flat_rows(returns, costs, group, weight)
    assert flat.tolist() == [True, True, False, False, False, False, True, True]
    assert flat_rows(returns, torch.zeros(8, 0, dtype=torch.float64), group, weight).tolist()[2:4] == [True, True]

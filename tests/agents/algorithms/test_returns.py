"""Returns and advantages against closed forms."""

from __future__ import annotations

import pytest
import torch

from nextstep_agents.algorithms.returns import advantages, standardise, to_go

VALID = torch.tensor([[True, True, True], [True, False, False]])
REWARDS = torch.tensor([[[1.0], [2.0], [4.0]], [[8.0], [0.0], [0.0]]])
VALUES = torch.tensor([[[0.5], [1.5], [2.5]], [[3.5], [9.0], [9.0]]])
ZERO = torch.zeros(2, 1)


def test_lambda_one_gives_the_return_less_the_value() -> None:
    found = advantages(REWARDS, VALUES, ZERO, VALID, 1.0, 1.0)[..., 0]
    torch.testing.assert_close(found, torch.tensor([[6.5, 4.5, 1.5], [4.5, 0.0, 0.0]]))


def test_lambda_zero_gives_the_one_step_error() -> None:
    found = advantages(REWARDS, VALUES, ZERO, VALID, 0.9, 0.0)[..., 0]
    expected = torch.tensor([[1 + 0.9 * 1.5 - 0.5, 2 + 0.9 * 2.5 - 1.5, 4 - 2.5], [8 - 3.5, 0.0, 0.0]])
    torch.testing.assert_close(found, expected)


def test_an_episode_that_was_cut_off_is_worth_what_would_have_followed() -> None:
    last = torch.tensor([[10.0], [20.0]])
    found = advantages(REWARDS, VALUES, last, VALID, 0.5, 0.0)[..., 0]
    assert found[0, 2] == 4 + 0.5 * 10 - 2.5 and found[1, 0] == 8 + 0.5 * 20 - 3.5


def test_signals_keep_their_own_discount() -> None:
    both = torch.cat([REWARDS, REWARDS], 2)
    found = advantages(both, torch.zeros(2, 3, 2), torch.zeros(2, 2), VALID, torch.tensor([1.0, 0.5]), 1.0)
    assert found[0, 0].tolist() == [7.0, 1 + 0.5 * 2 + 0.25 * 4]


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_what_is_to_come_is_the_discounted_sum(gamma: float) -> None:
    found = to_go(REWARDS[..., 0], gamma)
    assert found[0].tolist() == [1 + gamma * (2 + gamma * 4), 2 + gamma * 4, 4.0]


def test_standardised_values_ignore_padding() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0], [7.0, 100.0, float("nan")]])
    found = standardise(values, VALID)
    assert found[1, 1:].tolist() == [0.0, 0.0]
    kept = found[VALID]
    torch.testing.assert_close(kept.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(kept.std(correction=0), torch.tensor(1.0))

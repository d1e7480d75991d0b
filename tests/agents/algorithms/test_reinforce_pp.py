"""REINFORCE++ by hand: one normalisation for all tokens, the KL in the reward or in the loss, groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nextstep_agents.algorithms.critic_free import without_budgets
from nextstep_agents.algorithms.objectives import ClippedSurrogate
from nextstep_agents.algorithms.reinforce_pp import ReinforcePlusPlus
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError
from tests.agents.algorithms.hand import batch_of


def made(algorithm: ReinforcePlusPlus, batch: Batch, reference: torch.Tensor | None = None) -> ClippedSurrogate:
    objective, _, _ = algorithm.objective(batch, without_budgets(batch, reference=reference), algorithm.start(0))
    assert isinstance(objective, ClippedSurrogate)
    return objective


def whitened(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean()) / values.std(correction=0)


def test_every_action_token_of_the_batch_counts_once() -> None:
    batch = batch_of([[[0, 1, 2], [0]], [[1]]], [[1.0, 3.0], [-2.0]])
    found = made(ReinforcePlusPlus(), batch).advantage
    expected = whitened(torch.tensor([4.0, 4.0, 4.0, 3.0, -2.0]))
    torch.testing.assert_close(found[0], expected[:4])
    torch.testing.assert_close(found[1], torch.tensor([expected[4], 0.0, 0.0, 0.0]))


def test_the_kl_in_the_reward_is_summed_from_each_token_on() -> None:
    batch = batch_of([[[0, 1], [2]], [[1]]], [[0.0, 1.0], [2.0]])
    batch = replace(batch, logprobs=torch.tensor([[-1.0, -2.0, -0.5], [-0.2, 9.0, 9.0]]))
    reference = torch.tensor([[-1.5, -1.0, -0.75], [-0.6, 0.0, 0.0]])
    found = made(ReinforcePlusPlus(kl=0.1), batch, reference).advantage
    gaps = [0.5 - 1.0 + 0.25, -1.0 + 0.25, 0.25, 0.4]
    expected = whitened(torch.tensor([1.0, 1.0, 1.0, 2.0]) - 0.1 * torch.tensor(gaps))
    torch.testing.assert_close(found[0], expected[:3])
    torch.testing.assert_close(found[1, 0], expected[3])


def test_the_kl_in_the_loss_is_half_the_squared_log_ratio() -> None:
    batch = batch_of([[[0, 1]], [[1]]], [[1.0], [1.0]])  # equal rewards: nothing but the KL
    reference = torch.tensor([[-1.5, -1.0], [-0.6, 0.0]])
    objective = made(ReinforcePlusPlus(kl=0.1, kl_in="loss", entropy=0.0), batch, reference)
    logp = torch.tensor([[-1.0, -2.0], [-0.2, 0.0]])
    loss, sums = objective.loss(batch, torch.arange(2), logp, torch.zeros(2, 2), reference)
    assert float(loss) == pytest.approx(0.1 * (0.5**2 + 1.0**2 + 0.4**2) / 2)
    assert float(sums["kl_reference"]) == pytest.approx((0.5**2 + 1.0**2 + 0.4**2) / 2)


def test_the_group_is_the_baseline_and_the_batch_the_scale() -> None:
    batch = batch_of([[[0]], [[1]], [[0]], [[1]]], [[1.0], [0.0], [10.0], [14.0]], [0, 0, 1, 1])
    found = made(ReinforcePlusPlus(baseline="group", group_size=2), batch).advantage[:, 0]
    torch.testing.assert_close(found, whitened(torch.tensor([0.5, -0.5, -2.0, 2.0])))


def test_decisions_of_the_same_number_are_the_baseline() -> None:
    batch = batch_of([[[0], [1]], [[1], [0]]], [[1.0, 3.0], [2.0, 0.0]])  # returns to go 4, 3 and 2, 0
    found = made(ReinforcePlusPlus(baseline="mean"), batch).advantage
    torch.testing.assert_close(found.flatten(), whitened(torch.tensor([1.0, 1.5, -1.0, -1.5])))


def test_a_batch_may_be_cut_anywhere() -> None:
    """Rows and columns of a token's advantage follow the piece of the batch that the loss is asked for."""
    batch = batch_of([[[0, 1, 2], [0]], [[1]], [[2], [1]]], [[1.0, 3.0], [-2.0], [0.5, 0.0]])
    objective = made(ReinforcePlusPlus(entropy=0.0), batch)
    logp, zero = torch.linspace(-0.3, 0.3, 12).view(3, 4), torch.zeros(3, 4)
    whole, _ = objective.loss(batch, torch.arange(3), logp, zero)
    parts = torch.zeros(())
    for rows, width in ((torch.tensor([0]), 4), (torch.tensor([2, 1]), 2)):
        piece = batch.select(rows)
        cut = {name: getattr(piece, name)[:, :width] for name in ("tokens", "turn", "action", "logprobs")}
        loss, _ = objective.loss(replace(piece, **cut), rows, logp[rows, :width], zero[rows, :width])
        parts = parts + loss
    torch.testing.assert_close(parts, whole)


def test_a_kl_in_the_reward_needs_a_reference() -> None:
    batch = batch_of([[[0]], [[1]]], [[1.0], [0.0]])
    with pytest.raises(ConfigError, match="reference policy"):
        made(ReinforcePlusPlus(kl=0.1), batch)


@pytest.mark.parametrize(
    "bad",
    [{"clip": -0.1}, {"kl": -1.0}, {"baseline": "median"}, {"kl_in": "x"}, {"group_size": 1, "baseline": "group"}],
)
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ReinforcePlusPlus(**bad)

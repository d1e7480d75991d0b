"""Common units, advantages and the critic's targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nextstep_agents.learning.constraints import Constraints, make_constraints
from nextstep_agents.learning.estimates import SMOOTHING, Scales, Targets, calibrated, estimate, fit
from nextstep_agents.learning.play import Round, play
from nextstep_agents.learning.stages import SingleStage, Stage, VectorStage
from nextstep_agents.policies.mlp import Actor, Critic, MLPSettings
from nextstep_agents.rollout import Start
from nextstep_envs.tabular import RetryStop
from tests.agents.learning.worlds import Walk

LIMIT = make_constraints([2.0], ("cost",), ("",))


def a_round(stage: Stage, episodes: int, max_decisions: int | None = None) -> tuple[Round, Actor, Critic]:
    generator = torch.Generator().manual_seed(0)
    actor = Actor(stage.agents, MLPSettings(hidden=(8,)), generator)
    critic = Critic(actor, 2, MLPSettings(hidden=(8,)), generator)
    return play(stage, actor, [Start(i) for i in range(episodes)], 1, max_decisions), actor, critic


def in_units(round: Round, constraints: Constraints) -> tuple[Round, Scales]:
    raw = constraints.costs(round.batch)
    scales = Scales.first(raw.returns, constraints.totals(raw.costs)[round.complete], constraints)
    return replace(round, batch=scales.of(raw)), scales


def test_rewards_are_counted_in_the_largest_spread_of_returns_so_far() -> None:
    scales = Scales.first(torch.tensor([0.0, 4.0]), torch.zeros(2, 1), LIMIT)
    assert (scales.reward, scales.spread, scales.costs.tolist()) == (2.0, 2.0, [2.0])
    calmer = scales.after(torch.tensor([4.0, 4.0]))
    assert calmer.reward == 2.0 and calmer.spread == pytest.approx(2.0 * SMOOTHING)
    wilder = calmer.after(torch.tensor([0.0, 40.0]))
    assert wilder.reward == wilder.spread == pytest.approx(SMOOTHING * calmer.spread + (1 - SMOOTHING) * 20.0)
    assert wilder.after(torch.zeros(0)) == wilder


def test_where_returns_have_no_spread_their_size_serves() -> None:
    assert Scales.first(torch.tensor([3.0, 3.0]), torch.zeros(2, 0), make_constraints(None, (), ("",))).reward == 3.0
    assert Scales.first(torch.zeros(2), torch.zeros(2, 0), make_constraints(None, (), ("",))).reward == 1.0


@pytest.mark.parametrize("common", [0.0, 50.0])
def test_the_first_returns_that_differ_set_the_scale_however_late(common: float) -> None:
    scales = Scales.first(torch.full((4,), common), torch.zeros(4, 1), LIMIT)
    scales = scales.after(torch.full((4,), common)).after(torch.zeros(0))
    assert (scales.reward, scales.spread) == (common or 1.0, 0.0)
    scales = scales.after(torch.tensor([common, common + 0.02]))
    assert scales.reward == scales.spread == pytest.approx(0.01, rel=1e-3)


def test_costs_are_counted_in_budgets_and_a_budget_of_nothing_in_the_first_mean() -> None:
    none = make_constraints([0.0, 5.0], ("a", "b"), ("",))
    scales = Scales.first(torch.tensor([0.0, 4.0]), torch.tensor([[2.0, 1.0], [4.0, 1.0]], dtype=torch.float64), none)
    assert scales.costs.tolist() == [3.0, 5.0]
    np.testing.assert_allclose(scales.multipliers(np.array([1.5, 1.0])), [1.5 * 2 / 3, 2 / 5])


def test_scales_survive_a_checkpoint() -> None:
    scales = Scales(1 / 3, 0.1, np.array([0.1, 7.0]))
    again = Scales.restored(scales.arrays())
    assert (again.reward, again.spread) == (1 / 3, 0.1) and again.costs.tolist() == [0.1, 7.0]


def test_the_excess_is_of_whole_episodes_only_and_relative_to_the_budget() -> None:
    stage = SingleStage([Walk(length) for length in (2, 6)], ("cost",))
    played, scales = in_units(a_round(stage, 40, max_decisions=3)[0], LIMIT)
    found, targets = estimate(played, played.batch, None, LIMIT, scales, 1.0, 1.0, 0.25)
    whole = played.batch.costs.sum((1, 2))[played.complete]
    assert 0 < len(whole) < 40
    assert found.excess[0] == pytest.approx(float(whole.mean()) - 1.0) and (found.progress, targets) == (0.25, None)
    assert found.length == pytest.approx(float(played.batch.decisions.sum()) / 40)


def test_with_lambda_one_an_advantage_is_what_came_less_what_was_expected() -> None:
    stage = VectorStage(RetryStop().vector(16), ("spend",))
    round, _, critic = a_round(stage, 64)
    constraints = make_constraints([3.0], ("spend",), ("",))
    played, scales = in_units(round, constraints)
    found, targets = estimate(played, played.batch, critic, constraints, scales, 1.0, 1.0, 0.0)
    assert found.advantage is not None and found.cost_advantage is not None and targets is not None
    batch, valid = played.batch, played.batch.decisions
    for advantage, signal, k in (
        (found.advantage, batch.rewards, 0),
        (found.cost_advantage[..., 0], batch.costs[..., 0], 1),
    ):
        came = signal.flip(1).cumsum(1).flip(1)[valid].float()
        expected = calibrated(targets.values, targets.targets)[:, k]
        torch.testing.assert_close(advantage[valid], came - expected)
        torch.testing.assert_close(targets.targets[:, k], came)
        assert (advantage[~valid] == 0).all()


def test_what_follows_a_cut_is_estimated_and_what_follows_an_end_is_not() -> None:
    stage = SingleStage([Walk(length) for length in (2, 9)], ("cost",))
    round, _, critic = a_round(stage, 20, max_decisions=2)
    played, scales = in_units(round, LIMIT)
    found, targets = estimate(played, played.batch, critic, LIMIT, scales, 0.9, 0.0, 0.0)
    assert found.advantage is not None and targets is not None
    last = played.batch.rewards[:, 1].clone()
    after = critic(list(played.last))[:, 0].detach()
    last += 0.9 * torch.where(played.truncated, after, 0.0)
    values = targets.values[:, 0].view(20, 2)
    assert played.truncated.any() and not played.truncated.all()
    torch.testing.assert_close(found.advantage[:, 1], last - values[:, 1])


def test_in_a_discounted_problem_later_decisions_weigh_less() -> None:
    stage = SingleStage([Walk(3)], ("cost",))
    played, scales = in_units(a_round(stage, 8)[0], LIMIT)
    found, _ = estimate(played, played.batch, None, replace(LIMIT, gamma=0.5), scales, 0.5, 1.0, 0.0)
    assert found.advantage is not None and found.cost_advantage is not None
    reward = played.batch.rewards
    ahead = torch.stack(
        [reward[:, 0] + reward[:, 1] / 2 + reward[:, 2] / 4, reward[:, 1] + reward[:, 2] / 2, reward[:, 2]], 1
    )
    torch.testing.assert_close(found.advantage, ahead * torch.tensor([1.0, 0.5, 0.25]))
    ratio = scales.reward / scales.costs[0]
    torch.testing.assert_close(found.cost_advantage[..., 0], found.advantage * ratio)


def test_the_critic_approaches_its_targets_whatever_the_minibatches() -> None:
    for batch_size in (10_000, 4):
        stage = VectorStage(RetryStop().vector(16), ("spend",))
        _, _, critic = a_round(stage, 4)
        views = (torch.eye(6).repeat(10, 1),)
        wanted = torch.stack([views[0].argmax(1).float(), torch.ones(60)], 1)
        targets = Targets(views, torch.zeros(60, 2), wanted)
        optimiser = torch.optim.Adam(critic.parameters(), lr=0.03)
        before = fit(critic, optimiser, targets, 1, batch_size, 0)["critic_loss"]
        after = fit(critic, optimiser, targets, 100, batch_size, 0)["critic_loss"]
        assert after < 0.05 * before


def test_what_a_critic_does_not_know_is_not_subtracted() -> None:
    generator = torch.Generator().manual_seed(0)
    came = torch.randn(4000, 1, generator=generator)
    noise = torch.randn(4000, 1, generator=generator)
    torch.testing.assert_close(calibrated(0.5 * came + 3.0, came), 0.5 * (came - came.mean()) + came.mean())
    overdone, ignorant, wrong = (calibrated(v, came) for v in (2.0 * came, 10.0 * noise, -came))
    torch.testing.assert_close(overdone, came, atol=1e-5, rtol=1e-5)
    assert float(ignorant.std()) < 0.05
    torch.testing.assert_close(wrong, came.mean(0).expand(4000, 1))
    torch.testing.assert_close(calibrated(torch.ones(4000, 1), came), came.mean(0).expand(4000, 1))

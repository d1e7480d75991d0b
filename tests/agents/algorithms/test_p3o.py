"""P3O: its loss in exact units, the gate of the whole batch, and a penalty that is exact where it should be."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nextstep_agents.algorithms.first_order import descend
from nextstep_agents.algorithms.objectives import ClippedSurrogate
from nextstep_agents.algorithms.p3o import P3O, PenalisedSurrogate
from nextstep_agents.algorithms.types import Estimates
from nextstep_agents.batch import Batch
from nextstep_agents.learning.constraints import make_constraints
from nextstep_agents.learning.estimates import Scales, estimate
from nextstep_agents.learning.learner import Learner, learn_round, make_learner
from nextstep_agents.learning.play import play
from nextstep_agents.learning.settings import make_learn_settings
from nextstep_agents.learning.stages import VectorStage
from nextstep_agents.policies.mlp import Actor
from nextstep_agents.rollout import Start
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import DagRetries, RetryStop, TabularCMDP, TierRouting
from tests.agents.algorithms.exact import exact_batch, slope, table, tabular_actor

LADDER = np.array([[[0.3, 0.5], [0.0, 0.9]], [[0.6, 0.2], [0.1, 0.1]]])
PAY, SPEND = np.array([[1.0, 0.2], [0.0, 2.0]]), np.array([[[0.5, 0.1], [0.2, 1.5]]])
DISCOUNTED, EPISODIC = (TabularCMDP(P=LADDER, R=PAY, C=SPEND, mu=[0.7, 0.3], d=[1.0], gamma=g) for g in (0.9, 1.0))


def surrogate(
    cmdp: TabularCMDP, actor: Actor, limits: np.ndarray, kappa: list[float]
) -> tuple[Batch, PenalisedSurrogate]:
    """The loss with exact advantages; its rows are weighted to add up to one episode."""
    batch, reward, costs = exact_batch(cmdp, actor)
    excess = torch.from_numpy(cmdp.evaluate(table(cmdp, actor))["costs"] - limits)
    loss = PenalisedSurrogate(reward, costs, excess / batch.mask.sum(), torch.tensor(kappa).double(), 0.2, 0.2)
    return batch, loss


def gradient(loss: Tensor, actor: Actor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(actor.parameters()))])


def played(cmdp: TabularCMDP, episodes: int = 64, **settings: object) -> tuple[Learner, Batch, Estimates, np.ndarray]:
    """A learner, a round it played in common units, the estimates, and the mean raw costs less the budgets."""
    chosen = make_learn_settings(algorithm="p3o", **settings)
    stage = VectorStage(cmdp.vector(episodes), cmdp.cost_names)
    constraints = make_constraints(list(cmdp.d), cmdp.cost_names, ("",), cmdp.gamma)
    learner = make_learner(stage, chosen, constraints)
    found = play(stage, learner.actor, [Start(i) for i in range(episodes)], 1)
    totals = constraints.totals(found.batch.costs)
    scales = Scales.first(found.batch.returns, totals, constraints)
    batch = scales.of(found.batch)
    estimates, _ = estimate(found, batch, learner.critic, constraints, scales, cmdp.gamma, 1.0, 0.0)
    return learner, batch, estimates, totals.mean(0).numpy() - cmdp.d


@pytest.mark.parametrize("cmdp", [DISCOUNTED, EPISODIC, DagRetries()], ids=["discounted", "episodic", "two costs"])
def test_the_cost_surrogate_starts_at_what_an_episode_spends_above_its_budget(cmdp: TabularCMDP) -> None:
    """For gamma = 1 as well, where the paper's factor 1 - gamma would lose the budget; and whatever the critic says."""
    _, batch, estimates, over = played(cmdp)
    method = P3O()
    objective, memory, _ = method.objective(batch, estimates, method.start(len(over)))
    neutral = torch.zeros_like(batch.logprobs)
    per_step = objective.costs(batch, torch.arange(len(batch)), neutral) / batch.mask.sum()
    in_budgets = per_step.double().numpy() * estimates.length * memory["spread"][1]
    np.testing.assert_allclose(in_budgets * cmdp.d, over, rtol=1e-4)


@pytest.mark.parametrize("share", [0.8, 1.25], ids=["over budget", "within"])
@pytest.mark.parametrize("cmdp", [RetryStop(), DISCOUNTED, DagRetries()], ids=["retry", "discounted", "two costs"])
def test_the_loss_has_the_gradient_of_return_less_penalty(cmdp: TabularCMDP, share: float) -> None:
    """At ratio 1 that of J_R - sum_k kappa_k max(0, J_Ck - d_k), by finite differences."""
    actor = tabular_actor(cmdp, seed=3)
    limits = share * cmdp.evaluate(table(cmdp, actor))["costs"]
    kappa = np.array([0.7, 2.0])[: len(limits)]
    batch, objective = surrogate(cmdp, actor, limits, kappa.tolist())
    logp, entropy = actor.log_probs(batch)
    loss, _ = objective.at(batch, logp).loss(batch, torch.arange(len(batch)), logp, entropy)

    def value() -> float:
        exact = cmdp.evaluate(table(cmdp, actor))
        return float(exact["return"] - (kappa * np.maximum(0.0, exact["costs"] - limits)).sum())

    found = gradient(loss, actor)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        direction = torch.randn(len(found), generator=generator, dtype=torch.float64)
        assert float(found @ direction) == pytest.approx(-slope(actor, value, direction), rel=1e-5, abs=1e-8)


def test_the_costs_are_clipped_pessimistically() -> None:
    """What would lower a cost counts up to the clip, what would raise it in full."""
    batch, objective = surrogate(TierRouting(), tabular_actor(TierRouting()), np.array([1.2]), [1.0])
    one = batch.select(torch.tensor([0]))
    for advantage, ratio, change in ((1.0, 0.5, -0.2), (1.0, 1.5, 0.5), (-1.0, 1.5, -0.2), (-1.0, 0.5, 0.5)):
        fixed = replace(objective, cost_advantage=torch.full_like(objective.cost_advantage, advantage))
        cost = fixed.costs(one, torch.tensor([0]), torch.full((1, 1), np.log(ratio)))
        assert float(cost / one.mask.sum()) == pytest.approx(float(fixed.excess) + change)


def test_however_the_batch_is_cut_the_penalty_is_that_of_all_of_it() -> None:
    """Single rows lie on either side of the budget: their own max(0, .) would add up to more."""
    cmdp = RetryStop()
    actor = tabular_actor(cmdp, seed=1)
    batch, objective = surrogate(cmdp, actor, cmdp.evaluate(table(cmdp, actor))["costs"] - 1e-3, [3.0])
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    logp, entropy = actor.log_probs(batch)
    objective = objective.at(batch, logp)
    whole = gradient(objective.loss(batch, torch.arange(len(batch)), logp, entropy)[0], actor)
    pieces, own = torch.zeros_like(whole), []
    for rows in torch.arange(len(batch)).split(1):
        piece = batch.select(rows)
        logp, entropy = actor.log_probs(piece)
        pieces += gradient(objective.loss(piece, rows, logp, entropy)[0], actor)
        own.append(bool(objective.costs(piece, rows, logp.detach() - piece.logprobs) > 0))
    assert 0 < sum(own) < len(own)
    torch.testing.assert_close(pieces, whole)


@dataclass
class Watched:
    """An objective that notes what it was shown before each step."""

    inner: PenalisedSurrogate
    actor: Actor
    seen: list[bool] = field(default_factory=list)
    entropy = 0.0

    def at(self, batch: Batch, logp: Tensor) -> Watched:
        current = self.actor.log_probs(batch)[0]
        self.seen.append(len(batch) == len(self.inner.advantage) and torch.equal(logp, current))
        return replace(self, inner=self.inner.at(batch, logp))

    def loss(self, *args: Tensor) -> object:
        return self.inner.loss(*args)


@pytest.mark.parametrize("parts", [1, 3])
def test_every_step_sees_the_whole_batch_at_the_current_policy(parts: int) -> None:
    learner, batch, estimates, _ = played(RetryStop())
    method = P3O(epochs=2, minibatches=parts)
    objective, *_ = method.objective(batch, estimates, method.start(1))
    watched = Watched(objective, learner.actor)
    metrics = descend(learner.actor, learner.optimiser, batch, watched, method, 0)
    assert watched.seen == [True] * (2 * parts)
    assert metrics["optimiser_steps"] == len(objective.gates) == 2 * parts
    with pytest.raises(ValueError, match="whole batch"):
        objective.loss(batch, torch.arange(len(batch)), batch.logprobs, batch.logprobs)


def test_without_constraints_it_is_ppo() -> None:
    cmdp = RetryStop()
    actor = tabular_actor(cmdp)
    batch, reward, costs = exact_batch(cmdp, actor)
    nothing = Estimates(reward, costs[..., :0], np.zeros(0), (), 2.0, 0.0)
    method = P3O()
    objective, memory, _ = method.objective(batch, nothing, method.start(0))
    ppo = ClippedSurrogate(reward / memory["spread"][1], method.clip, method.clip, method.entropy_now(batch, nothing))
    rows = torch.arange(len(batch))
    logp, entropy = actor.log_probs(batch, entropy_gradient=True)
    shifted = logp + 0.3 * torch.randn(logp.shape, generator=torch.Generator().manual_seed(0))
    found, expected = (o.loss(batch, rows, shifted, entropy)[0] for o in (objective.at(batch, shifted.detach()), ppo))
    torch.testing.assert_close(found, expected)
    optimiser = torch.optim.Adam(actor.parameters())
    memory, metrics = method.improve(actor, optimiser, batch, nothing, method.start(0), 0)
    assert memory["multipliers"].shape == (0,) and "kappa_over_multiplier" not in metrics


def test_a_given_kappa_is_in_raw_rewards_per_budget() -> None:
    _, batch, estimates, _ = played(RetryStop())
    method = P3O(kappa=1.5)
    objective, _, metrics = method.objective(batch, replace(estimates, reward_scale=3.0), method.start(1))
    assert objective.kappa.tolist() == [0.5] and metrics == {"kappa/0": 1.5}


def test_reward_and_cost_share_one_scale() -> None:
    """Standardising the reward's advantages alone would change what kappa means."""
    _, batch, estimates, _ = played(RetryStop())
    assert estimates.advantage is not None and estimates.cost_advantage is not None
    method = P3O()
    objective, memory, _ = method.objective(batch, estimates, method.start(1))
    unit = float(memory["spread"][1])
    torch.testing.assert_close(objective.advantage * unit, estimates.advantage)
    torch.testing.assert_close(objective.cost_advantage * unit, estimates.cost_advantage)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"kappa": 0.0}, "kappa"),
        ({"cost_clip": -0.1}, "cost_clip"),
        ({"margin": 0.5}, "margin"),
        ({"first": 30.0}, "first"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        P3O(**given)


def learnt(kappa: float | None, steps: int, cmdp: TabularCMDP) -> tuple[float, dict[str, float]]:
    """The exact mean cost over the last fifth of a run, in budgets, and the last metrics."""
    settings = make_learn_settings(algorithm="p3o", total_steps=steps, seed=0, kappa=kappa)
    stage = VectorStage(cmdp.vector(128), cmdp.cost_names)
    constraints = make_constraints(list(cmdp.d), cmdp.cost_names, ("",))
    learner, costs, metrics = make_learner(stage, settings, constraints), [], {}
    states = torch.eye(cmdp.n_states)
    while learner.steps < steps:
        metrics = learn_round(learner, stage, settings, constraints, 1.0, 1.0)
        if learner.steps > 0.8 * steps:
            with torch.no_grad():
                policy = learner.actor.outputs(0, states, torch.from_numpy(cmdp.mask)).double().softmax(1)
            costs.append(cmdp.evaluate(policy.numpy())["costs"] / cmdp.d)
    return float(np.mean(costs)), metrics


THRESHOLD = float(RetryStop().optimum()["multipliers"][0] * RetryStop().d[0])


@pytest.mark.parametrize(("share", "least"), [(0.5, 1.3), (0.9, 1.1)])
def test_a_penalty_below_the_multiplier_overspends_and_says_so(
    share: float, least: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The exact-penalty theorem: below lambda* the budget is worth breaking, however little below."""
    with caplog.at_level(logging.WARNING, "nextstep"):
        cost, metrics = learnt(share * THRESHOLD, 24_000, RetryStop())
    assert cost > least
    over = int(caplog.text.split("constraint 0 is ")[1].split("%")[0])
    assert len(caplog.records) == 1 and over > 10
    assert metrics["kappa_over_multiplier"] < 1.1


@pytest.mark.parametrize("kappa", [2 * THRESHOLD, None], ids=["twice the multiplier", "automatic"])
def test_a_penalty_above_the_multiplier_keeps_the_budget(kappa: float | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nextstep"):
        cost, metrics = learnt(kappa, 20_000, RetryStop())
    assert 0.95 < cost < 1.03
    assert 1.5 < metrics["kappa/0"] / THRESHOLD < 5 and not caplog.records
    if kappa is not None:
        assert metrics["multiplier/spend"] == pytest.approx(THRESHOLD / 3.0, rel=0.35)


def test_a_budget_that_cannot_be_met_leaves_the_least_cost_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    choice = TabularCMDP(P=np.zeros((1, 2, 1)), R=[[0.1, 1.0]], C=[[[1.0, 3.0]]], mu=[1.0], d=[0.5])
    with caplog.at_level(logging.WARNING, "nextstep"):
        cost, metrics = learnt(None, 18_000, choice)
    assert cost == pytest.approx(2.0, rel=0.02)  # in budgets
    method = P3O()
    assert metrics["kappa/0"] == pytest.approx(method.margin * method.most * metrics["reward_scale"])
    assert len(caplog.records) == 1 and "cannot be met" in caplog.text


def test_a_budget_with_room_to_spare_costs_no_return() -> None:
    choice = TabularCMDP(P=np.zeros((1, 2, 1)), R=[[0.1, 1.0]], C=[[[1.0, 3.0]]], mu=[1.0], d=[5.0])
    cost, metrics = learnt(None, 8_000, choice)
    assert cost == pytest.approx(0.6, rel=0.02)
    assert metrics[f"multiplier/{choice.cost_names[0]}"] < 0.02

"""MACPO: what each agent is told, what it may change, and that budgets are kept or won back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from nextstep_agents.algorithms import macpo
from nextstep_agents.algorithms.macpo import MACPO, View
from nextstep_agents.algorithms.trust_region import Accepted, Floats, Step, flat
from nextstep_agents.algorithms.types import Estimates
from nextstep_agents.batch import Batch
from nextstep_agents.learning.constraints import Constraints, make_constraints
from nextstep_agents.learning.learner import Learner, learn_round, make_learner
from nextstep_agents.learning.settings import LearnSettings, make_learn_settings
from nextstep_agents.learning.stages import Stage, TeamStage, VectorStage
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import JointPlanWork, TeamPlanWork, TierRouting
from tests.agents.algorithms.exact import exact_batch, table, tabular_actor

UNUSED = torch.optim.SGD([torch.zeros(1)])  # MACPO takes its steps without an optimiser


@dataclass(frozen=True)
class Turn:
    """One agent's turn as the algorithm took it."""

    view: View
    excess: Floats
    step: Step
    accepted: Accepted | None


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """All turns that are taken from now on."""
    found: list[Turn] = []
    original = macpo.take_step

    def recorded(view: View, excess: Floats, settings: MACPO) -> tuple[Step, Accepted | None]:
        step, accepted = original(view, excess, settings)
        found.append(Turn(view, excess, step, accepted))
        return step, accepted

    monkeypatch.setattr(macpo, "take_step", recorded)
    return found


def team_actor(seed: int = 0, share: bool = False) -> Actor:
    """Softmax policies of planner and worker over logits of their own for every state, drawn at random."""
    team, generator = TeamPlanWork(), torch.Generator().manual_seed(seed)
    spaces = [AgentSpaces(team.observation_space(a), team.action_space(a)) for a in team.possible_agents]
    actor = Actor(spaces, MLPSettings(hidden=(), share=share), generator)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return actor.double()


class Joint:
    """Planner and worker as one agent with 9 actions."""

    def __init__(self, team: Actor) -> None:
        self.team = team

    def parameters(self) -> Any:
        return self.team.parameters()

    def outputs(self, agent: int, states: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities [4, 9]."""
        free = torch.ones(len(states), 3, dtype=torch.bool)
        planner, worker = (self.team.outputs(i, states, free).log_softmax(1) for i in (0, 1))
        return (planner[:, :, None] + worker[:, None, :]).flatten(1)


def exact_team(actor: Actor, excess: Floats, progress: float = 0.0) -> tuple[Batch, Estimates]:
    """Every state and joint action of TeamPlanWork, weighted by its occupancy, with its exact advantages."""
    joint: Any = Joint(actor)
    batch, reward, costs = exact_batch(JointPlanWork(), joint)
    n, vectors = len(batch), batch.inputs["observation.0"]
    tokens = torch.cat([batch.tokens // 3, batch.tokens % 3], 1)
    free = torch.ones(n, 1, 3, dtype=torch.bool)
    inputs = {"observation.0": vectors, "observation.1": vectors, "mask.0": free, "mask.1": free}
    both = replace(
        batch,
        tokens=tokens,
        turn=torch.zeros(n, 2, dtype=torch.long),
        action=torch.ones(n, 2, dtype=torch.bool),
        logprobs=torch.full((n, 2), torch.nan),
        inputs=inputs,
    )
    return both, Estimates(reward, costs, excess, (0, 1), 1.0, progress)


SLACK = np.array([-1.0, -1.0])


@pytest.mark.parametrize("seed", range(4))
def test_the_gains_of_the_agents_add_up_to_the_joint_advantage(turns: list[Turn], seed: int) -> None:
    """The decomposition: the sum of what each was told it gained is E[A] of the new joint policy, in either order."""
    actor = team_actor(seed)
    batch, estimates = exact_team(actor, SLACK)
    _, metrics = MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), seed)
    assert estimates.advantage is not None
    joint: Any = Joint(actor)
    new = torch.from_numpy(table(JointPlanWork(), joint).reshape(-1, 3, 3))
    states, (planner, worker) = batch.inputs["observation.0"][:, 0].argmax(1), batch.tokens.T
    occupancy = torch.zeros(4, dtype=torch.float64).scatter_add(0, states, batch.weight)
    expected = (occupancy[states] * new[states, planner, worker] * estimates.advantage[:, 0]).sum() / occupancy.sum()
    gains = [turn.accepted.reward_change for turn in turns if turn.accepted is not None]
    assert len(gains) == 2 and min(gains) > 0
    assert sum(gains) == pytest.approx(float(expected), rel=1e-9)


def test_the_second_agent_knows_what_the_first_did_to_its_cost(turns: list[Turn]) -> None:
    actor = team_actor(1)
    batch, estimates = exact_team(actor, SLACK)
    before = [table_of(actor, i) for i in (0, 1)]
    MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), 0)
    first, second = (turn.view.agent for turn in turns)
    policies = list(before)
    policies[first] = table_of(actor, first)
    assert estimates.cost_advantage is not None
    states, chosen = batch.inputs["observation.0"][:, 0].argmax(1), batch.tokens.T
    ratio = policies[first][states, chosen[first]] / before[first][states, chosen[first]]
    change = (batch.weight * (ratio - 1) * estimates.cost_advantage[:, 0, second]).sum() / batch.weight.sum()
    assert float(change) != pytest.approx(0.0, abs=1e-5)
    assert turns[0].excess == pytest.approx([-1.0])
    assert turns[1].excess == pytest.approx([-1.0 + float(change)])


def test_every_agent_answers_for_its_own_cost_only(turns: list[Turn]) -> None:
    actor = team_actor(2)
    batch, estimates = exact_team(actor, np.array([10.0, -10.0]))
    _, metrics = MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), 0)
    assert metrics["case/0"] == macpo.CASES.index("recovery")
    assert metrics["case/1"] == macpo.CASES.index("reward")


def test_the_ratios_of_the_agents_multiply_to_that_of_the_joint_policy(turns: list[Turn]) -> None:
    actor, old = team_actor(3), team_actor(3)
    batch, estimates = exact_team(actor, SLACK)
    MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), 0)
    joint, before = ((Joint(a).outputs(0, torch.eye(4).double(), torch.ones(1))) for a in (actor, old))
    states, (planner, worker) = batch.inputs["observation.0"][:, 0].argmax(1), batch.tokens.T
    expected = (joint - before).exp()[states, 3 * planner + worker]
    first, second = (turn.view for turn in turns)
    torch.testing.assert_close((first.ratio() * second.ratio())[:, 0].detach(), expected)
    torch.testing.assert_close(second.signals[:, 0, 0], first.ratio()[:, 0].detach() * reward_of(estimates))


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_no_policy_moves_further_than_the_trust_region(progress: float) -> None:
    """By exact KL, which allows 1.5 delta; steps get shorter in the course of the training."""
    settings, used = MACPO(delta=0.02), []
    for seed in range(5):
        actor, old = team_actor(seed), team_actor(seed)
        batch, estimates = exact_team(actor, np.array([0.05, -0.01]), progress)
        _, metrics = settings.improve(actor, UNUSED, batch, estimates, settings.start(2), seed)
        occupancy = torch.zeros(4, dtype=torch.float64)
        occupancy.scatter_add_(0, batch.inputs["observation.0"][:, 0].argmax(1), batch.weight / batch.weight.sum())
        kls = []
        for agent in (0, 1):
            was, now = table_of(old, agent), table_of(actor, agent)
            kls.append(float((occupancy[:, None] * was * (was / now).log()).sum()))
        assert metrics["kl"] == pytest.approx(sum(kls))
        used += kls
    limit = 0.02 * (1 - 0.95 * progress) ** 2
    assert max(used) <= 1.5 * limit
    assert max(used) > 0.3 * limit  # it is used


def test_the_order_of_the_agents_comes_from_the_seed_alone(turns: list[Turn]) -> None:
    state = torch.get_rng_state()
    orders = []
    for seed in range(12):
        for policy in (0, 1):
            turns.clear()
            actor = team_actor(policy)
            MACPO().improve(actor, UNUSED, *exact_team(actor, SLACK), MACPO().start(2), seed)
            orders.append([turn.view.agent for turn in turns])
    assert orders[0::2] == orders[1::2]
    assert {tuple(order) for order in orders} == {(0, 1), (1, 0)}
    assert torch.equal(torch.get_rng_state(), state)


def test_one_agent_without_costs_takes_the_step_of_trpo() -> None:
    """sqrt(2 delta / (g' F^-1 g)) F^-1 g, with F from its definition: the mean of score score'."""
    cmdp = TierRouting()
    actor = tabular_actor(cmdp)
    batch, reward, _ = exact_batch(cmdp, actor)
    parameters = actor.parameters_of(0)
    logp = actor.agent_log_probs(batch, 0)[0][:, 0]
    scores = torch.stack([flat(torch.autograd.grad(one, parameters, retain_graph=True)) for one in logp])
    weight = batch.weight / batch.weight.sum()
    settings = MACPO(damping=0.01, iterations=50, delta=1e-4)
    fisher = (weight * scores.T) @ scores + settings.damping * torch.eye(scores.shape[1]).double()
    gradient = (weight * reward[:, 0]) @ scores
    direction = torch.linalg.solve(fisher, gradient)
    expected = (2 * settings.delta / (gradient @ direction)).sqrt() * direction
    start, value = flat(parameters).detach(), cmdp.evaluate(table(cmdp, actor))["return"]
    free = Estimates(reward, reward[..., None][..., :0], np.zeros(0), (), 1.0, 0.0)
    memory, metrics = settings.improve(actor, UNUSED, batch, free, settings.start(0), 0)
    torch.testing.assert_close(flat(parameters).detach() - start, expected, rtol=1e-5, atol=1e-8)
    assert cmdp.evaluate(table(cmdp, actor))["return"] > value
    assert metrics["case/0"] == 0 and len(memory["multipliers"]) == 0


def test_a_step_that_goes_further_than_its_approximation_says_is_shortened() -> None:
    """A policy that is sure of the wrong choice: the curvature where it stands says little about where it goes."""
    cmdp = TierRouting()
    actor = tabular_actor(cmdp)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
        actor.nets[0][-1].bias[0] = 4.0
    old, (batch, reward, _) = table(cmdp, actor), exact_batch(cmdp, actor)
    free = Estimates(reward, reward[..., None][..., :0], np.zeros(0), (), 1.0, 0.0)
    settings = MACPO(delta=1.0, damping=1e-6)
    _, metrics = settings.improve(actor, UNUSED, batch, free, settings.start(0), 0)
    kl = float((cmdp.mu[:, None] * old * np.log(old / table(cmdp, actor))).sum())
    assert metrics["tries/0"] > 1 and metrics["accepted/0"] == 1
    assert 0.1 < kl <= 1.5


def test_failed_episodes_teach_nothing() -> None:
    actors = [team_actor(5), team_actor(5)]
    for actor, failed in zip(actors, (0, 1), strict=True):
        batch, estimates = exact_team(actor, np.array([0.01, -0.01]))
        if failed:
            broken = torch.full_like(reward_of(estimates)[:1, None], torch.nan)
            assert estimates.advantage is not None and estimates.cost_advantage is not None
            weight = torch.cat([batch.weight, torch.zeros(1)])
            batch = replace(batch.select(torch.arange(len(batch) + 1) % len(batch)), weight=weight)
            costs = torch.cat([estimates.cost_advantage, torch.full_like(estimates.cost_advantage[:1], torch.nan)])
            estimates = replace(estimates, advantage=torch.cat([estimates.advantage, broken]), cost_advantage=costs)
        MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), 0)
    torch.testing.assert_close(*(flat(actor.parameters()) for actor in actors))


def test_an_agent_that_does_not_act_stays_as_it_is() -> None:
    actor = team_actor(6)
    batch, estimates = exact_team(actor, SLACK)
    action = batch.action.clone()
    action[:, 1] = False
    before = [flat(actor.parameters_of(i)).detach() for i in (0, 1)]
    MACPO().improve(actor, UNUSED, replace(batch, action=action), estimates, MACPO().start(2), 0)
    assert not torch.equal(flat(actor.parameters_of(0)), before[0])
    assert torch.equal(flat(actor.parameters_of(1)), before[1])


def test_continuous_actions_move_within_the_trust_region() -> None:
    generator = torch.Generator().manual_seed(0)
    spaces = AgentSpaces(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,)))
    actor = Actor([spaces], MLPSettings(hidden=(16,)), generator)
    seen = torch.rand(400, 3, generator=generator) * 2 - 1
    mask = torch.ones(400, 1, dtype=torch.bool)
    action, logp = actor.sample(0, seen, mask, generator)
    single = torch.zeros(400, 1, dtype=torch.long)
    batch = Batch(
        tokens=single,
        turn=single,
        action=single == 0,
        logprobs=logp[:, None],
        rewards=-((action - 0.5) ** 2).sum(1)[:, None],
        costs=action[:, :1].double()[:, None],  # what reward wants more of
        weight=torch.ones(400),
        group=torch.arange(400),
        inputs={"observation.0": seen[:, None], "mask.0": mask[:, None], "action.0": action[:, None]},
    )
    advantage = batch.rewards - batch.rewards.mean()
    cost = (batch.costs - batch.costs.mean()).float()
    estimates = Estimates(advantage, cost, np.array([-0.01]), (0,), 1.0, 0.0)
    with torch.no_grad():
        old = actor.distribution(0, seen, mask)
    before = actor.log_stds["0"].clone()
    memory, metrics = MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(1), 0)
    with torch.no_grad():
        new = actor.distribution(0, seen, mask)
    assert (actor.log_stds["0"] != before).all()
    kl = float(torch.distributions.kl_divergence(old, new).mean())
    assert metrics["kl"] == pytest.approx(kl, rel=1e-3) and 0.002 < kl <= 0.015
    ratio = (new.log_prob(action) - old.log_prob(action)).exp()
    assert float(((ratio - 1) * advantage[:, 0]).mean()) > 0
    assert 0 < float(((ratio - 1) * cost[:, 0, 0]).mean()) <= 0.01 + 1e-6
    assert metrics["case/0"] == 1 and memory["multipliers"][0] > 0


def test_multipliers_are_prices_where_a_budget_binds_and_fade_where_it_does_not(turns: list[Turn]) -> None:
    actor = team_actor(7)
    start = np.array([0.5, 0.5])
    batch, estimates = exact_team(actor, np.array([10.0, -0.5]))
    memory, metrics = MACPO().improve(actor, UNUSED, batch, estimates, {"multipliers": start}, 0)
    (price,) = (turn.step.price for turn in turns if turn.view.agent == 0)
    assert metrics["case/0"] == macpo.CASES.index("recovery") and price > 0
    assert memory["multipliers"] == pytest.approx([0.45 + 0.1 * float(price), 0.45])
    assert start.tolist() == [0.5, 0.5]
    first, _ = MACPO().improve(actor, UNUSED, batch, estimates, MACPO().start(2), 0)
    assert first["multipliers"] == pytest.approx(
        [float(turns[-1 if turns[-1].view.agent == 0 else -2].step.price), 0.0]
    )


def test_one_network_for_all_agents_is_refused() -> None:
    actor = team_actor(share=True)
    with pytest.raises(ConfigError, match="share=False"):
        MACPO().improve(actor, UNUSED, *exact_team(actor, SLACK), MACPO().start(2), 0)


@pytest.mark.parametrize(
    "given", [{"delta": 0.0}, {"kl_tolerance": 0.5}, {"damping": -1.0}, {"shrink": 1.0}, {"attempts": 0}]
)
def test_bad_settings_are_named(given: Mapping[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ConfigError, match=name):
        MACPO(**given)


def test_a_team_far_over_its_budgets_comes_back() -> None:
    """From policies that nearly always take the most expensive choice, both costs are within budget in 60 rounds."""
    team = TeamPlanWork()
    stage = TeamStage([TeamPlanWork() for _ in range(64)], ("spend",))
    learner, settings, constraints = begin(stage, team.cost_limits, episodes=256, total_steps=200_000)
    with torch.no_grad():
        for net in learner.actor.nets:
            net[-1].bias[2] += 3.0

    def costs() -> Floats:
        policies = {name: table_of(learner.actor, i).numpy() for i, name in enumerate(team.possible_agents)}
        found: Floats = team.evaluate(policies)["costs"]
        return found

    assert (costs() > 1.1 * team.joint.d).all()
    rounds = 0
    while (costs() > team.joint.d).any():
        learn_round(learner, stage, settings, constraints, 1.0, 1.0)
        rounds += 1
        assert rounds <= 60


def test_one_agent_with_a_budget_learns_to_spend_it() -> None:
    """CPO on TierRouting: near the optimum of the linear program, cost near the budget."""
    cmdp = TierRouting()
    stage = VectorStage(cmdp.vector(128), cmdp.cost_names)
    learner, settings, constraints = begin(stage, cmdp.cost_limits, total_steps=20_000)
    while learner.steps < settings.total_steps:
        metrics = learn_round(learner, stage, settings, constraints, 1.0, 1.0)
    found = cmdp.evaluate(table(cmdp, learner.actor))
    assert metrics["episodes"] == 512
    assert found["return"] >= 0.95 * cmdp.optimum()["return"]
    assert found["costs"] <= 1.05 * cmdp.d


def begin(stage: Stage, limits: Any, **given: Any) -> tuple[Learner, LearnSettings, Constraints]:
    settings = make_learn_settings(algorithm="macpo", **given)
    constraints = make_constraints(limits, stage.cost_names, stage.names)
    return make_learner(stage, settings, constraints), settings, constraints


def table_of(actor: Actor, agent: int) -> Tensor:
    """Probabilities of a member of the team, [4, 3]."""
    states = torch.eye(4, dtype=next(actor.parameters()).dtype)
    with torch.no_grad():
        return actor.outputs(agent, states, torch.ones(4, 3, dtype=torch.bool)).double().softmax(1)


def reward_of(estimates: Estimates) -> Tensor:
    assert estimates.advantage is not None
    return estimates.advantage[:, 0]

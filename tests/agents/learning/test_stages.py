"""Stages and play: whole episodes, the same whatever kind of environment is behind them."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

import nextstep_envs  # noqa: F401
from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.learning import play as playing
from nextstep_agents.learning.play import Round, play
from nextstep_agents.learning.stages import SingleStage, Stage, TeamStage, VectorStage, costs_of
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.rollout import Start
from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.tabular import DagRetries, TabularCMDP, TeamPlanWork, TierRouting
from tests.agents.learning.worlds import Pair, Walk

STARTS = [Start(seed, sample, seed) for seed in range(7) for sample in range(3)]


def actor_for(stage: Stage, seed: int = 0) -> Actor:
    return Actor(stage.agents, MLPSettings(hidden=(8,)), torch.Generator().manual_seed(seed))


def played(stage: Stage, starts: Any = STARTS, **kwargs: Any) -> Round:
    return play(stage, actor_for(stage), starts, 3, **kwargs)


def assert_equal(a: Round, b: Round) -> None:
    for name in ("tokens", "turn", "action", "logprobs", "rewards", "costs", "weight", "group"):
        assert torch.equal(getattr(a.batch, name), getattr(b.batch, name)), name
    for name, value in a.batch.inputs.items():
        assert torch.equal(value, b.batch.inputs[name]), name
    assert torch.equal(a.truncated, b.truncated) and torch.equal(a.complete, b.complete)
    cut = a.truncated  # what an episode that ended by itself shows last is never used
    assert all(torch.equal(x[cut], y[cut]) for x, y in zip(a.last, b.last, strict=True))


@pytest.mark.parametrize("problem", [TierRouting, DagRetries])
@pytest.mark.parametrize("slots", [1, 4, 30])
def test_a_vector_environment_plays_the_same_episodes_as_single_ones(problem: type[TabularCMDP], slots: int) -> None:
    single = SingleStage([problem() for _ in range(slots)], problem().cost_names)
    assert_equal(played(VectorStage(problem().vector(slots), problem().cost_names)), played(single))


@pytest.mark.parametrize("id", ["NextStep/WebShop-Workflow-v0", "NextStep/WebShop-DAG-v0"])
def test_batched_orchestration_plays_the_same_episodes_as_single_ones(id: str) -> None:
    single = SingleStage([gym.make(id) for _ in range(3)], ("mix",))
    starts = STARTS[:6]
    assert_equal(played(VectorStage(gym.make_vec(id, 3), ("mix",)), starts), played(single, starts))


def test_where_a_time_limit_cuts_the_last_observation_is_kept() -> None:
    cmdp = DagRetries()
    vector = VectorStage(cmdp.vector(4, max_episode_steps=2), cmdp.cost_names)
    single = SingleStage([TimeLimit(DagRetries(), 2) for _ in range(4)], cmdp.cost_names)
    ours, theirs = played(vector), played(single)
    cut = ours.truncated
    assert cut.any() and ours.complete.all()  # the environment's own limit: these are its episodes
    assert torch.equal(cut, theirs.truncated)  # an end in the last step is an end, though TimeLimit says truncated too
    assert torch.equal(ours.last[0][cut], theirs.last[0][cut]) and (ours.last[0][cut].sum(1) == 1).all()
    assert torch.equal(ours.batch.rewards, theirs.batch.rewards)


def test_every_start_is_played_once_and_to_its_end() -> None:
    stage = SingleStage([Walk(length) for length in (1, 4)], ("cost",))  # short and long episodes side by side
    round = played(stage, [Start(seed) for seed in range(20)])
    lengths = round.batch.decisions.sum(1)
    assert set(lengths.tolist()) == {1, 4} and round.complete.all() and not round.truncated.any()
    steps = round.batch.inputs["observation.0"][..., 0]
    for row, length in enumerate(lengths.tolist()):
        assert steps[row, :length].tolist() == list(range(length)) and round.last[0][row, 0] == length
        assert round.batch.turn[row].tolist() == list(range(length)) + [-1] * (4 - length)
    assert torch.equal(round.batch.costs[..., 0].float(), round.batch.rewards)


def test_samples_of_one_start_begin_alike_and_go_apart() -> None:
    starts = [Start(5, sample, 0) for sample in range(16)]
    rounds = [played(SingleStage([DagRetries() for _ in range(16)], DagRetries().cost_names), starts) for _ in range(2)]
    assert_equal(*rounds)
    first = rounds[0].batch.inputs["observation.0"][:, 0]
    assert (first == first[0]).all() and len(rounds[0].batch.returns.unique()) > 1


def test_failed_episodes_weigh_nothing() -> None:
    round = played(SingleStage([Walk(fail=5)], ("cost",)), [Start(seed) for seed in range(30)])
    assert 0 < round.batch.weight.sum() < 30
    assert torch.equal(round.batch.weight > 0, round.complete)
    assert not round.batch.decisions[round.batch.weight == 0].any()


def test_what_max_decisions_cuts_is_bootstrapped_and_not_judged() -> None:
    stage = SingleStage([Walk(length) for length in (2, 5)], ("cost",))
    round = played(stage, [Start(seed) for seed in range(10)], max_decisions=3)
    lengths = round.batch.decisions.sum(1)
    assert set(lengths.tolist()) == {2, 3}
    assert torch.equal(round.truncated, lengths == 3) and torch.equal(round.complete, lengths == 2)
    assert (round.batch.weight == 1).all()


def test_an_episode_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "LONGEST", 20)
    with pytest.raises(TrainingError, match="max_decisions"):
        played(SingleStage([Walk(length=1000)], ()), [Start(0)])


def test_greedy_play_takes_the_likeliest_action() -> None:
    stage = VectorStage(TierRouting().vector(16), ("spend",))
    round, actor = play(stage, actor_for(stage), STARTS, 0, greedy=True), actor_for(stage)
    seen, masks = round.batch.inputs["observation.0"][:, 0], round.batch.inputs["mask.0"][:, 0]
    assert torch.equal(round.batch.tokens[:, 0], actor.outputs(0, seen, masks).argmax(1))


def test_a_team_has_its_costs_by_agent_and_its_mean_reward() -> None:
    stage = TeamStage([Pair(), Pair()], ("cost",))
    assert stage.cost_names == ("a/cost", "b/cost") and [a.size for a in stage.agents] == [1, 3]
    batch = played(stage, [Start(seed) for seed in range(8)]).batch
    assert batch.tokens.shape == (8, 6) and batch.action.tolist() == [[True, True, True, False, True, False]] * 8
    chosen = batch.tokens.view(8, 3, 2)
    assert torch.equal(batch.costs[..., 0], chosen[..., 0].double())
    assert torch.equal(batch.costs[:, 0, 1], 2.0 * chosen[:, 0, 1]) and (batch.costs[:, 1:, 1] == 0).all()
    assert torch.equal(batch.rewards[:, 0], chosen[:, 0].float().mean(1))
    assert torch.equal(batch.rewards[:, 1:], chosen[:, 1:, 0].float())
    assert (batch.logprobs[batch.action] < 0).all()


def test_a_team_sees_what_its_environment_pays() -> None:
    round = played(TeamStage([TeamPlanWork() for _ in range(3)], ("spend",)))
    assert round.complete.all() and round.batch.costs.shape[2] == 2
    efforts = round.batch.tokens.view(len(STARTS), -1, 2)[..., 0]
    paid = torch.where(round.batch.decisions, torch.tensor([0.0, 0.5, 1.0])[efforts].double(), 0.0)
    assert torch.equal(paid, round.batch.costs[..., 0])


def test_what_workers_ask_of_models_is_answered_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(*args: Any) -> Any:
        raise AssertionError("somebody waits alone")

    make = partial(gym.make, "NextStep/WebShop-Workflow-v0", workers={"kind": "fake", "failure_rate": 0.1})
    starts = STARTS[:6]
    expected = played(SingleStage([make() for _ in range(3)], ("mix",)), starts)
    monkeypatch.setattr(FakeProvider, "perform", alone)
    stage = SingleStage([make() for _ in range(3)], ("mix",))
    assert_equal(played(stage, starts), expected)
    stage.close()


def test_costs_are_found_where_environments_put_them() -> None:
    np.testing.assert_array_equal(costs_of({"cost": 2.0}, ["spend"]), [2.0])
    np.testing.assert_array_equal(costs_of({"costs": [1, 2]}, ["a", "b"]), [1.0, 2.0])
    assert costs_of({"cost": 2.0}, []).shape == (0,)
    with pytest.raises(ConfigError, match="'costs'.*a, b"):
        costs_of({"cost": 2.0}, ["a", "b"])

"""What may be called an environment, and what is known of it before training."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit, TransformReward
from pettingzoo import AECEnv

import nextstep_envs  # noqa: F401
import registry
from nextstep_agents.learning.environments import COLUMNS, SLOTS, Problem, open_problem
from nextstep_agents.learning.stages import SingleStage, TeamStage, VectorStage
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import RetryStop, TabularCMDP, TeamPlanWork, TierRouting
from tests.agents.learning.worlds import Pair, Walk
from wrappers import CostPenalty


def chain(**kwargs: Any) -> TabularCMDP:
    return TabularCMDP([[[1.0]]], [[1.0]], [[1.0]], [1.0], [5.0], **kwargs)


def kind(problem: Problem) -> tuple[type, int]:
    return type(problem.stage), problem.stage.size


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("NextStep/TierRouting-v0", (VectorStage, COLUMNS)),
        ("nextstep_envs:NextStep/TeamPlanWork-v0", (VectorStage, COLUMNS)),
        ("NextStep/WebShop-Workflow-v0", (SingleStage, SLOTS)),
        ("NextStep/WebShop-Team-v0", (TeamStage, SLOTS)),
        ("NextStep/WebShop-Pipeline-v0", (TeamStage, SLOTS)),
        ("CartPole-v1", (SingleStage, SLOTS)),
    ],
)
def test_an_id_is_made_as_often_as_there_are_slots(env: str, expected: tuple[type, int]) -> None:
    problem = open_problem(env)
    assert kind(problem) == expected and problem.name == env and problem.owned
    problem.close()


def test_the_number_of_slots_is_the_users() -> None:
    for env in (
        "NextStep/TierRouting-v0",
        "CartPole-v1",
        "NextStep/WebShop-Team-v0",
        TierRouting(),
        TeamPlanWork(),
        Walk,
    ):
        assert open_problem(env, num_envs=3).stage.size == 3


def test_a_team_takes_the_parallel_form_where_there_are_two() -> None:
    problem = open_problem("NextStep/TeamPlanWork-v0", team=True)
    assert kind(problem) == (TeamStage, SLOTS) and problem.stage.names == ("planner_0", "worker_0")
    assert problem.cost_limits == {"planner_0": {"spend": 0.9}, "worker_0": {"spend": 1.6}}
    assert kind(open_problem("NextStep/TierRouting-v0", team=True)) == (VectorStage, COLUMNS)


def test_arguments_reach_the_environments_of_an_id() -> None:
    assert open_problem("NextStep/TierRouting-v0", {"d": 2.0}).cost_limits == {"spend": 2.0}
    problem = open_problem("NextStep/WebShop-Workflow-v0", {"cost": ["usd", "calls"], "num_products": 50}, num_envs=1)
    assert problem.stage.cost_names == ("usd", "calls")
    with pytest.raises(ConfigError, match=r"env_kwargs=\{'d': 2.0\}"):
        open_problem(TierRouting(), {"d": 2.0})


def test_a_tabular_instance_becomes_its_vector_form_unless_a_wrapper_changes_it() -> None:
    assert kind(open_problem(TierRouting(d=2.0))) == (VectorStage, COLUMNS)
    made = gym.make("NextStep/RetryStop-v0", d=2.0)
    problem = open_problem(made)
    assert kind(problem) == (VectorStage, COLUMNS) and problem.cost_limits == {"spend": 2.0}
    changed = open_problem(CostPenalty(made, weight=0.1), num_envs=2)
    assert kind(changed) == (SingleStage, 2) and changed.cost_limits == {"spend": 2.0}


def test_an_instance_is_copied_through_its_spec_and_left_alone() -> None:
    env = TransformReward(gym.make("CartPole-v1", max_episode_steps=20), lambda reward: 7 * reward)
    problem = open_problem(env, num_envs=3)
    assert isinstance(problem.stage, SingleStage) and problem.owned and env not in problem.stage.envs
    for copy in problem.stage.envs:
        copy.reset(seed=0)
        assert copy.step(0)[1] == 7.0 and copy.spec is not None and copy.spec.max_episode_steps == 20


def test_what_cannot_be_copied_plays_itself() -> None:
    class Nameless(gym.Wrapper[Any, Any, Any, Any]):
        """A wrapper that does not say how it was made."""

    for env in (Walk(), Nameless(gym.make("CartPole-v1"))):
        problem = open_problem(env)
        assert isinstance(problem.stage, SingleStage) and problem.stage.envs == [env] and not problem.owned
        with pytest.raises(ConfigError, match="num_envs=2.*callable"):
            open_problem(env, num_envs=2)
    only = gym.make("CartPole-v1")
    problem = open_problem(only, num_envs=1)
    assert isinstance(problem.stage, SingleStage) and problem.stage.envs == [only]


def test_an_environment_that_is_not_ours_is_not_closed() -> None:
    closed: list[str] = []

    class Closing(Walk):
        def close(self) -> None:
            closed.append("closed")

    open_problem(Closing()).close()
    assert not closed
    open_problem(Closing, num_envs=2).close()
    assert closed == ["closed"] * 2


def test_parallel_environments_of_this_project_are_copied_and_others_not() -> None:
    ours, theirs = registry.make_parallel("NextStep/WebShop-Team-v0"), Pair()
    assert kind(open_problem(ours)) == (TeamStage, SLOTS)
    stage = open_problem(theirs).stage
    assert isinstance(stage, TeamStage) and stage.envs == [theirs]
    assert kind(open_problem(Pair, num_envs=2)) == (TeamStage, 2)


def test_vector_environments_of_this_project_serve_as_they_are() -> None:
    problem = open_problem(gym.make_vec("NextStep/WebShop-DAG-v0", 2))
    assert kind(problem) == (VectorStage, 2) and problem.cost_limits == {"mix": 0.4} and not problem.owned
    with pytest.raises(ConfigError, match="callable"):
        open_problem(gym.make_vec("CartPole-v1", 2))


@pytest.mark.parametrize(
    ("env", "gamma", "objective"),
    [
        ("NextStep/DagRetries-v0", 1.0, 1.0),
        ("NextStep/WebShop-Workflow-v0", 1.0, 1.0),
        ("NextStep/WebShop-Team-v0", 1.0, 1.0),
        ("CartPole-v1", 0.99, 1.0),
        (Walk, 1.0, 1.0),
        (lambda: TimeLimit(Walk(), 2), 0.99, 1.0),
        (Pair, 0.99, 1.0),
        (chain(gamma=0.9), 0.9, 0.9),
        (lambda: TimeLimit(chain(gamma=0.9), 5), 0.9, 0.9),
    ],
)
def test_the_discount_suits_the_environment(env: Any, gamma: float, objective: float) -> None:
    problem = open_problem(env, num_envs=1)
    assert (problem.gamma, problem.objective_gamma) == (gamma, objective)


def test_where_the_learner_cuts_episodes_off_rewards_are_discounted() -> None:
    assert open_problem(Walk, max_decisions=5).gamma == 0.99


def test_a_discounted_problem_without_end_is_cut_where_nothing_is_left() -> None:
    stage = open_problem(chain(gamma=0.9), num_envs=2).stage
    assert isinstance(stage, VectorStage) and 0.9**stage.env.max_episode_steps < 1e-3 < 0.9 ** (
        stage.env.max_episode_steps - 1
    )
    for ends in (RetryStop(), chain(gamma=0.9, horizon=3)):
        stage = open_problem(ends, num_envs=2).stage
        assert isinstance(stage, VectorStage) and stage.env.max_episode_steps is None


@pytest.mark.parametrize(
    ("env", "limits", "names"),
    [
        (Walk, None, ()),
        (Walk, {}, ()),
        (Walk, [1.0], ("cost",)),
        (Walk, {"damage": 1.0}, ("damage",)),
        (lambda: Walk(key="costs"), [1.0, np.inf], ("cost_0", "cost_1")),
        (Pair, {"a": 1.0}, ("a/cost", "b/cost")),
        (Pair, {"a": {"cost": 1.0}}, ("a/cost", "b/cost")),
        (Pair, [1.0, 2.0], ("a/cost", "b/cost")),
        (Pair, None, ()),
    ],
)
def test_costs_that_have_no_names_are_named_by_their_budgets(env: Any, limits: Any, names: tuple[str, ...]) -> None:
    assert open_problem(env, cost_limits=limits).stage.cost_names == names


def test_several_unnamed_costs_have_no_order_by_name() -> None:
    with pytest.raises(ConfigError, match="does not name its costs.*cost_names"):
        open_problem(lambda: Walk(key="costs"), cost_limits={"a": 1.0, "b": 1.0})


@pytest.mark.parametrize(
    ("env", "match"),
    [
        (3, "env_or_id=3.*nextstep envs"),
        ("NextStep/Nowhere-v0", "NextStep/Nowhere-v0.*not registered"),
        ("nowhere:Nothing-v0", "nowhere:Nothing-v0.*not registered"),
        ("Walk-v0", "Walk-v0.*not registered"),
        (dict, "returned {}"),
        ("NextStep/WebShop-v0", "no vector"),
    ],
)
def test_what_is_no_environment_to_learn_on_is_named(env: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_problem(env, num_envs=1)


def test_agents_that_act_in_turn_are_sent_to_their_parallel_form() -> None:
    turns: AECEnv[Any, Any, Any] = registry.make_aec("NextStep/WebShop-Pipeline-v0")
    with pytest.raises(ConfigError, match="aec_to_parallel"):
        open_problem(turns)


def test_the_text_interface_is_not_for_vectors() -> None:
    with pytest.raises(ConfigError, match="interface='vector'"):
        open_problem("NextStep/WebShop-Workflow-v0", {"interface": "text"}, num_envs=1)

"""Planner and worker as two agents: PettingZoo's rules, the same problem as the joint view, the best product."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

import registry
from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.tabular import JointPlanWork, TeamPlanWork
from tests.conformance.cases import assert_same

AGENTS = ("planner_0", "worker_0")


def play(env: TeamPlanWork, steps: int, seed: int | None = None) -> list[Any]:
    rng = np.random.default_rng(0)
    seen: list[Any] = [] if seed is None else [env.reset(seed=seed)]
    for _ in range(steps):
        if not env.agents:
            seen.append(env.reset())
        seen.append(env.step({agent: int(rng.integers(3)) for agent in env.agents}))
    return seen


def test_pettingzoos_own_tests_are_content() -> None:
    parallel_api_test(registry.make_parallel("NextStep/TeamPlanWork-v0"), num_cycles=200)
    parallel_seed_test(lambda: registry.make_parallel("NextStep/TeamPlanWork-v0"), num_cycles=200)


def test_it_is_the_joint_view_with_a_cost_for_each_agent() -> None:
    team, joint, rng = TeamPlanWork(), JointPlanWork(), np.random.default_rng(1)
    seen, info = joint.reset(seed=4)
    observations, infos = team.reset(seed=4)
    for _ in range(60):
        for k, agent in enumerate(AGENTS):
            assert observations[agent] in team.observation_space(agent)
            np.testing.assert_array_equal(observations[agent]["observation"], seen["observation"])
            np.testing.assert_array_equal(team.state(), seen["observation"])
            assert list(infos[agent]) == list(info)
            assert infos[agent]["costs"].shape == (1,) and infos[agent]["costs"].dtype == np.float64
            assert infos[agent]["cost"] == infos[agent]["costs"][0] == info["costs"][k]
            assert infos[agent]["cost_terms"] == {"spend": info["costs"][k]}
            assert infos[agent]["action_mask"].tolist() == [1, 1, 1]
        if not team.agents:
            (seen, info), (observations, infos) = joint.reset(), team.reset()
            continue
        effort, tier = rng.integers(3, size=2)
        seen, reward, terminated, _, info = joint.step(3 * effort + tier)
        observations, rewards, terminations, truncations, infos = team.step(
            dict(zip(AGENTS, (effort, tier), strict=True))
        )
        assert rewards == dict.fromkeys(AGENTS, reward) and terminations == dict.fromkeys(AGENTS, terminated)
        assert truncations == dict.fromkeys(AGENTS, False)
        assert team.agents == ([] if terminated else list(AGENTS))


def test_budgets_belong_to_agents() -> None:
    team = TeamPlanWork(d=[0.5, 2.0])
    assert team.cost_limits == {"planner_0": {"spend": 0.5}, "worker_0": {"spend": 2.0}}
    assert team.joint.d.tolist() == [0.5, 2.0]


def test_the_published_best_product_policy() -> None:
    team = TeamPlanWork()
    found = team.product_optimum()
    assert found["return"] == pytest.approx(0.6894, abs=5e-5)
    np.testing.assert_allclose(found["costs"], [0.9, 1.6], atol=1e-6)
    assert found["return"] < team.joint.optimum()["return"]  # the joint optimum needs a common coin
    again = team.evaluate(found["policies"])
    assert again["return"] == found["return"]
    # Planner, easy task: low effort at first, then low .5185 or high .4815.
    np.testing.assert_allclose(found["policies"]["planner_0"][:2], [[0, 1, 0], [0, 0.5185, 0.4815]], atol=5e-5)
    np.testing.assert_allclose(found["policies"]["worker_0"][:2], [[0, 1, 0], [0, 1, 0]], atol=5e-5)


def test_without_budgets_a_product_is_as_good_as_one_mind() -> None:
    team = TeamPlanWork()
    free = [float("inf")] * 2
    assert team.product_optimum(free, starts=4)["return"] == pytest.approx(team.joint.optimum(free)["return"])


def test_independent_policies_are_evaluated_as_their_product() -> None:
    team, rng = TeamPlanWork(), np.random.default_rng(3)
    planner, worker = rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(3), 4)

    class Learned:
        def __init__(self, agent: str, table: np.ndarray) -> None:
            self.agent, self.table = agent, table

        def probabilities(self, observation: Any) -> np.ndarray:
            assert observation in team.observation_space(self.agent)
            return self.table[observation["observation"].argmax()]

    product = np.einsum("si,sj->sij", planner, worker).reshape(4, 9)
    expected = team.joint.evaluate(product)
    for policies in (
        {"planner_0": planner, "worker_0": worker},
        {"planner_0": Learned("planner_0", planner), "worker_0": Learned("worker_0", worker)},
    ):
        found = team.evaluate(policies)
        assert found["return"] == pytest.approx(expected["return"])
        np.testing.assert_allclose(found["costs"], expected["costs"])
    with pytest.raises(ConfigError, match="worker_0"):
        team.evaluate({"planner_0": planner})
    with pytest.raises(ConfigError, match="shape"):
        team.evaluate({"planner_0": product, "worker_0": worker})


def test_actions_of_both_are_needed_and_checked() -> None:
    team = TeamPlanWork()
    with pytest.raises(RuntimeError, match="reset"):
        team.step({"planner_0": 0, "worker_0": 0})
    team.reset(seed=0)
    for actions, message in (
        ({"planner_0": 1}, "planner_0"),
        ({"planner_0": 1, "worker_0": 3}, "3 of worker_0"),
        ({"planner_0": -1, "worker_0": 0}, "-1 of planner_0"),
        ({"planner_0": 1, "worker_0": "2"}, "2"),
        ({"planner_0": 1, "worker_0": 1, "critic_0": 1}, "critic_0"),
    ):
        with pytest.raises(ActionError, match=message):
            team.step(actions)


def test_sample_and_task_id_are_kept() -> None:
    team = TeamPlanWork()
    _, infos = team.reset(seed=1, options={"task_id": "2", "sample": 5})
    assert {(info["task_id"], info["sample"]) for info in infos.values()} == {("2", 5)}
    for options, message in (({"task_id": "1"}, "task_id"), ({"anything": 1}, "anything")):
        with pytest.raises(ConfigError, match=message):
            team.reset(options=options)


def test_it_can_be_stopped_and_continued() -> None:
    team = TeamPlanWork()
    team.reset(seed=2)
    saved, twin, copied = team.snapshot(), pickle.loads(pickle.dumps(team)), copy.deepcopy(team)
    expected = play(team, 20)
    assert_same(play(twin, 20), expected)
    assert_same(play(copied, 20), expected)
    team.restore(pickle.loads(pickle.dumps(saved)))
    assert_same(play(team, 20), expected)
    over = TeamPlanWork()
    over.reset(seed=0)
    while over.agents:
        over.step({"planner_0": 0, "worker_0": 0})
    team.restore(over.snapshot())
    assert team.agents == []


def test_render_tells_where_the_episode_is() -> None:
    team = TeamPlanWork(render_mode="ansi")
    team.reset(seed=0, options={"task_id": "2"})
    assert team.render() == "start: hard, first try\nafter 0 decisions: hard, first try"
    assert TeamPlanWork().render() is None

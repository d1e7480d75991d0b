"""What a policy earns and costs, by playing it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextstep_agents.learning.evaluation import CHUNK, evaluate
from nextstep_agents.learning.stages import SingleStage, Stage, VectorStage
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.policies.trained import MLPPolicy
from nextstep_envs.tabular import DagRetries, TabularCMDP
from tests.agents.learning.worlds import Walk


def actor_for(stage: Stage) -> Actor:
    return Actor(stage.agents, MLPSettings(hidden=(8,)), torch.Generator().manual_seed(0))


def endless() -> TabularCMDP:
    return TabularCMDP(
        [[[0.5, 0.5], [0.9, 0.1]], [[1, 0], [0, 1]]], [[0, 1], [2, 0]], [[1, 0], [0, 1]], [1, 0], [2], 0.9
    )


@pytest.mark.parametrize(("problem", "gamma"), [(DagRetries(), 1.0), (endless(), 0.9)])
def test_the_intervals_hold_the_exact_values(problem: TabularCMDP, gamma: float) -> None:
    stage = VectorStage(problem.vector(64, max_episode_steps=100), problem.cost_names)
    actor = actor_for(stage)
    found, exact = evaluate(stage, actor, 3000, 1, gamma), problem.evaluate(MLPPolicy(actor))
    assert found["episodes"] == 3000 and found["masked_rate"] == 0 and found["cost_names"] == problem.cost_names
    low, high = found["return_interval"]
    width = high - low
    assert 0 < width < 0.4 and low - width < exact["return"] < high + width
    spread = np.diff(found["costs_interval"], axis=1)[:, 0]
    assert (np.abs(found["costs"] - exact["costs"]) < spread).all()
    np.testing.assert_allclose(found["costs_interval"].mean(1), found["costs"])


def test_equal_seeds_give_equal_numbers() -> None:
    stage = VectorStage(DagRetries().vector(16), DagRetries().cost_names)
    first, again, other = (evaluate(stage, actor_for(stage), CHUNK + 7, seed) for seed in (1, 1, 2))
    np.testing.assert_equal(again, first)
    assert other["return"] != first["return"]


def test_failed_episodes_count_only_as_failed() -> None:
    stage = SingleStage([Walk(fail=5)], ("cost",))
    found = evaluate(stage, actor_for(stage), 60, 0)
    assert 0 < found["episodes"] < 60 and found["masked_rate"] == pytest.approx(1 - found["episodes"] / 60)
    assert found["return"] == pytest.approx(found["costs"][0])
    nothing = evaluate(SingleStage([Walk(fail=10)], ("cost",)), actor_for(stage), 5, 0)
    assert nothing["episodes"] == 0 and nothing["masked_rate"] == 1
    assert np.isnan(nothing["return"]) and np.isnan(nothing["costs"]).all()


def test_costs_of_episodes_that_were_stopped_are_left_out() -> None:
    stage = SingleStage([Walk(length) for length in (1, 9)], ("cost",))
    found = evaluate(stage, actor_for(stage), 40, 0, max_decisions=4)
    assert found["episodes"] == 40 and found["costs"][0] <= 1
    assert found["costs"][0] < found["return"]  # which counts what the stopped ones earned


def test_the_likeliest_actions_are_another_policy() -> None:
    stage = SingleStage([Walk(20)], ("cost",))
    greedy = evaluate(stage, actor_for(stage), 10, 0, deterministic=True)
    drawn = evaluate(stage, actor_for(stage), 10, 0)
    assert greedy["return_interval"][0] == greedy["return_interval"][1] != drawn["return_interval"][0]

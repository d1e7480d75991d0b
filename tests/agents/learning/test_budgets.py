"""What a budget does to what is learned, whatever its units and however wrong it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextstep_agents.learning.constraints import make_constraints
from nextstep_agents.learning.learner import Learner, learn_round, make_learner
from nextstep_agents.learning.settings import make_learn_settings
from nextstep_agents.learning.stages import VectorStage
from nextstep_envs.tabular import TabularCMDP, TierRouting
from tests.agents.algorithms.exact import table

TIER = TierRouting()


def tiers(scale: float = 1.0, extra: float = 0.0, budget: float = 1.2) -> TabularCMDP:
    """TierRouting with its costs and budget scaled, `extra` added to the cost of every action."""
    return TabularCMDP(TIER.P, TIER.R, scale * (TIER.C + extra), TIER.mu, [scale * budget])


def learn(cmdp: TabularCMDP, algorithm: str, rounds: int, **settings: Any) -> tuple[Learner, dict[str, float]]:
    made = make_learn_settings(algorithm=algorithm, total_steps=rounds * 64, episodes=64, hidden=(), **settings)
    stage = VectorStage(cmdp.vector(64), cmdp.cost_names)
    constraints = make_constraints(cmdp.cost_limits, cmdp.cost_names, ("",))
    learner = make_learner(stage, made, constraints)
    metrics: dict[str, float] = {}
    for _ in range(rounds):
        metrics = learn_round(learner, stage, made, constraints, 1.0, 1.0)
        unknown = {name for name, value in metrics.items() if not np.isfinite(value)}
        assert unknown <= {"explained_variance"}  # of returns that do not vary
    return learner, metrics


@pytest.mark.parametrize("algorithm", ["ppo_lagrangian", "pid_lagrangian"])
def test_a_hundred_times_the_cost_and_the_budget_is_the_same_problem(algorithm: str) -> None:
    (small, at_small), (large, at_large) = (learn(tiers(scale), algorithm, 30) for scale in (1.0, 100.0))
    np.testing.assert_allclose(table(TIER, large.actor), table(TIER, small.actor), atol=1e-4)
    assert at_large["multiplier/cost"] == pytest.approx(at_small["multiplier/cost"] / 100, rel=1e-3)


@pytest.mark.parametrize("algorithm", ["ppo_lagrangian", "pid_lagrangian"])
def test_a_budget_that_nobody_can_keep_drives_the_cost_to_its_minimum(algorithm: str) -> None:
    multiplier = {"multiplier": {"most": 20.0}, "entropy": 0.0}
    learner, metrics = learn(tiers(extra=1.0, budget=0.5), algorithm, 150, learning_rate=0.03, **multiplier)
    exact = tiers(extra=1.0, budget=0.5).evaluate(table(TIER, learner.actor))
    assert exact["costs"] == pytest.approx([1.0], abs=0.1)  # the cheapest action of every state costs 1
    assert learner.memory["multipliers"] <= 20.0 and metrics["multiplier/cost"] > 5.0


@pytest.mark.parametrize("algorithm", ["ppo_lagrangian", "pid_lagrangian"])
def test_a_budget_that_does_not_bind_costs_nothing(algorithm: str) -> None:
    cmdp = tiers(budget=50.0)
    learner, metrics = learn(cmdp, algorithm, 200, learning_rate=0.03, entropy=0.005)
    exact = cmdp.evaluate(table(TIER, learner.actor))
    assert metrics["multiplier/cost"] == 0.0
    assert exact["return"] >= 0.98 * cmdp.optimum([np.inf])["return"]

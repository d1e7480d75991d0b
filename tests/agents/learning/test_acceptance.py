"""Trained policies against linear-programming optima, exactly evaluated; `benchmarks/cmdp.py` has the whole table."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_agents import train
from nextstep_envs.tabular import RetryStop, TabularCMDP, TierRouting


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("make", "steps"), [(TierRouting, 60_000), (RetryStop, 60_000)], ids=["tier", "retry"])
def test_defaults_find_the_optimum_within_the_budget(make: type[TabularCMDP], steps: int, seed: int) -> None:
    cmdp = make()  # type: ignore[call-arg]
    best = cmdp.optimum()
    tail = []

    def exact(played: object, policy: object) -> dict[str, float]:
        tail.append(cmdp.evaluate(policy))
        return {}

    result = train(cmdp, "pid_lagrangian", total_steps=steps, seed=seed, metrics=exact, quiet=True)
    tail = tail[-len(tail) // 5 :]
    assert np.mean([one["return"] for one in tail]) >= 0.96 * best["return"]
    assert np.mean([one["costs"] for one in tail]) <= 1.03 * cmdp.d[0]
    assert result.multipliers["spend"] == pytest.approx(best["multipliers"][0], rel=0.3)


def test_a_multiplier_that_hardly_moves_overspends() -> None:
    """A bad setting has to look bad."""
    cmdp = RetryStop()
    result = train(cmdp, "ppo_lagrangian", total_steps=30_000, multiplier={"rate": 0.002}, quiet=True)
    exact = cmdp.evaluate(result.policy)
    assert exact["costs"][0] > 1.1 * cmdp.d[0] and exact["return"] > cmdp.optimum()["return"]


def random_cmdp(seed: int, states: int = 8, actions: int = 4, horizon: int = 30) -> TabularCMDP:
    """Discounted, without an end of its own; what earns more costs more, and half of the range of costs is allowed."""
    rng = np.random.default_rng(seed)
    transitions = np.zeros((states, actions, states))
    for row in transitions.reshape(-1, states):
        row[rng.choice(states, 3, replace=False)] = rng.dirichlet(np.ones(3))
    reward = rng.random((states, actions))
    cost = rng.random((1, states, actions)) * (0.3 + reward)
    arrays = dict(mu=rng.dirichlet(np.ones(states)), gamma=0.95, horizon=horizon)
    most = TabularCMDP(transitions, reward, cost, d=[np.inf], **arrays).optimum()["costs"]
    least = TabularCMDP(transitions, -cost[0], cost, d=[np.inf], **arrays).optimum()["return"]
    return TabularCMDP(transitions, reward, cost, d=(most - least) / 2, **arrays)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo_lagrangian", "pid_lagrangian", "p3o", "macpo", "grpo", "reinforce_pp"])
def test_defaults_do_on_a_problem_that_they_were_not_made_for(algorithm: str) -> None:
    """Long discounted episodes leave few rounds: a slow multiplier, or one baseline for all times, fails here."""
    cmdp = random_cmdp(2)
    result = train(cmdp, algorithm, total_steps=100_000, cost_limits=cmdp.d.tolist(), quiet=True)
    exact, best = cmdp.evaluate(result.policy), cmdp.optimum()
    assert exact["return"] >= (0.9 if algorithm == "macpo" else 0.93) * best["return"]  # it takes small steps
    assert exact["costs"][0] <= 1.05 * cmdp.d[0]

"""The published optima, to four decimals, and what makes them optima."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import DagRetries, JointPlanWork, RetryStop, TabularCMDP, TierRouting, solve
from tests.envs.tabular.cases import PROBLEMS, loop, one_shot, uniform

EXACT = 5e-5  # four decimals
INF = float("inf")

PUBLISHED = [
    (TierRouting, 0.7125, [1.2], [0.2250]),
    (RetryStop, 0.7893, [3.0], [0.1685]),
    (DagRetries, 7.5289, [9.0, 0.25], [0.5680, 9.3205]),
    (JointPlanWork, 0.6991, [0.9, 1.6], [0.0723, 0.2511]),
]
UNCONSTRAINED = [
    (TierRouting, 0.9260, [5.0]),
    (RetryStop, 0.9833, [4.3687]),
    (DagRetries, 7.9978, [13.3318, 0.0400]),
    (JointPlanWork, 0.9400, [1.24, 3.10]),
]
UNIFORM = [
    (TierRouting, 0.5902, [2.0]),
    (RetryStop, 0.4950, [1.9940]),
    (DagRetries, 2.0559, [3.9857, 0.0638]),
    (JointPlanWork, 0.5320, [0.8383, 1.9561]),
]
SWEEP = [
    (TierRouting, 0.5, 0.4500, [0.9000]),
    (TierRouting, 1.0, 0.6600, [0.3000]),
    (TierRouting, 1.5, 0.7800, [0.2250]),
    (TierRouting, 2.0, 0.8383, [0.1167]),
    (TierRouting, 3.0, 0.8910, [0.0400]),
    (RetryStop, 1.0, 0.3500, [0.3500]),
    (RetryStop, 2.0, 0.6104, [0.2240]),
    (RetryStop, 3.0, 0.7893, [0.1685]),
    (RetryStop, 4.0, 0.9465, [0.1174]),
    (RetryStop, 5.0, 0.9833, [0.0]),
    (DagRetries, (6.0, 0.25), 5.7790, [0.6102, 8.2331]),
    (DagRetries, (9.0, 0.15), 6.5811, [0.5709, 9.5906]),
    (DagRetries, (9.0, INF), 7.8662, [0.1842, 0.0]),
    (DagRetries, (12.0, 0.25), 7.9965, [0.0021, 0.0]),
]
DETERMINISTIC = [(TierRouting, 0.6900), (RetryStop, 0.7500), (JointPlanWork, 0.6100)]


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else ""


@pytest.mark.parametrize(("problem", "best", "costs", "multipliers"), PUBLISHED, ids=name)
def test_the_published_optimum_under_the_default_budgets(
    problem: type[TabularCMDP], best: float, costs: list[float], multipliers: list[float]
) -> None:
    found = problem().optimum()
    assert found["return"] == pytest.approx(best, abs=EXACT)
    np.testing.assert_allclose(found["costs"], costs, atol=EXACT)
    np.testing.assert_allclose(found["multipliers"], multipliers, atol=EXACT)


@pytest.mark.parametrize(("problem", "best", "costs"), UNCONSTRAINED, ids=name)
def test_the_published_optimum_without_budgets(problem: type[TabularCMDP], best: float, costs: list[float]) -> None:
    env = problem()
    found = env.optimum(np.full(len(env.d), INF))
    assert found["return"] == pytest.approx(best, abs=EXACT)
    np.testing.assert_allclose(found["costs"], costs, atol=EXACT)
    assert not found["multipliers"].any()


@pytest.mark.parametrize(("problem", "value", "costs"), UNIFORM, ids=name)
def test_the_published_value_of_the_uniform_policy(
    problem: type[TabularCMDP], value: float, costs: list[float]
) -> None:
    env = problem()
    found = env.evaluate(uniform(env))
    assert found["return"] == pytest.approx(value, abs=EXACT + 1e-9)  # 0.59025 was published as 0.5902
    np.testing.assert_allclose(found["costs"], costs, atol=EXACT)


@pytest.mark.parametrize(("problem", "d", "best", "multipliers"), SWEEP, ids=name)
def test_the_published_budget_sweep(problem: type[TabularCMDP], d: Any, best: float, multipliers: list[float]) -> None:
    found = problem().optimum(d)
    assert found["return"] == pytest.approx(best, abs=EXACT)
    np.testing.assert_allclose(found["multipliers"], multipliers, atol=EXACT)
    assert problem(d=d).optimum()["return"] == found["return"]  # a budget given to the environment is the same


def test_the_published_leaks_where_that_budget_does_not_bind() -> None:
    assert DagRetries().optimum((9.0, INF))["costs"][1] == pytest.approx(0.2910, abs=EXACT)
    assert DagRetries().optimum((12.0, 0.25))["costs"][1] == pytest.approx(0.1190, abs=EXACT)


@pytest.mark.parametrize(("problem", "best"), DETERMINISTIC, ids=name)
def test_the_best_deterministic_policy_is_worse(problem: type[TabularCMDP], best: float) -> None:
    env = problem()
    table = np.eye(env.n_actions)
    values = [
        env.evaluate(table[list(choice)]) for choice in itertools.product(range(env.n_actions), repeat=env.n_states)
    ]
    kept = [value["return"] for value in values if (value["costs"] <= env.d + 1e-9).all()]
    assert max(kept) == pytest.approx(best, abs=EXACT)


def test_the_published_policies() -> None:
    tier = TierRouting().optimum()["policy"]
    np.testing.assert_allclose(tier, [[0, 1, 0, 0], [0, 0, 1, 0], [0.75, 0, 0.25, 0]], atol=EXACT)
    retry = RetryStop().optimum()["policy"]
    np.testing.assert_allclose(retry[0], [0, 0.5234, 0.4766], atol=EXACT)
    np.testing.assert_allclose(retry[1:5], [[0, 1, 0]] * 3 + [[1, 0, 0]], atol=EXACT)
    np.testing.assert_allclose(retry[5], 1 / 3)  # never reached: uniform
    team = JointPlanWork().optimum()["policy"]
    assert team[0, [4, 7]] == pytest.approx([0.8652, 0.1348], abs=EXACT)
    assert team[1, 7] == pytest.approx(1.0)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_optimal_policy_is_worth_what_the_program_says(problem: type[TabularCMDP]) -> None:
    env = problem()
    found = env.optimum()
    again = env.evaluate(found["policy"])
    assert again["return"] == pytest.approx(found["return"], abs=1e-9)
    np.testing.assert_allclose(again["costs"], found["costs"], atol=1e-9)
    np.testing.assert_allclose(found["policy"].sum(-1), 1.0)
    assert not found["policy"][~env.mask].any()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_multiplier_is_the_gain_of_one_more_unit_of_budget(problem: type[TabularCMDP]) -> None:
    env = problem()
    found = env.optimum()
    for k in range(len(env.d)):
        more = env.d + 1e-4 * np.eye(len(env.d))[k]
        gain = (env.optimum(more)["return"] - found["return"]) / 1e-4
        assert gain == pytest.approx(found["multipliers"][k], rel=1e-3)


def test_the_unit_of_a_cost_does_not_matter() -> None:
    env = TabularCMDP(**one_shot())
    scaled = TabularCMDP(**one_shot(C=100 * env.C, d=100 * env.d))
    np.testing.assert_allclose(scaled.optimum()["policy"], env.optimum()["policy"], atol=1e-9)
    np.testing.assert_allclose(100 * scaled.optimum()["multipliers"], env.optimum()["multipliers"], atol=1e-9)


def test_budgets_that_cannot_be_kept_are_named_with_the_least_that_can() -> None:
    env = TabularCMDP(**one_shot(d=[0.3]))
    with pytest.raises(ConfigError, match=r"d=\[0\.3\] is infeasible.*\[0\.375\]"):
        env.optimum()
    with pytest.raises(ConfigError, match=r"d=\[0\.1\]"):
        env.optimum(0.1)
    assert env.optimum(0.375)["costs"] == pytest.approx([0.375])


def test_budgets_that_only_together_cannot_be_kept() -> None:
    either = [[[1.0, 0.0]], [[0.0, 1.0]]]  # the first action costs the one, the second the other
    env = TabularCMDP(np.zeros((1, 2, 1)), np.ones((1, 2)), either, [1.0], [0.4, 0.4])
    with pytest.raises(ConfigError, match="at once"):
        env.optimum()
    assert env.optimum([0.4, 0.6])["return"] == pytest.approx(1.0)


@pytest.mark.parametrize("d", [[1.0], [1.0, 2.0, 3.0], [1.0, -1.0], [1.0, float("nan")], "much", []])
def test_a_budget_that_makes_no_sense_is_named(d: Any) -> None:
    with pytest.raises(ConfigError, match="d="):
        TabularCMDP(**loop()).optimum(d)


def test_where_the_simplex_gives_up_another_method_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = []

    def gives_up(method: str, **program: Any) -> Any:
        result = linprog(method=method, **program)
        answered.append(method)
        if method in refused:
            result.status, result.message = 4, "numerical difficulties"
        return result

    monkeypatch.setattr(solve, "linprog", gives_up)
    refused = ["highs"]
    assert RetryStop().optimum()["return"] == pytest.approx(0.7893, abs=EXACT)
    assert answered == ["highs", "highs-ipm"]
    refused = ["highs", "highs-ipm"]
    with pytest.raises(RuntimeError, match="numerical difficulties"):
        RetryStop().optimum()

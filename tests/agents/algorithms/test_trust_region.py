"""Constrained trust-region steps against other solvers, the closed form of one constraint, and every edge of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from nextstep_agents.algorithms.trust_region import (
    Step,
    constrained_step,
)
from tests.agents.algorithms.steps import F64, IDENTITY, Problem, closed_form

# --- the solution ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0, 1, 2, 3, 4])
def test_a_step_is_certified_by_the_optimality_conditions(m: int) -> None:
    cases = set()
    for seed in range(200):
        p = Problem(seed, m)
        step = p.step()
        if step.case == "recovery":
            continue
        cases.add(step.case)
        x, nu = step.x.numpy(), step.nu.numpy()
        reach = np.sqrt(2 * p.delta * p.s)
        worth = math.sqrt(2 * p.delta * p.g @ np.linalg.solve(p.H, p.g))
        assert x @ p.H @ x / 2 <= p.delta * (1 + 1e-6)
        assert np.all((p.c + p.b @ x) / reach <= 1e-7)
        assert step.lambda_ >= 0 and np.all(nu >= 0)
        assert np.abs(nu * (p.c + p.b @ x)).sum() <= 1e-6 * worth  # a price only where the budget binds
        assert step.lambda_ * (2 * p.delta - x @ p.H @ x) <= 1e-6 * worth
        gap = p.g - step.lambda_ * p.H @ x - p.b.T @ nu
        assert np.linalg.norm(gap) <= 1e-6 * np.linalg.norm(p.g)
        assert (step.case == "constrained") == bool(np.any(nu > 0))
    assert cases == ({"reward"} if m == 0 else {"reward", "constrained"})


@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_step_is_as_good_as_slsqp_finds_and_recovers_only_where_there_is_none(m: int) -> None:
    seen = {"reward": 0, "constrained": 0, "recovery": 0}
    for seed in range(150):
        p = Problem(seed, m)
        step, violation = p.step(), p.least_violation()
        seen[step.case] += 1
        assert (step.case == "recovery") == (violation > 0)
        if step.case == "recovery":
            continue
        x, best = step.x.numpy(), p.slsqp(p.scaled())
        worth = math.sqrt(2 * p.delta * p.g @ np.linalg.solve(p.H, p.g))
        assert p.g @ x == pytest.approx(p.g @ best, abs=2e-6 * worth)
    assert min(seen.values()) >= 5


def test_one_constraint_has_the_closed_form() -> None:
    for seed in range(300):
        p = Problem(seed, 1)
        step = p.step()
        solve = np.linalg.solve(p.H, np.column_stack([p.g, p.b[0]]))
        q, r, s, c = p.g @ solve[:, 0], p.g @ solve[:, 1], p.s[0], p.c[0]
        radius = math.sqrt(2 * p.delta)
        if step.case == "recovery":
            expected = -radius / math.sqrt(s) * solve[:, 1]
            assert c > radius * math.sqrt(s)
        elif c**2 / s > 2 * p.delta:
            expected = radius / math.sqrt(q) * solve[:, 0]
            assert step.case == "reward" and c < 0
        else:
            lambda_, nu = closed_form(q, r, s, c, p.delta)
            expected = (solve[:, 0] - nu * solve[:, 1]) / lambda_
            assert step.lambda_ == pytest.approx(lambda_, rel=1e-6)
            assert float(step.nu[0]) == pytest.approx(nu, rel=1e-5, abs=1e-6 * q / math.sqrt(s * q))
        np.testing.assert_allclose(step.x, expected, atol=1e-6 * np.linalg.norm(expected))


def test_without_constraints_the_step_is_that_of_trpo() -> None:
    p = Problem(3, 0)
    newton = np.linalg.solve(p.H, p.g)
    np.testing.assert_allclose(p.step().x, math.sqrt(2 * p.delta / (p.g @ newton)) * newton, rtol=1e-6)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_units_of_reward_and_costs_do_not_change_the_step(m: int) -> None:
    for seed in range(40):
        p = Problem(seed, m)
        plain = p.step()
        price = 10.0 ** np.random.default_rng(seed).integers(-6, 7, size=m)
        p.g, p.b, p.c = p.g * 1e5, p.b * price[:, None], p.c * price
        scaled = p.step()
        assert scaled.case == plain.case
        np.testing.assert_allclose(scaled.x, plain.x, atol=1e-6 * float(plain.x.norm()))
        np.testing.assert_allclose(scaled.nu.numpy() * price, plain.nu.numpy() * 1e5, rtol=1e-4, atol=1e-6)


def test_constraints_hold_even_if_conjugate_gradients_stop_early() -> None:
    kept = 0
    for seed in range(60):
        p = Problem(seed, 2, dimension=40)
        step = p.step(iterations=2)
        x = step.x.numpy()
        assert x @ p.H @ x / 2 <= p.delta * (1 + 1e-6)
        if step.case != "recovery":
            kept += 1
            assert np.all((p.c + p.b @ x) / np.sqrt(2 * p.delta * p.s) <= 1e-7)
    assert kept > 20


def test_single_precision_is_enough() -> None:
    for seed in range(60):
        p = Problem(seed, 2)
        exact, step = p.step(), p.step(torch.float32)
        assert step.x.dtype == torch.float32
        if step.case == exact.case == "constrained":
            x = step.x.double().numpy()
            assert x @ p.H @ x / 2 <= p.delta * (1 + 1e-3)
            assert np.all((p.c + p.b @ x) / np.sqrt(2 * p.delta * p.s) <= 1e-3)
            assert p.g @ x >= p.g @ exact.x.numpy() - 1e-2 * abs(p.g @ exact.x.numpy())


# --- edges, in the plane with H = 1 and a trust region of radius 1 ---------------------------------------------------


def plane(g: list[float], b: list[list[float]], c: list[float]) -> Step:
    costs = torch.tensor(b, dtype=F64).reshape(len(b), 2)
    return constrained_step(torch.tensor(g, dtype=F64), costs, c, IDENTITY, 0.5)


@pytest.mark.parametrize(
    ("g", "b", "c", "case", "x"),
    [
        ([2, 0], [[1, 0]], [-0.6], "constrained", None),  # stops at the boundary: any x with x0 = .6
        ([2, 2], [[1, 0]], [0.0], "constrained", [0, 1]),  # on the boundary: along it
        ([2, 0], [[1, 0]], [0.0], "constrained", [0, 0]),  # on the boundary, with nowhere to go
        ([0, 3], [[1, 0]], [0.6], "constrained", [-0.6, 0.8]),  # back within the budget, and uphill
        ([-3, 0], [[1, 0]], [0.6], "reward", [-1, 0]),  # what pays also gets back within the budget
        ([3, 4], [[1, 0]], [1.5], "recovery", [-1, 0]),  # the reward is ignored
        ([3, 4], [[1, 0]], [-1.5], "reward", [0.6, 0.8]),  # the budget is out of reach
        ([3, 4], [[0, 0]], [-0.1], "reward", [0.6, 0.8]),  # nothing changes the cost, and it is fine
        ([3, 4], [[0, 0]], [0.0], "reward", [0.6, 0.8]),
        ([3, 4], [[1e-300, 0]], [-0.1], "reward", [0.6, 0.8]),
        ([3, 4], [[0, 0]], [0.1], "recovery", [0, 0]),  # nothing changes the cost, and it is not
        ([3, 4], [[1, 0]], [-math.inf], "reward", [0.6, 0.8]),  # no budget
        ([0, 0], [[1, 0]], [-0.5], "reward", [0, 0]),  # no gradient at all
        ([0, 0], [[1, 0]], [0.6], "constrained", [-0.6, 0]),  # only the way back
        ([0, 0], [[0, 0]], [0.5], "recovery", [0, 0]),
        ([0, 5], [[1, 0], [1, 0]], [0.6, 0.6], "constrained", [-0.6, 0.8]),  # one constraint, said twice
        ([5, 5], [[1, 0], [-1, 0]], [-0.6, 0.6], "constrained", [0.6, 0.8]),  # two sides of an equality
        ([5, 5], [[1, 0], [0, 1]], [-0.1, -0.2], "constrained", [0.1, 0.2]),  # a corner
        ([0, 5], [[0, 0], [1, 0]], [-1.0, 0.6], "constrained", [-0.6, 0.8]),  # an empty constraint beside another
        ([5, 0], [[1, 0], [-1, 0]], [0.5, 0.5], "recovery", [0, 0]),  # each cost falls only as the other rises
        ([5, 0], [[1, 0], [0, 1]], [3.0, 4.0], "recovery", [-0.6, -0.8]),  # equal shares of both violations
        ([5, 0], [[1, 0], [0, 1]], [1.5, -2.0], "recovery", [-1, 0]),
        ([5, 0], [[1, 0], [-0.8, -0.6]], [1.5, 0.0], "recovery", [-0.6, 0.8]),  # and what holds keeps holding
        ([5, 0], [[0, 0], [0, 2]], [0.1, 6.0], "recovery", [0, -1]),  # what can be recovered is
    ],
)
def test_edges(g: list[float], b: list[list[float]], c: list[float], case: str, x: list[float] | None) -> None:
    step = plane(g, b, c)
    assert step.case == case
    if x is None:
        assert float(step.x[0]) == pytest.approx(0.6)
    else:
        np.testing.assert_allclose(step.x, x, atol=1e-7)
        assert bool(step.x.any()) == any(x)  # a step to nowhere is exactly 0
    assert bool(torch.isfinite(step.x).all()) and bool(torch.isfinite(step.nu).all()) and math.isfinite(step.lambda_)
    assert step.nu.shape == (len(b),)


def test_the_price_of_a_budget_is_the_reward_it_would_buy() -> None:
    def reward(c: float) -> float:
        return float(torch.tensor([1.0, 2.0], dtype=F64) @ plane([1, 2], [[3, 1]], [c]).x)

    step = plane([1, 2], [[3, 1]], [-0.3])
    assert float(step.nu[0]) == pytest.approx((reward(-0.3 - 1e-6) - reward(-0.3 + 1e-6)) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_prices_are_the_least_squares_multipliers_whatever_the_excess(m: int) -> None:
    """The nu >= 0 that minimises |g - sum_k nu_k b_k| in H^-1; by another solver."""
    cases = set()
    for seed in range(40):
        p = Problem(seed, m)
        half = np.linalg.inv(np.linalg.cholesky(p.H))
        scale = np.linalg.norm(p.b @ half.T, axis=1)
        expected = nnls((p.b @ half.T).T / scale, half @ p.g)[0]
        step = p.step()
        cases.add(step.case)
        np.testing.assert_allclose(
            step.price.numpy() * scale, expected, rtol=1e-6, atol=1e-7 * np.linalg.norm(p.g @ half)
        )
    assert cases == {"reward", "constrained", "recovery"}


def test_no_budget_has_no_price() -> None:
    assert plane([1, 2], [[3, 1]], [-math.inf]).price.tolist() == [0.0]


def test_a_reward_almost_against_a_tight_budget_is_climbed_along_it() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        p = Problem(seed, 1, dimension=5)
        p.g, p.c = p.b[0] * (1 + 10 ** rng.uniform(-9, -6) * rng.normal(size=5)), np.zeros(1)
        step = p.step()
        x = step.x.numpy()
        assert step.case == "constrained"
        assert x @ p.H @ x / 2 == pytest.approx(p.delta, rel=1e-6)
        assert p.b[0] @ x / math.sqrt(2 * p.delta * p.s[0]) <= 1e-8


def test_a_price_is_given_even_where_constraints_leave_a_single_point() -> None:
    step = plane([3, 0], [[-1, 0], [1, 0]], [0.0, 0.0])
    assert step.case == "constrained" and step.nu.tolist() == pytest.approx([0, 3])


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_gradients_may_be_tiny_or_huge_in_single_precision(scale: float) -> None:
    g, b = torch.tensor([3.0, 4.0]) * scale, torch.tensor([[1.0, 0.0]]) * scale
    step = constrained_step(g, b, [-0.5 * scale], IDENTITY, 0.5)
    np.testing.assert_allclose(step.x, [0.5, math.sqrt(0.75)], atol=1e-5)


# --- recovery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3])
def test_recovery_takes_the_largest_common_fraction_off_all_violations(m: int) -> None:
    lowered = 0
    for seed in range(120):
        p = Problem(seed, m)
        p.c = np.random.default_rng(seed).uniform(-0.3, 2.0, size=m) * np.sqrt(2 * p.delta * p.s)
        step = p.step()
        if step.case != "recovery":
            continue
        x, reach, violated = step.x.numpy(), np.sqrt(2 * p.delta * p.s), p.c > 0
        assert x @ p.H @ x / 2 <= p.delta * (1 + 1e-6)
        assert np.all((p.c + p.b @ x)[~violated] / reach[~violated] <= 1e-7)
        fraction = float(np.min((-p.b @ x / p.c)[violated]))
        fall, p.c = np.where(violated, p.c, 0.0), np.where(violated, 0.0, p.c)
        best = p.slsqp(np.eye(len(p.g) + 1)[-1], fall)
        assert fraction == pytest.approx(best[-1], abs=1e-5)
        lowered += fraction > 1e-3
    assert lowered > 15

"""Constrained trust-region steps against other solvers, the closed form of one constraint, and every edge of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from nextstep_agents.algorithms.trust_region import (
    Product,
    Step,
    assign,
    categorical_kl,
    conjugate_gradient,
    constrained_step,
    fisher_product,
    flat,
    gaussian_kl,
    line_search,
)
from nextstep_agents.algorithms.update import TrainingError
from nextstep_envs.errors import ConfigError

F64 = torch.float64
IDENTITY: Product = lambda v: v  # noqa: E731


class Problem:
    """A random step problem: of every kind, in any units, and each constraint by itself mostly within reach."""

    def __init__(self, seed: int, m: int, dimension: int | None = None) -> None:
        rng = np.random.default_rng([seed, m])
        n = dimension or int(rng.integers(max(m, 2), 9))
        root = rng.normal(size=(n, n))
        self.H = root @ root.T + 0.1 * np.eye(n)
        self.delta = float(10 ** rng.uniform(-3, -1))
        self.g = rng.normal(size=n) * 10 ** rng.uniform(-2, 2)
        self.b = rng.normal(size=(m, n)) * 10 ** rng.uniform(-2, 2, size=(m, 1))
        self.s = np.array([row @ np.linalg.solve(self.H, row) for row in self.b])
        self.c = rng.uniform(-1.5, 1.2, size=m) * np.sqrt(2 * self.delta * self.s)

    def product(self, v: Tensor) -> Tensor:
        return torch.as_tensor(self.H).to(v) @ v

    def step(self, dtype: torch.dtype = F64, iterations: int = 50) -> Step:
        gradients = torch.as_tensor(self.g).to(dtype), torch.as_tensor(self.b).to(dtype)
        return constrained_step(*gradients, self.c, self.product, self.delta, iterations=iterations)

    def slsqp(self, objective: np.ndarray, fall: np.ndarray | None = None) -> np.ndarray:
        """The x with the largest objective.y, y = L'x / sqrt(2 delta) and H = LL'.

        With `fall`, the (x, u) with the largest objective.(y, u) and c + b x + u fall <= 0.
        """
        n, radius = len(self.g), math.sqrt(2 * self.delta)
        lower = np.linalg.cholesky(self.H)
        rows = np.linalg.solve(lower, self.b.T).T
        size = np.linalg.norm(rows, axis=1)
        rows, level = rows / size[:, None], self.c / size / radius
        free = np.zeros_like(level) if fall is None else fall / size / radius
        tail = np.zeros(0 if fall is None else 1)
        constraints = [
            {"type": "ineq", "fun": lambda y: 1 - y[:n] @ y[:n], "jac": lambda y: np.concatenate([-2 * y[:n], tail])},
            {
                "type": "ineq",
                "fun": lambda y: -level - rows @ y[:n] - (free * y[n] if len(y) > n else 0),
                "jac": lambda y: np.column_stack([-rows, -free]) if len(y) > n else -rows,
            },
        ]
        result = minimize(
            lambda y: -objective @ y, np.concatenate([np.zeros(n), tail]), jac=lambda y: -objective,
            constraints=constraints, method="SLSQP", options={"maxiter": 500, "ftol": 1e-13},
        )  # fmt: skip
        x = radius * np.linalg.solve(lower.T, result.x[:n])
        return np.concatenate([x, result.x[n:]])

    def scaled(self) -> np.ndarray:
        """The objective in the unit ball."""
        transformed = np.linalg.solve(np.linalg.cholesky(self.H), self.g)
        return transformed / np.linalg.norm(transformed)

    def least_violation(self) -> float:
        """Smallest t such that some step in the trust region meets every constraint up to t, in trust-region units."""
        reach = np.sqrt(2 * self.delta * self.s)
        n = len(self.g)
        lower = np.linalg.cholesky(self.H)
        rows = np.linalg.solve(lower, self.b.T).T / np.sqrt(self.s)[:, None]
        start = np.concatenate([np.zeros(n), [max(0.0, (self.c / reach).max())]])
        result = minimize(
            lambda y: y[n], start, jac=lambda y: np.eye(n + 1)[n], method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-13},
            constraints=[
                {"type": "ineq", "fun": lambda y: 1 - y[:n] @ y[:n]},
                {"type": "ineq", "fun": lambda y: y[n] - self.c / reach - rows @ y[:n]},
            ],
        )  # fmt: skip
        return float(result.x[n])


def closed_form(q: float, r: float, s: float, c: float, delta: float) -> tuple[float, float]:
    """Lambda and nu of Achiam et al. (2017), appendix 10.2, for a feasible problem with one binding constraint."""
    a, b = q - r**2 / s, 2 * delta - c**2 / s
    split = -r / c if c else math.inf * r
    split = max(split, 0.0)
    inner, outer = (0.0, split), (split, math.inf)
    region_a, region_b = (inner, outer) if c < 0 else (outer, inner)

    def project(value: float, region: tuple[float, float]) -> float:
        return min(max(value, region[0]), region[1])

    l_a, l_b = project(math.sqrt(a / b), region_a), project(math.sqrt(q / (2 * delta)), region_b)
    f_a = -0.5 * (a / l_a + b * l_a) + r * c / s if l_a else -math.inf
    f_b = -0.5 * (q / l_b + 2 * delta * l_b) if l_b else -math.inf
    best = l_a if f_a >= f_b else l_b
    return best, (max(0.0, (best * c + r) / s) if f_a >= f_b else 0.0)


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


# --- the line search ------------------------------------------------------------------------------------------------

STEP = Step(torch.ones(3), "constrained", 1.0, torch.ones(1, dtype=F64), torch.ones(1, dtype=F64))


def trial(
    kl: float = 0.0, reward: float = 1.0, costs: tuple[float, ...] = (0.0,), step: Step = STEP, c: float = -1.0
) -> bool:
    """Whether a step with these effects is accepted at once."""
    excess = [c] * len(costs)
    return line_search(lambda x: (kl, reward, costs), step, excess, kl_limit=0.1, attempts=1) is not None


def test_a_step_is_accepted_that_improves_and_keeps_its_limits() -> None:
    assert trial(kl=0.1, reward=1e-9, costs=(1.0,))
    assert not trial(kl=0.1001)
    assert not trial(reward=0.0)
    assert not trial(costs=(1.001,))
    assert not trial(costs=(0.5, 1.1))
    assert trial(costs=())


def test_a_violated_cost_has_to_fall_and_then_reward_may_too() -> None:
    recovery = replace(STEP, case="recovery")
    for step in (STEP, recovery):
        assert trial(reward=-5.0, costs=(-0.1,), step=step, c=0.5)
        assert not trial(reward=5.0, costs=(0.0,), step=step, c=0.5)
        assert not trial(reward=5.0, costs=(-0.1, 0.1), step=step, c=0.5)
        assert trial(costs=(-0.1, 0.0), step=step, c=0.5)


@pytest.mark.parametrize("values", [(math.nan, 1.0, 0.0), (0.0, math.nan, 0.0), (0.0, 1.0, math.nan)])
def test_what_is_not_a_number_is_not_accepted(values: tuple[float, float, float]) -> None:
    kl, reward, cost = values
    assert not trial(kl, reward, (cost,))
    assert not trial(kl, reward, (cost,), c=0.5)


def test_the_search_shortens_the_step_until_it_passes() -> None:
    tried: list[float] = []

    def evaluate(x: Tensor) -> tuple[float, float, list[float]]:
        size = float(x[0])
        tried.append(size)
        return size**2, size, [size]

    accepted = line_search(evaluate, STEP, [-0.3], kl_limit=0.2)
    assert accepted is not None and accepted.tries == 3 and tried == [1.0, 0.5, 0.25]
    torch.testing.assert_close(accepted.x, torch.full((3,), 0.25))
    assert (accepted.kl, accepted.reward_change, accepted.cost_changes.tolist()) == (0.0625, 0.25, [0.25])
    tried.clear()
    assert line_search(evaluate, STEP, [-0.3], kl_limit=0.2, beta=0.9, attempts=4) is None
    assert tried == pytest.approx([1, 0.9, 0.81, 0.729])


def test_a_step_of_length_zero_is_not_tried() -> None:
    def evaluate(x: Tensor) -> tuple[float, float, list[float]]:
        raise AssertionError("evaluated")

    zero = replace(STEP, x=torch.zeros(3), case="recovery")
    assert line_search(evaluate, zero, [1.0], kl_limit=0.1) is None


# --- conjugate gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_conjugate_gradients_solve_a_system_in_as_many_products_as_it_has_dimensions(
    dtype: torch.dtype, error: float
) -> None:
    for seed in range(20):
        p = Problem(seed, 0, dimension=10)
        p.H += np.eye(10)  # a condition number of about 50
        x = conjugate_gradient(p.product, torch.as_tensor(p.g).to(dtype), iterations=12)
        np.testing.assert_allclose(x, np.linalg.solve(p.H, p.g), atol=error * np.linalg.norm(p.g))


def test_conjugate_gradients_stop_when_they_are_done() -> None:
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return v * torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=F64)

    b = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64)
    torch.testing.assert_close(conjugate_gradient(product, b), b / torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=F64))
    assert len(calls) == 2  # two different eigenvalues
    assert not conjugate_gradient(product, torch.zeros(4, dtype=F64)).any() and len(calls) == 2


def test_a_singular_system_is_solved_where_it_can_be() -> None:
    p = np.array([0.5, 0.3, 0.2])
    fisher = torch.as_tensor(np.diag(p) - np.outer(p, p))
    b = torch.tensor([1.0, -0.25, -0.75], dtype=F64)  # in its range
    x = conjugate_gradient(lambda v: fisher @ v, b)
    torch.testing.assert_close(fisher @ x, b)


def test_no_curvature_along_a_gradient_is_an_error() -> None:
    with pytest.raises(TrainingError, match="raise damping"):
        conjugate_gradient(lambda v: -v, torch.ones(2))


# --- the divergence and its Hessian ---------------------------------------------------------------------------------


def test_the_divergence_of_categorical_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]), torch.tensor([[0.2, 0.2, 0.6], [0.25, 0.75, 0.0]])
    expected = [0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3), math.log(4)]
    torch.testing.assert_close(categorical_kl(p.log(), q.log()), torch.tensor(expected))
    assert not categorical_kl(p.log(), p.log()).any()
    assert torch.isinf(categorical_kl(q.log(), p.log())[1])


def test_the_divergence_has_a_gradient_where_actions_are_masked() -> None:
    for reverse in (False, True):
        logits = torch.tensor([0.4, -math.inf, 0.1], dtype=F64, requires_grad=True)
        old = torch.tensor([0.0, -math.inf, 0.0], dtype=F64).log_softmax(-1)
        new = logits.log_softmax(-1)
        (categorical_kl(new, old) if reverse else categorical_kl(old, new)).backward()
        assert logits.grad is not None and bool(torch.isfinite(logits.grad).all()) and logits.grad[0] > 0


def test_the_divergence_of_gaussians_is_that_of_torch() -> None:
    torch.manual_seed(1)
    mean, new_mean, log_std, new_log_std = torch.randn(5, 3), torch.randn(5, 3), torch.randn(3), torch.randn(3)
    old = torch.distributions.Normal(mean, log_std.exp())
    new = torch.distributions.Normal(new_mean, new_log_std.exp())
    expected = torch.distributions.kl_divergence(old, new).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std, new_mean, new_log_std), expected)
    assert not gaussian_kl(mean, log_std, mean, log_std).any()


def test_the_product_is_that_with_the_fisher_information_of_a_softmax() -> None:
    logits = torch.nn.Parameter(torch.tensor([[0.3, -1.2, 2.0], [5.0, 0.0, -5.0]], dtype=F64))

    def mean_kl() -> Tensor:
        new = logits.log_softmax(-1)
        return categorical_kl(new.detach(), new).mean()

    product = fisher_product(mean_kl, [logits], damping=0.25)
    blocks = [(torch.diag(p) - torch.outer(p, p)) / 2 for p in logits.detach().softmax(-1)]
    expected = torch.block_diag(*blocks) + 0.25 * torch.eye(6, dtype=F64)
    columns = torch.stack([product(v) for v in torch.eye(6, dtype=F64)])
    torch.testing.assert_close(columns, expected, atol=1e-14, rtol=0)
    assert not columns.requires_grad


def test_the_product_of_a_network_is_that_with_its_fisher_information_masked_actions_included() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    unused = torch.nn.Parameter(torch.ones(2, dtype=F64))
    states = torch.randn(7, 4, dtype=F64)
    illegal = torch.zeros(7, 3, dtype=torch.bool)
    illegal[:3, 1] = True
    parameters = [*network.parameters(), unused]

    def log_probs() -> Tensor:
        return network(states).masked_fill(illegal, -math.inf).log_softmax(-1)

    old = log_probs().detach()
    product = fisher_product(lambda: categorical_kl(old, log_probs()).mean(), parameters, damping=0.0)
    size = flat(parameters).numel()
    fisher = torch.zeros(size, size, dtype=F64)
    for state in range(7):  # E[score score'], action by action
        for action in (~illegal[state]).nonzero()[:, 0]:
            score = torch.autograd.grad(
                log_probs()[state, action], parameters, allow_unused=True, materialize_grads=True
            )
            fisher += old[state, action].exp() * torch.outer(flat(score), flat(score)) / 7
    columns = torch.stack([product(v) for v in torch.eye(size, dtype=F64)])
    torch.testing.assert_close(columns, fisher, atol=1e-12, rtol=0)


def test_a_step_moves_a_softmax_policy_by_the_trust_region() -> None:
    logits = torch.nn.Parameter(torch.tensor([0.5, -0.3, 0.1, 0.0], dtype=F64))
    old = logits.detach().log_softmax(-1)
    rewards, costs = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=F64), torch.tensor([1.0, 5.0, 0.0, 1.0], dtype=F64)

    def value(of: Tensor) -> Tensor:
        return logits.softmax(-1) @ of

    product = fisher_product(lambda: categorical_kl(old, logits.log_softmax(-1)), [logits], damping=1e-6)
    g, b = (torch.autograd.grad(value(of), logits)[0] for of in (rewards, costs))
    before = value(costs).item()
    delta = 1e-5
    step = constrained_step(g, b[None], [-1e-4], product, delta)
    assert step.case == "constrained"
    assign([logits], flat([logits]).detach() + step.x)
    assert categorical_kl(old, logits.log_softmax(-1)).item() == pytest.approx(delta, rel=0.02)
    assert value(costs).item() - before == pytest.approx(1e-4, abs=2e-5)


def test_parameters_as_a_vector_and_back() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    vector = flat(parameters).detach()
    assert vector.tolist() == [1.0] * 6 + [0.0] * 4
    assign(parameters, vector + 1)
    assert torch.equal(flat(parameters), vector + 1) and parameters[0].shape == (2, 3)
    other = torch.zeros(10)
    assign(parameters, other)
    other += 7  # must not reach the policy
    assert not flat(parameters).any()
    with pytest.raises(ConfigError, match="10 parameters"):
        assign(parameters, torch.zeros(1))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "c", "delta", "error", "match"),
    [
        ([[1.0, 0.0]], [0.0, 1.0], 0.5, ConfigError, "shapes"),
        ([[1.0, 0.0, 0.0]], [0.0], 0.5, ConfigError, "shapes"),
        ([[1.0, 0.0]], [0.0], 0.0, ConfigError, "delta=0.0"),
        ([[1.0, 0.0]] * 11, [0.0] * 11, 0.5, ConfigError, "11 constraints"),
        ([[math.nan, 0.0]], [0.0], 0.5, TrainingError, "cost_gradients"),
        ([[1.0, 0.0]], [math.nan], 0.5, TrainingError, "excess"),
        ([[1.0, 0.0]], [math.inf], 0.5, TrainingError, "excess"),
    ],
)
def test_bad_input_is_named(
    b: list[list[float]], c: list[float], delta: float, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        constrained_step(torch.ones(2), torch.tensor(b), c, IDENTITY, delta)


def test_a_line_search_checks_its_settings_and_what_it_is_told() -> None:
    with pytest.raises(ConfigError, match=r"beta=1\.0"):
        line_search(lambda x: (0.0, 1.0, [0.0]), STEP, [0.0], 0.1, beta=1.0)
    with pytest.raises(ConfigError, match="cost changes"):
        line_search(lambda x: (0.0, 1.0, 0.0), STEP, [0.0], 0.1)

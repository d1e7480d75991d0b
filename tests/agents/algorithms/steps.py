"""Random constrained trust-region steps, and what other solvers make of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from nextstep_agents.algorithms.trust_region import (
    Product,
    Step,
    constrained_step,
)

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

"""What could be reached in hindsight, knowing who is right: bounds, never targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from nextstep_agents.recorded.play import Flags, Integers, Played, Values
from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.qa.world import QuestionWorld


def any_correct(world: QuestionWorld, rows: Integers) -> Played:
    """For each question the cheapest worker who is right; where none is, the cheapest of all."""
    can, usd = world.can_ask[rows], world.answers.usd[rows]
    good = world.answers.correct[rows] & can
    solved: Flags = np.asarray(good.any(1))
    price: Values = np.asarray(np.where(np.where(solved[:, None], good, can), usd, np.inf).min(1))
    return Played(solved.astype(np.float64), np.where(np.isfinite(price), price, 0.0))


def budgeted_optimum(world: QuestionWorld, rows: Integers, budget: float) -> float:
    r"""The best accuracy of exactly one call a question under a mean budget B.

    $$\max_x \sum_{q,w} x_{qw} r_{qw} / n \quad \text{s.t.} \sum_w x_{qw} = 1,\; \sum_{q,w} x_{qw} c_{qw} \le n B$$

    over the workers that can be asked; questions that nobody can be asked about count as wrong and cost nothing.
    Solved exactly, by HiGHS.

    Raises:
        ConfigError: the budget is less than the cheapest calls cost.
    """
    question, worker = np.nonzero(world.can_ask[rows])
    worth = world.answers.correct[rows][question, worker].astype(np.float64)
    cost = world.answers.usd[rows][question, worker]
    n, asked, number = len(rows), *np.unique(question, return_inverse=True)
    once: Any = csr_array((np.ones(len(question)), (number, np.arange(len(question)))), (len(asked), len(question)))
    spend: Any = csr_array(cost[None, :] / (n * budget))
    found: Any = linprog(
        -worth, A_ub=spend, b_ub=[1.0], A_eq=once, b_eq=np.ones(len(asked)), bounds=(0, 1), method="highs"
    )
    if not found.success:
        raise ConfigError(f"budget={budget}: no plan of one call a question fits ({found.message})")
    return float(-found.fun / n)

"""What routers believe: how likely each worker is right, learnt from training questions and read off any question."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from nextstep_agents.recorded.play import Integers, Values
from nextstep_envs.recorded.estimates import FARTHEST, PARTS, inputs
from nextstep_envs.worlds.qa.world import QuestionWorld

Reader = Callable[[QuestionWorld, Integers], Values]
BUCKETS = 512
PART = 512  # questions compared at a time


def by_category(world: QuestionWorld, rows: Integers) -> Values:
    """The share of training questions of the category that each worker got right, [Q, W]."""
    answers = world.answers
    level = np.empty((len(answers.categories), len(answers.models)))
    for c in range(len(level)):
        here = rows[answers.category[rows] == c]
        can = world.can_ask[here]
        level[c] = ((answers.correct[here] & can).sum(0) + 1) / (can.sum(0) + 2)
    return level[answers.category]


def by_neighbours(world: QuestionWorld, rows: Integers, k: int = 60) -> Values:
    """The mean over the k most similar training questions, by the cosine of hashed words and pairs, [Q, W]."""
    answers = world.answers
    table, right = answers.question_hashes(BUCKETS), (answers.correct & world.can_ask).astype(np.float64)
    out = np.empty(answers.code.shape)
    k = min(k, len(rows) - 1)
    own = np.full(len(out), -1)
    own[rows] = np.arange(len(rows))
    for start in range(0, len(out), PART):
        part = np.arange(start, min(start + PART, len(out)))
        near = table[part] @ table[rows].T
        mine = own[part]
        near[np.flatnonzero(mine >= 0), mine[mine >= 0]] = -np.inf  # a question is not its own neighbour
        out[part] = right[rows[np.argpartition(-near, k, axis=1)[:, :k]]].mean(1)
    return out


def by_logistic_regression(world: QuestionWorld, rows: Integers, penalty: float = 0.05) -> Values:
    """Logistic regression on category, facts about the text, and hashed words and pairs of it, [Q, W].

    Args:
        penalty: of the squared weights, for each training question; inputs are standardised.
    """
    answers = world.answers
    facts = np.concatenate([inputs(answers)[0], answers.question_hashes(BUCKETS)], 1).astype(np.float64)
    centre, spread = facts[rows].mean(0), facts[rows].std(0) + 1e-6
    facts = np.clip((facts - centre) / spread, -4, 4)
    facts[:, -BUCKETS:] *= 0.1  # sparse and many: they would drown the rest
    facts = np.concatenate([facts, np.ones((len(facts), 1))], 1)
    out = np.full(answers.code.shape, 0.5)
    for column in range(len(answers.models)):
        known = rows[world.can_ask[rows, column]]
        if known.size:
            weights = _logistic(facts[known], answers.correct[known, column], penalty * len(known))
            out[:, column] = expit(facts @ weights)
    return out


def _logistic(x: Values, y: Values, penalty: float) -> Values:
    """The weights with the least cross-entropy and penalty; the last one, the constant's, is free."""
    sign = np.where(y, 1.0, -1.0)
    free = np.ones(x.shape[1])
    free[-1] = 0.0

    def loss(weights: Values) -> tuple[float, Values]:
        margin = sign * (x @ weights)
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * (free * weights**2).sum()
        return float(value), -x.T @ (sign * expit(-margin)) + penalty * free * weights

    found: Values = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found


def out_of_fold(x: Values, y: Values, world: QuestionWorld, rows: Integers, penalty: float = 0.3) -> Values:
    """Ridge regression of y [Q, W] on x [Q, F] over the training questions `rows`, read everywhere [Q, W].

    A training question's own value comes from the other four of five parts. Only what a worker that could be asked did
    is learnt from.

    Args:
        penalty: of the squared weights, for each training question; inputs are standardised.
    """
    part = np.full(len(x), PARTS)
    part[rows] = (world.answers.key[rows] % PARTS).astype(np.int64)
    out = np.zeros(y.shape)
    for number in range(PARTS + 1):
        target, known = part == number, rows[part[rows] != number]
        if not target.any() or not known.size:
            continue
        centre, spread = x[known].mean(0), x[known].std(0) + 1e-6
        z = np.clip((x - centre) / spread, -FARTHEST, FARTHEST)
        for column in range(y.shape[1]):
            here = known[world.can_ask[known, column]]
            inside, mean = z[here], y[here, column].mean() if here.size else 0.0
            gram = inside.T @ inside + penalty * max(1, len(here)) * np.eye(z.shape[1])
            out[target, column] = z[target] @ np.linalg.solve(gram, inside.T @ (y[here, column] - mean)) + mean
    return out


READERS: dict[str, Reader] = {
    "category": by_category,
    "neighbours": by_neighbours,
    "logistic": by_logistic_regression,
}

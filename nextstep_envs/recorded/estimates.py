r"""How likely each worker is right: read off the question and what others wrote, learnt from training questions.

Ridge regression of "worker w is right" on the question's category and facts (`reading`), and, once worker v has been
asked, on the facts of v's answer too: W + 1 linear models for each w. A training question's own estimates come from
the other four of five parts of the training questions, so that a policy learns how far estimates can be trusted; every
other question's from all of them. What is right is never read of a question of another split.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from nextstep_envs.recorded.answers import Answers
from nextstep_envs.recorded.reading import Facts, answer_facts, question_facts

PARTS = 5
PENALTY = 0.1  # for each training question; inputs are standardised
FARTHEST = 4.0  # standard deviations at which inputs are clipped

Table = npt.NDArray[np.float32]


def estimates(answers: Answers, train: npt.NDArray[np.bool_], can_ask: npt.NDArray[np.bool_]) -> Table:
    """The chance that each worker is right, float32 [Q, W + 1, W], by what has been seen.

    Entry [q, 0] is read off question q alone, [q, 1 + v] off the question and the answer of worker v.

    Args:
        answers: the data set; the table is kept with it.
        train: training questions, bool [Q].
        can_ask: whom can be asked about what, bool [Q, W]: what may be learnt from.
    """
    key = "estimates", hashlib.blake2b(np.packbits(train).tobytes() + np.packbits(can_ask).tobytes()).digest()
    if key not in answers.made:
        answers.made[key] = _table(answers, train, can_ask)
    table: Table = answers.made[key]
    return table


def inputs(answers: Answers) -> tuple[Facts, Facts]:
    """What is read: of questions [Q, C + facts], and of answers [Q, W, facts]."""
    if "facts" not in answers.made:
        category = np.eye(len(answers.categories), dtype=np.float32)[answers.category]
        answers.made["facts"] = np.concatenate([category, question_facts(answers)], 1), answer_facts(answers)
    found: tuple[Facts, Facts] = answers.made["facts"]
    return found


def _table(answers: Answers, train: npt.NDArray[np.bool_], can_ask: npt.NDArray[np.bool_]) -> Table:
    (question, answer), (n, workers) = inputs(answers), answers.code.shape
    right = answers.correct.astype(np.float64)
    table = np.empty((n, workers + 1, workers), np.float32)
    part = np.where(train, (answers.key % PARTS).astype(np.int64), PARTS)
    for seen in range(workers + 1):
        facts = question if seen == 0 else np.concatenate([question, answer[:, seen - 1]], 1)
        known = can_ask if seen == 0 else can_ask & can_ask[:, [seen - 1]]
        for number in range(PARTS + 1):
            target = part == number
            if target.any():
                fit = (known & (train & ~target)[:, None]) if number < PARTS else known & train[:, None]
                table[target, seen] = _fitted(facts, right, fit, target)
    return np.clip(table, 0.0, 1.0)


def _fitted(
    facts: Facts, right: npt.NDArray[np.float64], fit: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Ridge regression of each column of `right` on the rows `fit` [Q, W], read at `target`; 0.5 where no row fits."""
    out = np.full((int(target.sum()), right.shape[1]), 0.5)
    groups, which = np.unique(fit, axis=1, return_inverse=True)
    for g in range(groups.shape[1]):
        rows, columns = groups[:, g], np.flatnonzero(which.reshape(-1) == g)
        if rows.any():
            centre, spread = facts[rows].mean(0), facts[rows].std(0) + 1e-6
            x = np.clip((facts - centre) / spread, -FARTHEST, FARTHEST).astype(np.float64)
            y = right[np.ix_(rows, columns)]
            inside = x[rows]
            gram = inside.T @ inside + PENALTY * len(inside) * np.eye(x.shape[1])
            out[:, columns] = x[target] @ np.linalg.solve(gram, inside.T @ (y - y.mean(0))) + y.mean(0)
    return out


def seen_estimates(table: Table, asked: npt.NDArray[np.bool_]) -> Table:
    """What is estimated where some workers have been asked.

    Of a worker who was asked: by its own answer. Of the others: the mean over the answers seen, or by the question.

    Args:
        table: rows of `estimates`, [N, W + 1, W].
        asked: bool [N, W].

    Returns:
        float32 [N, W].
    """
    weight = asked.astype(np.float32)
    count = weight.sum(1, keepdims=True)
    mean = (weight[:, None, :] @ table[:, 1:])[:, 0] / np.maximum(count, 1)
    own = np.einsum("nvv->nv", table[:, 1:])
    return np.where(asked, own, np.where(count > 0, mean, table[:, 0])).astype(np.float32)

"""The vector observation of question routing: nothing in it comes from ground truth about the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.recorded.answers import Answers
from nextstep_envs.recorded.board import Board, Floats, Limits, Tally, tally, usd_nano
from nextstep_envs.recorded.estimates import Table, seen_estimates
from nextstep_envs.types import UNLIMITED, Allowance, Budget

Vectors = npt.NDArray[np.float32]
GENERAL = (
    "left.steps", "left.tokens", "left.calls", "left.usd", "invalid", "spent.milli_usd", "asked", "nulls", "different",
    "agreement", "margin", "weight",
)  # fmt: skip
WORKER = (
    "present", "log_price", "prompt_milli_usd", "skill", "asked", "place", "null", "leads", "support", "confidence",
    "milli_usd", "length",
)  # fmt: skip
LONG = 512  # completion tokens that count as 1


class QuestionFeatures:
    """Builds vectors from a board, and names their entries.

    Blocks: hashed words and pairs of words of the question with its options, or its embedding; its category, length and
    number of options; shares left of each budget and how the answers stand (who was asked, how many gave no answer, how
    many different ones there are, the share and the lead of the final one as things stand, its mean confidence); for
    each worker its presence, prices, skill in the category, and, once asked, its place in the order, whether it gave no
    answer, whether its answer leads, the share of answers equal to its own, its confidence, cost and length, and the
    hashed words of what it wrote. With `estimates` also the chance that it is right, by the question and the answers
    seen so far.

    Args:
        answers: the questions.
        workers: their ids, in slot order.
        skills: of each worker in each category [C, W].
        budget: of one episode.
        total: the same as an allowance.
        rule: how the final answer comes about.
        question_buckets: size of the hash of a question; 0 for none.
        text_buckets: likewise of an answer.
        row: the board of one episode's state.
        estimates: how likely each worker is right [Q, W + 1, W] (see `recorded.estimates`); None for none.
        embeddings: of every question [Q, D], in place of its hash; None for the hash.
    """

    def __init__(
        self,
        answers: Answers,
        workers: Sequence[str],
        skills: Floats,
        budget: Budget,
        total: Allowance,
        rule: str,
        question_buckets: int,
        text_buckets: int,
        row: Callable[[Any], tuple[Board, Limits]],
        estimates: Table | None = None,
        embeddings: Vectors | None = None,
    ) -> None:
        self.answers, self.skills, self.budget, self.rule = answers, skills, budget, rule
        self.buckets, self._row = question_buckets, row
        self._estimates, self._embeddings = estimates, embeddings
        kind, size = ("hash", question_buckets) if embeddings is None else ("embedding", embeddings.shape[1])
        self._usd = total.usd_nano if total.usd_nano < UNLIMITED else 0
        self._eye = np.eye(len(answers.categories), dtype=np.float32)
        self._size_of = np.array([min(len(prompt) / 1000, 8.0) for prompt in answers.prompts], np.float32)
        self._options = np.array([len(options) / 10 for options in answers.options], np.float32)
        self.names: tuple[str, ...] = (
            *(f"question_{kind}[{i}]" for i in range(size)),
            *(f"category.{name}" for name in answers.categories),
            "question_length",
            "options",
            *GENERAL,
            *(f"{worker}.{name}" for worker in workers for name in WORKER),
            *(f"{worker}.text_hash[{i}]" for worker in workers for i in range(text_buckets)),
            *(f"{worker}.estimate" for worker in workers if estimates is not None),
        )
        self.size = len(self.names)

    def __call__(self, state: Any) -> Vectors:
        """float32 [size]; a fresh array."""
        vector: Vectors = self.rows(*self._row(state))[0]
        return vector

    def rows(self, board: Board, limits: Limits) -> Vectors:
        """float32 [N, size]; a fresh array."""
        n = len(board.question)
        category, counts = self.answers.category[board.question], tally(board, self.rule)
        blocks: list[npt.NDArray[Any]] = [
            self._eye[category],
            self._size_of[board.question][:, None],
            self._options[board.question][:, None],
            self._general(board, counts),
            self._workers(board, counts, limits, self.skills[category]).reshape(n, -1),
            board.words.reshape(n, -1),
        ]
        if self._estimates is not None:
            blocks.append(seen_estimates(self._estimates[board.question], board.order > 0))
        if self._embeddings is not None:
            blocks.insert(0, self._embeddings[board.question])
        elif self.buckets:
            blocks.insert(0, self.answers.question_hashes(self.buckets)[board.question])
        return np.concatenate([block.astype(np.float32, copy=False) for block in blocks], axis=1)

    def _general(self, board: Board, counts: Tally) -> Floats:
        budget = self.budget
        asked, given = (board.order > 0).sum(1), counts.given.sum(1)
        spent_usd, workers = board.spent_usd_nano(), board.order.shape[1]
        some = np.maximum(given, 1)
        leading = np.where(counts.leads, counts.support, 0).max(1)
        second = np.where(counts.given & ~counts.leads, counts.support, 0).max(1)
        different = (counts.given / np.maximum(counts.support, 1)).sum(1)
        return np.stack(
            [
                np.maximum(budget.steps - board.steps, 0) / budget.steps,
                np.maximum(1 - board.spent_tokens() / budget.tokens, -1.0),
                np.maximum(1 - board.spent_calls() / budget.calls, -1.0),
                np.maximum(1 - spent_usd / self._usd, -1.0) if self._usd else np.ones(len(spent_usd)),
                board.invalid / budget.steps,
                np.minimum(spent_usd / 1e6, 32.0),
                asked / workers,
                (asked - given) / workers,
                different / workers,
                leading / some,
                (leading - second) / some,
                np.where(counts.leads, counts.weight, 0).max(1) / 1000 / np.maximum(leading, 1),
            ],
            axis=1,
        )

    def _workers(self, board: Board, counts: Tally, limits: Limits, skill: Floats) -> Floats:
        asked = board.order > 0
        some = np.maximum(counts.given.sum(1), 1)[:, None]
        prompt_usd = usd_nano(limits.prompt, np.zeros_like(limits.prompt), board.prices)
        return np.stack(
            [
                board.present,
                np.log1p(board.prices.sum(2)),
                np.minimum(prompt_usd / 1e6, 32.0),
                skill,
                asked,
                board.order / board.order.shape[1],
                asked & ~counts.given,
                counts.leads,
                counts.support / some,
                np.where(counts.given, board.weight, 0) / 1000,
                np.minimum(board.usd_nano / 1e6, 32.0),
                np.minimum(board.completion / LONG, 32.0),
            ],
            axis=2,
        )

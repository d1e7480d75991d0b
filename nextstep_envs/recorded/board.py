"""Where episodes of question routing stand, as columns: one row for each of N episodes, W workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.recorded.answers import NONE
from nextstep_envs.types import UNLIMITED, Allowance, Budget

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Board:
    """N episodes. Arrays are written to in place.

    Attributes:
        question: row of the data set [N].
        present: who can be asked about it [N, W].
        prices: US dollars of a million prompt and completion tokens [N, W, 2].
        order: 0 for workers that have not been asked, k for the k-th that was [N, W].
        answer: what they answered [N, W]: equal numbers in a row are equal answers, `NONE` is none.
        weight: the confidence of an answer in thousandths [N, W].
        prompt, completion, calls: tokens and calls of what they were asked [N, W].
        usd_nano: what it cost, in 1e-9 US dollars [N, W].
        words: hashed words of what they wrote [N, W, T].
        steps, invalid: decisions that count against `Budget.steps`, and how many of them were invalid [N].
        over: whether the episode has ended [N].
    """

    question: Integers
    present: Flags
    prices: Floats
    order: Integers
    answer: Integers
    weight: Integers
    prompt: Integers
    completion: Integers
    calls: Integers
    usd_nano: Integers
    words: npt.NDArray[np.float32]
    steps: Integers
    invalid: Integers
    over: Flags

    @staticmethod
    def empty(n: int, workers: int, buckets: int) -> Board:
        """N episodes in which nobody has been asked and nobody is present."""
        question, steps, invalid = np.zeros((3, n), np.int64)
        order, weight, prompt, completion, calls, usd = np.zeros((6, n, workers), np.int64)
        return Board(
            question=question,
            present=np.zeros((n, workers), bool),
            prices=np.zeros((n, workers, 2)),
            order=order,
            answer=np.full((n, workers), NONE, np.int64),
            weight=weight,
            prompt=prompt,
            completion=completion,
            calls=calls,
            usd_nano=usd,
            words=np.zeros((n, workers, buckets), np.float32),
            steps=steps,
            invalid=invalid,
            over=np.zeros(n, bool),
        )

    def clear(self, rows: Any) -> None:
        """Begin some rows anew."""
        for field in fields(self):
            getattr(self, field.name)[rows] = NONE if field.name == "answer" else 0

    def copy(self) -> Board:
        """The same with arrays of its own."""
        return Board(*(getattr(self, field.name).copy() for field in fields(self)))

    def take(self, rows: Integers) -> Board:
        """Some of its rows."""
        return Board(*(getattr(self, field.name)[rows] for field in fields(self)))

    def spent_tokens(self) -> Integers:
        """[N]."""
        total: Integers = (self.prompt + self.completion).sum(1)
        return total

    def spent_calls(self) -> Integers:
        """[N]."""
        total: Integers = self.calls.sum(1)
        return total

    def spent_usd_nano(self) -> Integers:
        """[N]."""
        total: Integers = self.usd_nano.sum(1)
        return total


def usd_nano(prompt: Integers, completion: Integers, prices: Floats) -> Integers:
    """What calls cost, in 1e-9 US dollars, as `ledger.price` has it; `prices` [..., 2]."""
    total: Integers = np.rint(1000 * (prompt * prices[..., 0] + completion * prices[..., 1])).astype(np.int64)
    return total


@dataclass(frozen=True)
class Limits:
    """What bounds a call before it is made: each worker's prompt [W], and the longest completion it may bill [W]."""

    prompt: Integers
    completion: Integers


def legal(board: Board, limits: Limits, budget: Budget, total: Allowance) -> npt.NDArray[np.int8]:
    """The action mask, int8 [N, W + 1]: who is present, has not been asked and cannot break the budget; finish always.

    `limits` are of one worker [W] or of one call [N, W].
    """
    n, workers = board.order.shape
    mask = np.ones((n, workers + 1), np.int8)
    going = ~board.over & (board.steps < budget.steps) & (board.spent_calls() < budget.calls)
    can = board.present & (board.order == 0) & going[:, None]
    can &= limits.prompt + limits.completion <= (budget.tokens - board.spent_tokens())[:, None]
    if total.usd_nano < UNLIMITED:
        bound = usd_nano(limits.prompt, limits.completion, board.prices)
        can &= bound <= (total.usd_nano - board.spent_usd_nano())[:, None]
    mask[:, :-1] = can
    return mask


@dataclass(frozen=True)
class Tally:
    """How the workers' answers stand, [N, W].

    Attributes:
        given: whether a worker gave an answer.
        support: answers equal to a worker's own, its own included; 0 where it gave none.
        weight: the sum of their confidences, in thousandths.
        leads: whether a worker's answer is the final one, as things stand.
    """

    given: Flags
    support: Integers
    weight: Integers
    leads: Flags


def tally(board: Board, rule: str) -> Tally:
    """Count the answers; `rule` as for `votes.decide`, with the same ties."""
    given = board.answer != NONE
    same = (board.answer[:, :, None] == board.answer[:, None, :]) & given[:, :, None] & given[:, None, :]
    support = same.sum(2)
    weight = (same * board.weight[:, None, :]).sum(2)
    latest = (same * board.order[:, None, :]).max(2)
    height = {"vote": support, "weighted": weight, "last": np.zeros_like(support)}[rule]
    rank = np.where(given, height * 64 + latest, -1)
    leads = given & (rank == rank.max(1, keepdims=True))
    return Tally(given, support, weight, leads)


def first_seen(labels: Sequence[str]) -> list[int]:
    """Numbers for texts: equal for equal ones, `NONE` for ""."""
    seen: dict[str, int] = {}
    return [NONE if label == "" else seen.setdefault(label, len(seen)) for label in labels]

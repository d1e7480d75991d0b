"""A trained policy as an asker: it is shown the environment's own vectors, for all questions at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nextstep_agents.recorded.play import Integers
from nextstep_envs.recorded.board import Board, legal
from nextstep_envs.recorded.rules import QuestionRouting
from nextstep_envs.seeding import derive


class Probabilities(Protocol):
    """A policy that knows the probability of every action, such as an `MLPPolicy`."""

    def probabilities(self, observation: Any) -> npt.NDArray[Any]:
        """[n, A] for a batch of n observations."""
        ...


class LearnedAsker:
    """Draws from a policy's probabilities.

    Args:
        policy: who decides.
        rules: of the environment it was trained on, whose pool is that of the data.
        seed: of the draws.
    """

    def __init__(self, policy: Probabilities, rules: QuestionRouting, seed: int = 0) -> None:
        self.policy, self.rules = policy, rules
        self._rng = np.random.default_rng(derive(seed, "learned"))

    def choose(self, board: Board) -> Integers:
        """See `Asker`."""
        seen, masks = vectors(self.rules, board)
        chances = self.policy.probabilities({"observation": seen, "action_mask": masks})
        edges = np.cumsum(np.where(masks, chances, 0.0), 1)
        draws = self._rng.random(len(edges)) * edges[:, -1]
        chosen: Integers = (edges <= draws[:, None]).sum(1)
        return chosen


def vectors(rules: QuestionRouting, board: Board) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """What the environment shows where some episodes stand: observations [N, size] and action masks [N, W + 1]."""
    limits = rules.limits(0)  # recorded prompts are estimates, the same for every question
    words = np.zeros((*board.order.shape, rules.text_buckets), np.float32)
    asked, columns = np.nonzero(board.order)
    if rules.text_buckets and asked.size:
        texts = rules.world.answers.text_hashes(board.question[asked], columns, rules.text_buckets)
        words[asked, columns] = texts
    seen = rules.features.rows(replace(board, words=words), limits)
    return seen, legal(board, limits, rules.budget, rules.total)

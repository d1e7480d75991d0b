"""Routers: one worker for each question, by what its answer is worth less what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nextstep_agents.recorded.mixture import Mixture, within
from nextstep_agents.recorded.play import Integers, Values
from nextstep_envs.recorded.board import Board
from nextstep_envs.worlds.qa.world import QuestionWorld


@dataclass(frozen=True)
class Router:
    r"""Ask $\arg\max_w \hat p_w(q) - \lambda c_w$ about question q, and end.

    Attributes:
        chance: estimates that each worker is right [Q, W].
        usd: what each worker costs on average [W].
        price: lambda, the Lagrangian price of a dollar.
    """

    chance: Values = field(repr=False)
    usd: Values = field(repr=False)
    price: float

    def choose(self, board: Board) -> Integers:
        """See `Asker`."""
        known = np.isfinite(self.usd)  # others were never asked in training: nobody knows what they are worth
        worth = np.where(known, self.chance[board.question] - self.price * np.where(known, self.usd, 0.0), -1e9)
        best = np.where(board.present, worth, -np.inf).argmax(1)
        return np.where((board.order > 0).any(1) | ~board.present.any(1), board.order.shape[1], best)


def mean_usd(world: QuestionWorld, rows: Integers) -> Values:
    """What each worker costs on average [W]; infinite for whom nobody can ask."""
    can = world.can_ask[rows]
    total = np.where(can, world.answers.usd[rows], 0.0).sum(0)
    return np.where(can.any(0), total / np.maximum(can.sum(0), 1), np.inf)


def router_within(chance: Values, world: QuestionWorld, rows: Integers, budget: float) -> Mixture:
    """The router that costs `budget` on average over the questions `rows`; `chance` as for `Router`."""
    usd = mean_usd(world, rows)
    return within(lambda price: Router(chance, usd, price), world, rows, budget)

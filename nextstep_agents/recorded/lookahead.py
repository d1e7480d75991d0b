"""A plan of two steps: ask somebody, read the answer, and perhaps ask somebody else, who then decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from nextstep_agents.recorded.mixture import Mixture, within
from nextstep_agents.recorded.play import Integers, Values, play
from nextstep_agents.recorded.readers import out_of_fold
from nextstep_agents.recorded.routers import mean_usd
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.board import Board
from nextstep_envs.recorded.estimates import estimates, inputs
from nextstep_envs.worlds.qa.world import QuestionWorld


@dataclass(frozen=True)
class Lookahead:
    r"""Fitted value iteration over two calls (Ernst et al. 2005), at a price of a dollar.

    Attributes:
        first: what it is worth to begin with each worker, its own cost and that of what follows deducted [Q, W].
        second: what it adds, after worker v, to ask worker w too [Q, W, W]; 0 on the diagonal, which is to end.
        price: right answers for a US dollar.
    """

    first: Values = field(repr=False)
    second: Values = field(repr=False)
    price: float

    def worth(self, board: Board) -> Values:
        """Of every action, up to a constant for each episode [N, W + 1]; after two calls ending is all there is."""
        n, workers = board.order.shape
        asked = board.order > 0
        count, latest = asked.sum(1), board.order.argmax(1)
        values = np.where((count == 0)[:, None], self.first[board.question], self.second[board.question, latest])
        values = np.where(board.present & ~asked & (count < 2)[:, None], values, -np.inf)
        end = np.where((count == 0) & np.isfinite(values).any(1), -np.inf, 0.0)
        return np.concatenate([values, end[:, None]], 1)

    def choose(self, board: Board) -> Integers:
        """See `Asker`."""
        chosen: Integers = self.worth(board).argmax(1)
        return chosen


def fit_lookahead(
    world: QuestionWorld, rows: Integers, price: float, crew: Sequence[int] | None = None, penalty: float = 0.3
) -> Lookahead:
    """The plan for a price.

    It knows what the environment shows with `estimates=True`, and the facts about the question behind it. What a
    training question is worth is learnt from other training questions only, so that costs over them can be believed.

    Args:
        world: whose questions they are.
        rows: training questions.
        price: right answers for a US dollar.
        crew: who may be asked; None: everybody.
        penalty: of the first step's regression, see `out_of_fold`.
    """
    answers, workers = world.answers, len(world.answers.models)
    train = np.zeros(len(answers.ids), bool)
    train[rows] = True
    table = estimates(answers, train, world.can_ask).astype(np.float64)
    usd, own = mean_usd(world, rows), np.arange(workers)
    can = world.can_ask if crew is None else world.can_ask & np.isin(own, crew)
    after = table[:, 1:]
    second = after - after[:, own, own][:, :, None] - price * np.where(np.isfinite(usd), usd, 0.0)
    second = np.where(can[:, None, :], second, -np.inf)
    second[:, own, own] = 0.0
    follow = second.argmax(2)  # [Q, W]; oneself: nobody
    every = np.arange(len(train))[:, None]
    right = np.where(answers.code[every, follow] == NONE, answers.correct, answers.correct[every, follow])
    spent = answers.usd + np.where(follow == own, 0.0, answers.usd[every, follow])
    facts = np.concatenate([inputs(answers)[0], table[:, 0]], 1)
    first = out_of_fold(facts, right - price * spent, world, rows, penalty)
    return Lookahead(np.where(can, first, -np.inf), second, price)


def lookahead_within(world: QuestionWorld, rows: Integers, budget: float) -> tuple[Lookahead, Mixture]:
    """The plan that costs `budget` US dollars on average over training questions, and the lottery that does exactly.

    Its crew begins with the two of the coin flip; who adds most joins, as long as the gain over the training questions
    is more than its standard error. A larger crew costs accuracy where nobody in it is much better than the others.
    """
    usd, right = mean_usd(world, rows), (world.answers.correct & world.can_ask)[rows].mean(0)
    crew = [int(usd.argmin()), int(right.argmax())]
    while True:
        found = within(partial(fit_lookahead, world, rows, crew=tuple(crew)), world, rows, budget)
        plan = found.cheap
        assert isinstance(plan, Lookahead)
        gains = {}
        now = _value(plan, world, rows)
        for other in set(range(len(usd))) - set(crew):
            gain = _value(fit_lookahead(world, rows, plan.price, (*crew, other)), world, rows) - now
            gains[other] = gain.mean() - gain.std() / np.sqrt(len(rows))
        best = max(gains, key=lambda other: gains[other], default=None)
        if best is None or gains[best] <= 0:
            return plan, found
        crew.append(best)


def _value(plan: Lookahead, world: QuestionWorld, rows: Integers) -> Values:
    played = play(plan, world, rows)
    return played.right - plan.price * played.usd

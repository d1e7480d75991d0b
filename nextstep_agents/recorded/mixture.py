"""Chance between two: the coin flip between two models, and the way to meet a mean budget exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nextstep_agents.recorded.play import Asker, Integers, Played, play
from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.board import Board
from nextstep_envs.seeding import derive
from nextstep_envs.worlds.qa.world import QuestionWorld

HALVINGS = 24
FIRST, DEAREST = 1.0, 1e6  # right answers for a US dollar, between which prices are looked for


@dataclass(frozen=True)
class Mixture:
    """On each question one of two, by chance.

    Attributes:
        cheap, dear: the two.
        share: the probability of the dear one.
        seed: of the chance; the same question gets the same one every time.
    """

    cheap: Asker
    dear: Asker
    share: float
    seed: int = 0

    def choose(self, board: Board) -> Integers:
        """See `Asker`."""
        drawn = np.random.default_rng(derive(self.seed, "mixture")).random(int(board.question.max(initial=0)) + 1)
        dear = drawn[board.question] < self.share
        return np.where(dear, self.dear.choose(board), self.cheap.choose(board))

    def expected(self, world: QuestionWorld, rows: Integers) -> Played:
        """What comes of each question on average over the chance."""
        low, high = play(self.cheap, world, rows), play(self.dear, world, rows)
        mixed = [(1 - self.share) * a + self.share * b for a, b in ((low.right, high.right), (low.usd, high.usd))]
        return Played(*mixed)


def meet(cheap: Asker, dear: Asker, world: QuestionWorld, rows: Integers, budget: float) -> Mixture:
    """The mixture that costs `budget` US dollars on average over some questions, or the nearest to it.

    Raises:
        ConfigError: even the cheap one costs more.
    """
    low, high = play(cheap, world, rows).usd.mean(), play(dear, world, rows).usd.mean()
    if low > budget:
        raise ConfigError(f"budget={budget} is less than {low:.6f}, what {cheap!r} costs on average")
    return Mixture(cheap, dear, 1.0 if high <= budget else float((budget - low) / (high - low)))


def within(make: Callable[[float], Asker], world: QuestionWorld, rows: Integers, budget: float) -> Mixture:
    """The one of a family that costs `budget` US dollars on average over some questions.

    The price is found by bisection; between the two on its sides chance decides.

    Args:
        make: whoever does best at a price of a dollar; the higher the price, the less it spends.
        world: whose questions they are.
        rows: training questions.
        budget: mean US dollars a question.

    Raises:
        ConfigError: even at a price at which nothing but cost counts it spends more.
    """

    def cost(asker: Asker) -> float:
        return float(play(asker, world, rows).usd.mean())

    free, frugal = make(0.0), make(DEAREST)
    if cost(free) <= budget:
        return Mixture(free, free, 1.0)
    if cost(frugal) > budget:
        raise ConfigError(f"budget={budget} is less than {cost(frugal):.6f}, what the cheapest plan costs on average")
    low, high = FIRST, DEAREST
    dear, cheap = free, frugal
    for _ in range(HALVINGS):
        price = (low * high) ** 0.5
        asker = make(price)
        if cost(asker) > budget:
            low, dear = price, asker
        else:
            high, cheap = price, asker
    return meet(cheap, dear, world, rows, budget)

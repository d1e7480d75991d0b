"""Fixed plans: ask some workers in order, all of them or only while what they say calls for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nextstep_agents.recorded.mixture import Mixture
from nextstep_agents.recorded.play import Integers, Played
from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.board import Board, tally

WHEN = ("always", "null", "disagreement")


@dataclass(frozen=True)
class Plan:
    """Ask workers in order.

    One worker is a single model, k of them "always" are a majority of k; the others are cascades. Who cannot be asked
    about a question is left out.

    Attributes:
        columns: the workers.
        when: when another one is asked. "always"; "null": while nobody has given an answer; "disagreement": while no
            two have given the same one.
    """

    columns: tuple[int, ...]
    when: str = "always"

    def __post_init__(self) -> None:
        check_choice("when", self.when, WHEN)
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"columns={self.columns!r} must name different workers, at least one")

    def choose(self, board: Board) -> Integers:
        """See `Asker`."""
        workers = board.order.shape[1]
        counts = tally(board, "vote")
        enough = {
            "always": np.zeros(len(board.question), bool),
            "null": (board.answer != NONE).any(1),
            "disagreement": counts.support.max(1) >= 2,
        }[self.when]
        chosen = np.full(len(board.question), workers)
        for column in reversed(self.columns):
            chosen[board.present[:, column] & (board.order[:, column] == 0)] = column
        return np.where(enough, workers, chosen)


def majorities(by_price: Sequence[int], by_skill: Sequence[int], sizes: Sequence[int] = (3, 5)) -> list[Plan]:
    """Votes of the k cheapest and of the k best; workers are given from cheap to dear and from good to bad."""
    crews = {tuple(order[:k]) for order in (by_price, by_skill) for k in sizes if k <= len(order)}
    return [Plan(crew) for crew in sorted(crews)]


def cascades(by_price: Sequence[int]) -> list[Plan]:
    """Two or three workers from cheap to dear, the next one on no answer, or (three) on disagreement."""
    pairs, triples = (list(combinations(by_price, k)) for k in (2, 3))
    return [Plan(crew, "null") for crew in pairs + triples] + [Plan(crew, "disagreement") for crew in triples]


def best_within(plans: Sequence[Plan], played: Sequence[Played], budget: float) -> Plan | None:
    """The plan with the most right answers among those whose mean cost is within the budget; None: there is none."""
    fit = [(float(p.right.mean()), -i) for i, p in enumerate(played) if p.usd.mean() <= budget]
    return plans[-max(fit)[1]] if fit else None


def best_lottery(plans: Sequence[Plan], played: Sequence[Played], budget: float) -> Mixture:
    """The best lottery between two plans that costs the budget on average (or less, where the best plan does).

    Raises:
        ConfigError: every plan costs more.
    """
    usd = np.array([p.usd.mean() for p in played])
    right = np.array([p.right.mean() for p in played])
    low, high = np.flatnonzero(usd <= budget), np.flatnonzero(usd > budget)
    if not low.size:
        raise ConfigError(f"budget={budget} is less than {usd.min():.6f}, what the cheapest plan costs on average")
    best = int(low[right[low].argmax()])
    found, value = Mixture(plans[best], plans[best], 0.0), right[best]
    if high.size:
        share = (budget - usd[low, None]) / (usd[high] - usd[low, None])
        mixed = (1 - share) * right[low, None] + share * right[high]
        i, j = divmod(int(mixed.argmax()), len(high))
        if mixed[i, j] > value:
            found = Mixture(plans[int(low[i])], plans[int(high[j])], float(share[i, j]))
    return found

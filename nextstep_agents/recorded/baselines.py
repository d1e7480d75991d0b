"""Every baseline under a mean budget, chosen and tuned on training questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nextstep_agents.recorded.lookahead import lookahead_within
from nextstep_agents.recorded.mixture import Mixture, meet
from nextstep_agents.recorded.plans import Plan, best_lottery, best_within, cascades, majorities
from nextstep_agents.recorded.play import Integers, Played, play
from nextstep_agents.recorded.readers import READERS
from nextstep_agents.recorded.routers import mean_usd, router_within
from nextstep_envs.worlds.qa.world import QuestionWorld


@dataclass(frozen=True)
class Fixed:
    """Every fixed plan, and how it does on the training questions.

    Attributes:
        singles, majorities, cascades: the plans.
        played: what came of each, in that order.
    """

    singles: tuple[Plan, ...]
    majorities: tuple[Plan, ...]
    cascades: tuple[Plan, ...]
    played: tuple[Played, ...]


def ends(world: QuestionWorld, rows: Integers) -> tuple[Plan, Plan]:
    """The two of the coin flip: the cheapest model, and the one that is right most often."""
    right = (world.answers.correct & world.can_ask)[rows].mean(0)
    return Plan((int(mean_usd(world, rows).argmin()),)), Plan((int(right.argmax()),))


def fixed_plans(world: QuestionWorld, rows: Integers) -> Fixed:
    """Play all of them on the training questions `rows`."""
    usd, right = mean_usd(world, rows), (world.answers.correct & world.can_ask)[rows].mean(0)
    there = np.flatnonzero(np.isfinite(usd)).tolist()
    by_price, by_skill = sorted(there, key=lambda w: usd[w]), sorted(there, key=lambda w: -right[w])
    singles = tuple(Plan((w,)) for w in by_price)
    votes, steps = tuple(majorities(by_price, by_skill)), tuple(cascades(by_price))
    played = tuple(play(plan, world, rows) for plan in (*singles, *votes, *steps))
    return Fixed(singles, votes, steps, played)


def baselines(world: QuestionWorld, rows: Integers, budget: float, fixed: Fixed) -> dict[str, Mixture]:
    """What fits a mean budget in US dollars, by name.

    "single", "majority" and "cascade" are the best of their kind that fit, where one does; "coin flip" is between the
    cheapest model and the best one; "lottery" the best one over any two fixed plans, which is stronger; "category",
    "neighbours" and "logistic" are routers; "lookahead" is the plan of two steps that reads answers.

    Args:
        world: whose questions they are.
        rows: training questions.
        budget: mean US dollars a question.
        fixed: of `fixed_plans(world, rows)`.
    """
    found: dict[str, Mixture] = {}
    start = 0
    for name, plans in (("single", fixed.singles), ("majority", fixed.majorities), ("cascade", fixed.cascades)):
        best = best_within(plans, fixed.played[start : start + len(plans)], budget)
        start += len(plans)
        if best is not None:
            found[name] = Mixture(best, best, 0.0)
    every = (*fixed.singles, *fixed.majorities, *fixed.cascades)
    found["coin flip"] = meet(*ends(world, rows), world, rows, budget)
    found["lottery"] = best_lottery(every, fixed.played, budget)
    for name, reader in READERS.items():
        found[name] = router_within(reader(world, rows), world, rows, budget)
    found["lookahead"] = lookahead_within(world, rows, budget)[1]
    return found


def flip_at(world: QuestionWorld, train: Integers, rows: Integers, usd: float) -> Played:
    """What the coin flip brings on some questions at the price that somebody else paid for them on average.

    Beyond the best model's own cost it is the best model.
    """
    cheap, dear = ends(world, train)
    low, high = (float(play(plan, world, rows).usd.mean()) for plan in (cheap, dear))
    share = float(np.clip((usd - low) / (high - low), 0.0, 1.0)) if high > low else 1.0
    return Mixture(cheap, dear, share).expected(world, rows)

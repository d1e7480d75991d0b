"""From the answers of several workers to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

RULES = ("vote", "weighted", "last")
UNSTATED = 500  # the weight of an answer given without a confidence


class Vote(NamedTuple):
    """One answer, and its confidence in thousandths: whole numbers, so that sums do not depend on order."""

    label: str
    weight: int = UNSTATED


def decide(votes: Sequence[Vote], rule: str) -> str:
    """The final answer; "" where there is none.

    Args:
        votes: in the order in which they were given.
        rule: "vote" (most answers), "weighted" (largest sum of confidences) or "last" (the last answer). Ties go to the
            answer that was given last: whoever is asked after a disagreement settles it.
    """
    if not votes:
        return ""
    if rule == "last":
        return votes[-1].label
    sums: dict[str, tuple[int, int]] = {}
    for place, (label, weight) in enumerate(votes):
        sums[label] = sums.get(label, (0, 0))[0] + (weight if rule == "weighted" else 1), place
    return max(sums, key=sums.__getitem__)

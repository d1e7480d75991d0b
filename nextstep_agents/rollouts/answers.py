"""What became of a policy's answers: read as they were, repaired, or refused as invalid actions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Answers(NamedTuple):
    """Counts over the episodes of a run, masked ones left out.

    Attributes:
        total: answers.
        repaired: no JSON as they stood; the one repair pass made an action of them.
        invalid: invalid actions: nothing was run, a step was used, and the next message said what was wrong.
        invalid_first: episodes whose first answer was invalid.
        recovered: episodes with an invalid answer in which a later one was run.
    """

    total: int = 0
    repaired: int = 0
    invalid: int = 0
    invalid_first: int = 0
    recovered: int = 0

    @property
    def text(self) -> str:
        """In a line."""
        return (
            f"answers: {self.total}, of which {self.repaired} repaired and {self.invalid} invalid; "
            f"{self.recovered} episodes went on after an invalid one"
        )


def count_answers(lines: Iterable[Mapping[str, Any]]) -> Answers:
    """Count what the lines of a text policy's episodes tell."""
    total = repaired = invalid = invalid_first = recovered = 0
    for line in lines:
        if line["mask_sample"]:
            continue
        bad = [step.get("invalid_action", False) for step in line["steps"]]  # bare worlds know none
        total += len(bad)
        invalid += sum(bad)
        invalid_first += bad[:1] == [True]
        recovered += True in bad and False in bad[bad.index(True) :]
        repaired += sum(
            not wrong and not _is_json(step["action"]) for wrong, step in zip(bad, line["steps"], strict=True)
        )
    return Answers(total, repaired, invalid, invalid_first, recovered)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

"""How several answers become one."""

from __future__ import annotations

import pytest

from nextstep_envs.worlds.qa.votes import Vote, decide


def votes(text: str) -> list[Vote]:
    """Of "A.9 B.4": A with confidence .9, then B with .4."""
    return [Vote(word[0], round(float(word[1:]) * 1000)) for word in text.split()]


@pytest.mark.parametrize(
    ("given", "vote", "weighted", "last"),
    [
        ("", "", "", ""),
        ("A.9", "A", "A", "A"),
        ("A.9 B.4", "B", "A", "B"),  # a tie: the one given last
        ("A.5 B.5", "B", "B", "B"),
        ("A.3 A.3 B.7", "A", "B", "B"),
        ("A.4 B.7 A.4", "A", "A", "A"),
        ("A.1 B.1 C.1 A.1 B.1", "B", "B", "B"),
    ],
)
def test_the_final_answer(given: str, vote: str, weighted: str, last: str) -> None:
    assert [decide(votes(given), rule) for rule in ("vote", "weighted", "last")] == [vote, weighted, last]

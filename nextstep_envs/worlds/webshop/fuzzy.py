"""Token-set similarity of two short texts, 0 to 100, as the reference's reward computes it (thefuzz 0.19.0)."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

_LATIN_1 = dict.fromkeys(range(128, 256))
THRESHOLD = 85
_NON_WORD = re.compile(r"\W")


@lru_cache(maxsize=1 << 16)
def _words(text: str) -> frozenset[str]:
    return frozenset(clean(text).split())


def clean(text: str) -> str:
    """Drop characters 128-255, turn everything but word characters into spaces, lower, strip."""
    return _NON_WORD.sub(" ", text.translate(_LATIN_1)).lower().strip()


def ratio(p: str, q: str) -> int:
    """100 times the share of matching characters, rounded half to even."""
    if p == q:
        return 100
    return round(100 * SequenceMatcher(None, p, q).ratio()) if p and q else 0


@lru_cache(maxsize=1 << 16)
def token_set_ratio(x: str, y: str) -> int:
    """How well one text's set of words covers the other's."""
    first, second = _words(x), _words(y)
    if not first or not second:
        return 0
    shared, a, b = _combine(first, second)
    return max(ratio(shared, a), ratio(shared, b), ratio(a, b))


@lru_cache(maxsize=1 << 18)
def similar(x: str, y: str) -> bool:
    """Whether `token_set_ratio(x, y)` exceeds 85, found without computing it where a bound already tells."""
    first, second = _words(x), _words(y)
    if not first or not second:
        return False
    if first <= second or second <= first:
        return True  # the shared words are all of one side
    shared, a, b = _combine(first, second)
    return (shared != "" and (_exceeds(shared, a) or _exceeds(shared, b))) or _exceeds(a, b)


def _combine(first: frozenset[str], second: frozenset[str]) -> tuple[str, str, str]:
    shared = " ".join(sorted(first & second))
    a = f"{shared} {' '.join(sorted(first - second))}".strip()
    b = f"{shared} {' '.join(sorted(second - first))}".strip()
    return shared, a, b


def _exceeds(p: str, q: str) -> bool:
    """Whether `ratio(p, q) > 85`, from upper bounds on the number of matching characters where they decide it."""
    if p == q:
        return True
    length = len(p) + len(q)
    if _percent(min(len(p), len(q)), length) <= THRESHOLD:
        return False
    if _percent(sum(min(p.count(char), q.count(char)) for char in set(q)), length) <= THRESHOLD:
        return False
    return ratio(p, q) > THRESHOLD


def _percent(matches: int, length: int) -> int:
    return round(100 * (2.0 * matches / length))

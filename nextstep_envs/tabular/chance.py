"""Chance as a function of names, for one episode in plain Python and for many at once in numpy."""

from __future__ import annotations

from typing import Any

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
START = 0  # what an episode begins with does not depend on the sample; `SAMPLE + k` names the chance of attempt k
SAMPLE = 1


def key(root: Any, *path: Any) -> Any:
    """The 64-bit key of one named place; everything is an int, or a uint64 array."""
    for name in path:
        root = _mix(root ^ _mix((name * _GOLDEN + _GOLDEN) & _MASK))
    return root


def root(seed: int) -> int:
    """The key of everything under a seed >= 0; seeds that agree in their last 64 bits are one."""
    return int(key(_GOLDEN, seed & _MASK))


def uniform(stream: Any, index: Any) -> Any:
    """Number `index` of the stream with that key, in [0, 1): SplitMix64 (Steele, Lea and Flood, 2014), top 53 bits."""
    return (_mix((stream + (index + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def _mix(word: Any) -> Any:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)

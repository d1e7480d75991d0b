"""Texts as short vectors: hashed words and pairs of neighbouring words, for many texts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LONGEST = 64  # letters of a word after which the powers repeat
_PRIME, _MIX = 0x100000001B3, 0x9E3779B97F4A7C15


def _letter_numbers() -> npt.NDArray[np.uint64]:
    table = np.zeros(256, np.uint64)  # 0: between words
    for number, letter in enumerate(b"abcdefghijklmnopqrstuvwxyz0123456789", start=1):
        table[letter] = number
    return table


_NUMBER = _letter_numbers()
_POWER = np.array([pow(_PRIME, i, 1 << 64) for i in range(_LONGEST)], np.uint64)


def hash_texts(texts: Sequence[str], buckets: int, pairs: bool = False) -> npt.NDArray[np.float32]:
    """Signed hashed counts of words, and of pairs of words, scaled to unit length (Weinberger et al., 2009).

    A word is a run of a-z and 0-9, in any case. Its hash is a polynomial in its letters, so that all texts are hashed
    by a few array operations; a text's vector does not depend on the other texts.

    Args:
        texts: n of them.
        buckets: size of a vector.
        pairs: whether pairs of neighbouring words count too.

    Returns:
        float32 [n, buckets]; zeros for a text without words.
    """
    encoded = [text.lower().encode() for text in texts]
    number = _NUMBER[np.frombuffer(b"\n".join([*encoded, b""]), np.uint8)]
    inside = number > 0
    begins = inside & ~np.concatenate(([False], inside[:-1]))
    starts = np.flatnonzero(begins)
    if not starts.size:
        return np.zeros((len(texts), buckets), np.float32)
    word_of = np.cumsum(begins) - 1
    place = (np.arange(len(number)) - starts[np.maximum(word_of, 0)]) % _LONGEST
    words = _mixed(np.add.reduceat(number * _POWER[place], starts))
    owner = np.searchsorted(np.cumsum([len(text) + 1 for text in encoded]), starts, side="right")
    if pairs:
        both = owner[1:] == owner[:-1]
        joined = _mixed(words[:-1] * np.uint64(_PRIME) + words[1:])[both]
        words, owner = np.concatenate([words, joined]), np.concatenate([owner, owner[1:][both]])
    bucket = ((words >> np.uint64(1)) % np.uint64(buckets)).astype(np.int64)
    signs = (words & np.uint64(1)) * 2.0 - 1.0
    counts = np.bincount(owner * buckets + bucket, signs, len(texts) * buckets).reshape(len(texts), buckets)
    norm = np.sqrt((counts * counts).sum(1, keepdims=True))
    vectors: npt.NDArray[np.float32] = (counts / np.where(norm, norm, 1.0)).astype(np.float32)
    return vectors


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(29))) * np.uint64(_MIX)
    mixed: npt.NDArray[np.uint64] = words ^ (words >> np.uint64(32))
    return mixed

"""Chance as a function of names: whoever draws first, equal names give equal draws."""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *path: object) -> int:
    """A 63-bit seed for one named place."""
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, *path: object) -> random.Random:
    """A generator for one named place, independent of all others."""
    return random.Random(derive(seed, *path))

"""Spaces that Gymnasium lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space


class Prompt(Space[str]):
    """Any string of at most `max_length` characters: a message to or from a language model.

    Unlike `gymnasium.spaces.Text` it has no character set, so every Unicode text is a member. It cannot live in
    shared memory: use `vector_kwargs={"shared_memory": False}` with asynchronous vector environments.
    """

    def __init__(self, max_length: int = 1_000_000, seed: int | np.random.Generator | None = None) -> None:
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: a text has no fixed numeric shape."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short random ASCII text (as an action: almost surely invalid)."""
        length = int(self.np_random.integers(1, 1 + min(32, self.max_length)))
        return "".join(map(chr, self.np_random.integers(32, 127, size=length)))

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string that is short enough."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"Prompt({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self.max_length == other.max_length

"""What an engine returns: sampled token ids with their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol


class Completion(NamedTuple):
    """One sampled answer.

    Attributes:
        tokens: what was sampled, the stop token included if there is one.
        logprobs: of each token, under the distribution it was drawn from.
        stop: "end" (the stop token came) or "length".
    """

    tokens: list[int]
    logprobs: list[float]
    stop: Literal["end", "length"]


class Engine(Protocol):
    """Whatever can continue token sequences."""

    def generate(
        self, prompts: Sequence[Sequence[int]], group: Sequence[int], max_new_tokens: int, temperature: float, seed: int
    ) -> list[Completion]:
        """Continue every prompt. Rows with equal `group` begin alike; temperature 0 takes the likeliest token."""
        ...

"""A provider without a model: canned replies drawn from each request's seed, for tests and dry runs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import ChatReply, ChatRequest, Request, Result
from nextstep_envs.types import Usage

_BUTTON = re.compile(r"\[button\] (.+?) \[button_\]")
_SUBTASK = re.compile(r"^Subtask: (.*)$", re.M)
ACTIONS = 6  # before it answers


class FakeProvider:
    """Answers chat requests as a clumsy shopper would: search, click around, answer.

    Args:
        invalid_rate: share of replies that are not valid JSON, in [0, 1].
        failure_rate: share of requests that fail as an outage, in [0, 1].
    """

    def __init__(self, invalid_rate: float = 0.0, failure_rate: float = 0.0) -> None:
        for name, value in (("invalid_rate", invalid_rate), ("failure_rate", failure_rate)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value} must lie in [0, 1]")
        self.invalid_rate, self.failure_rate = invalid_rate, failure_rate

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order."""
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        """Nothing to release."""

    def _answer(self, request: Request) -> Result:
        if not isinstance(request.payload, ChatRequest):
            raise ConfigError(f"the fake provider answers chat requests, not {request.kind!r}")
        rng, chat = random.Random(request.seed), request.payload
        if rng.random() < self.failure_rate:
            return Result(request.id, error="the fake provider was told to fail")
        text = "I would rather not say." if rng.random() < self.invalid_rate else _reply(chat, rng)
        text = text[: 4 * chat.max_tokens]
        prompt = sum(estimate_tokens(message.content) for message in chat.messages)
        return Result(request.id, ChatReply(text), Usage(prompt, estimate_tokens(text), calls=1))


def _reply(chat: ChatRequest, rng: random.Random) -> str:
    actions = sum(role == "assistant" and '"action"' in text for role, text, *_ in chat.messages)
    brief = chat.messages[1].content
    subtask = _SUBTASK.search(brief)
    words = (subtask[1] if subtask else brief)[:200]
    if actions == 0:
        return json.dumps({"action": f"search[{words}]"})
    buttons = next((found for _, text, *_ in reversed(chat.messages) if (found := _BUTTON.findall(text))), [])
    if actions < ACTIONS and buttons:
        return json.dumps({"action": f"click[{rng.choice(buttons)}]"})
    return json.dumps({"answer": f"I took {actions} actions for: {words}"})

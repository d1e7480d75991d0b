"""A provider without a model: canned replies drawn from each request's seed, for tests and dry runs."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.providers.fake_plans import PROSE, is_first_answer, is_orchestrator, spoil_plan, write_plan
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request, Result, ToolUse
from nextstep_envs.seeding import stream
from nextstep_envs.types import Usage

_BUTTON = re.compile(r"\[button\] (.+?) \[button_\]")
_SUBTASK = re.compile(r"^Subtask: (.*)$", re.M)
ACTIONS = 6  # before it answers


class FakeProvider:
    """Answers chat requests as a clumsy shopper would: search, click around, answer. Asked by Workflow, it plans.

    It acts by tool calls where the request has tools, else in JSON. All chance comes from each request's
    seed, so that equal requests have equal answers, failures and latencies.

    Args:
        invalid_rate: share of replies that are not valid JSON (of tool calls: whose arguments are not), in [0, 1].
        failure_rate: share of requests that fail as an outage, in [0, 1].
        latency_s: median of the time a call takes, in seconds; 0 for none.
        latency_sigma: spread of latencies, which are log-normal: the standard deviation of their logarithm.
        force_step0_invalid: whether its first answer to Workflow in an episode is prose, whatever the rate.
    """

    def __init__(
        self,
        invalid_rate: float = 0.0,
        failure_rate: float = 0.0,
        latency_s: float = 0.0,
        latency_sigma: float = 1.0,
        force_step0_invalid: bool = False,
    ) -> None:
        for name, value in (("invalid_rate", invalid_rate), ("failure_rate", failure_rate)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value} must lie in [0, 1]")
        for name, value in (("latency_s", latency_s), ("latency_sigma", latency_sigma)):
            if not value >= 0:
                raise ConfigError(f"{name}={value} must be >= 0")
        self.invalid_rate, self.failure_rate = invalid_rate, failure_rate
        self.latency_s, self.latency_sigma = latency_s, latency_sigma
        self.force_step0_invalid = force_step0_invalid

    def latency(self, request: Request) -> float:
        """How long this call takes, in seconds: latency_s * exp(latency_sigma * z), z standard normal."""
        if not self.latency_s:
            return 0.0
        return self.latency_s * math.exp(self.latency_sigma * stream(request.seed, "latency").gauss(0.0, 1.0))

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order. A batch is under way all at once, and as slow as its slowest."""
        time.sleep(max(map(self.latency, requests), default=0.0))
        return [self._answer(request) for request in requests]

    async def answer(self, request: Request) -> Result:
        """The result of one request, after its latency."""
        await asyncio.sleep(self.latency(request))
        return self._answer(request)

    def close(self) -> None:
        """Nothing to release."""

    def _answer(self, request: Request) -> Result:
        if not isinstance(request.payload, ChatRequest):
            raise ConfigError(f"the fake provider answers chat requests, not {request.kind!r}")
        rng, chat = random.Random(request.seed), request.payload
        if rng.random() < self.failure_rate:
            return Result(request.id, error="the fake provider was told to fail")
        reply = _invalid(chat, rng) if rng.random() < self.invalid_rate else _reply(chat, rng)
        if self.force_step0_invalid and is_orchestrator(chat) and is_first_answer(chat):
            reply = ChatReply(PROSE)
        if len(reply.text) > 4 * chat.max_tokens:
            reply = replace(reply, text=reply.text[: 4 * chat.max_tokens], finish="length")
        if chat.logprobs:
            pieces = (reply.text[i : i + 4] for i in range(0, len(reply.text), 4))
            reply = replace(reply, logprobs=tuple((piece, -rng.expovariate(1.0)) for piece in pieces))
        prompt = sum(estimate_tokens(message.content) for message in chat.messages)
        written = reply.text + "".join(call.arguments for call in reply.calls)
        return Result(request.id, reply, Usage(prompt, estimate_tokens(written), calls=1))


def _invalid(chat: ChatRequest, rng: random.Random) -> ChatReply:
    if chat.tools:
        return ChatReply("", calls=(ToolUse(_call_id(chat), rng.choice(chat.tools).name, "{"),), finish="tools")
    return ChatReply(spoil_plan(chat, rng) if is_orchestrator(chat) else "I would rather not say.")


def _reply(chat: ChatRequest, rng: random.Random) -> ChatReply:
    if is_orchestrator(chat):
        return ChatReply(write_plan(chat, rng))
    actions = sum(message.role == "assistant" and _acts(message) for message in chat.messages)
    brief = chat.messages[1].content
    subtask = _SUBTASK.search(brief)
    words = (subtask[1] if subtask else brief)[:200]
    if actions == 0:
        return _action(chat, "search", words)
    buttons = next((found for _, text, *_ in reversed(chat.messages) if (found := _BUTTON.findall(text))), [])
    if actions < ACTIONS and buttons:
        return _action(chat, "click", rng.choice(buttons))
    return ChatReply(json.dumps({"answer": f"I took {actions} actions for: {words}"}))


def _action(chat: ChatRequest, name: str, argument: str) -> ChatReply:
    """An action in the form that was asked for: a call of the tool of that name, else JSON."""
    tool = next((tool for tool in chat.tools if tool.name == name), None)
    if tool is None:
        return ChatReply(json.dumps({"action": f"{name}[{argument}]"}))
    parameter = next(iter(json.loads(tool.schema)["properties"]))
    return ChatReply("", calls=(ToolUse(_call_id(chat), name, json.dumps({parameter: argument})),), finish="tools")


def _acts(message: Message) -> bool:
    return bool(message.calls) or '"action"' in message.content


def _call_id(chat: ChatRequest) -> str:
    return f"call-{len(chat.messages)}"

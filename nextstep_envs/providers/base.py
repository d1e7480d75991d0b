"""What stands between a request and a model: clients speak one service's language, a gateway makes them dependable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from nextstep_envs.errors import NextStepError
from nextstep_envs.requests import ChatReply, ChatRequest, Request, Result
from nextstep_envs.types import Usage

Fault = Literal["timeout", "connection", "rate limit", "overloaded", "server", "malformed", "refused", "circuit open"]
NOTHING = Usage()
RETRYABLE: frozenset[Fault] = frozenset(("timeout", "connection", "rate limit", "overloaded", "server", "malformed"))


class Provider(Protocol):
    """What answers requests. An outage is a result with an error, never an exception."""

    def perform(self, requests: Sequence[Request]) -> Sequence[Result]:
        """One result for each request, in order."""
        ...

    async def answer(self, request: Request) -> Result:
        """The result of one request, while others are under way.

        Raises:
            asyncio.CancelledError: it was cancelled; `waste_of` tells what had been billed until then.
        """
        ...

    def close(self) -> None:
        """Release clients."""
        ...


class Completion(NamedTuple):
    """What a client brings back: the reply and what it used, as the service metered it (else estimated)."""

    reply: ChatReply
    usage: Usage


class CallError(NextStepError):
    """One attempt failed.

    Attributes:
        fault: what went wrong; `RETRYABLE` ones may go away.
        retry_after: seconds that the service asked to wait, or None.
        usage: what was billed although the attempt failed.
    """

    def __init__(self, fault: Fault, message: str, retry_after: float | None = None, usage: Usage = NOTHING) -> None:
        super().__init__(f"{fault}: {message}")
        self.fault, self.retry_after, self.usage = fault, retry_after, usage


def add_waste(cancelled: asyncio.CancelledError, waste: Usage) -> None:
    """Say on a cancelled call's way out what its failed attempts were billed: there is no result that could tell."""
    cancelled.args += (waste,)  # no class of its own: asyncio compares the type


def waste_of(cancelled: asyncio.CancelledError) -> Usage:
    """What `add_waste` said."""
    total = NOTHING
    for argument in cancelled.args:
        total = total.plus(argument) if isinstance(argument, Usage) else total
    return total


class Client(Protocol):
    """One service's language, and nothing else: no retries, no limits, no cache. Safe for many calls at once."""

    async def complete(self, chat: ChatRequest, seed: int, timeout_s: float) -> Completion:
        """One attempt at a chat completion; `chat.model` comes without the provider's name.

        Raises:
            CallError: it failed; the message holds no secret.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

"""Requests, clocks and in-memory clients for the tests of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nextstep_envs.providers.base import CallError, Completion
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request
from nextstep_envs.types import Usage

DEADLINE_S = 60.0  # of a whole test: nothing here may hang


def ask(i: int = 0, text: str = "hello", max_tokens: int = 64) -> Request:
    """A chat request with its own id and seed."""
    return Request(f"{i}/0", "chat", ChatRequest("test:model", (Message("user", text),), max_tokens), seed=1000 + i)


class Clock:
    """Time that passes only where everybody sleeps; `naps` are the sleeps that were slept out."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(20):  # others first: one of them may wake us
            await asyncio.sleep(0)
        self.naps.append(seconds)
        self.now = max(self.now, end)


Behaviour = Callable[[ChatRequest, int], Awaitable[Completion]]


class Client:
    """Answers as it is told, in memory; knows the most calls that were under way at once."""

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave = behave
        self.models: list[str] = []
        self.starts = self.now = self.most = self.closed = 0

    async def complete(self, chat: ChatRequest, seed: int, timeout_s: float) -> Completion:
        self.models.append(chat.model)
        self.starts += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            return await self.behave(chat, seed) if self.behave else done(str(seed))
        finally:
            self.now -= 1

    async def close(self) -> None:
        self.closed += 1


def done(text: str = "fine", prompt: int = 10, completion: int = 5) -> Completion:
    return Completion(ChatReply(text), Usage(prompt, completion, calls=1))


def script(*outcomes: Completion | CallError) -> Behaviour:
    """These outcomes in order, then success."""
    left = iter(outcomes)

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        outcome = next(left, None) or done()
        if isinstance(outcome, CallError):
            raise outcome
        return outcome

    return behave


async def hang(chat: ChatRequest, seed: int) -> Completion:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")

"""Calls of clients, each in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nextstep_envs.providers.anthropic import AnthropicClient
from nextstep_envs.providers.base import CallError, Client, Completion
from nextstep_envs.providers.google import GoogleClient
from nextstep_envs.providers.openai import OpenAIClient
from nextstep_envs.providers.service import ServiceClient
from nextstep_envs.requests import ChatRequest, Message, ToolSpec, ToolUse

for library in ("openai", "anthropic", "google.genai"):
    pytest.importorskip(library, reason="needs the extra [providers]")

CLIENTS: dict[str, type[ServiceClient]] = {"openai": OpenAIClient, "anthropic": AnthropicClient, "google": GoogleClient}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")
URLS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "NEXTSTEP_SECRETS_FILE")
SEARCH = ToolSpec(
    "search", "Searches the shop.", '{"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}'
)
ASKED = (Message("system", "You shop."), Message("user", "Find a red shoe."))
ANSWERED = Message("tool", "No red shoes.", call_id="call_1")
CALLED = (*ASKED, Message("assistant", "I will look.", (ToolUse("call_1", "search", '{"q": "shoe"}'),)), ANSWERED)


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """No key, URL or secrets file of whoever runs the tests."""
    for name in (*KEYS, *URLS):
        patch.delenv(name, raising=False)


def ask(model: str = "m", messages: Sequence[Message] = ASKED, max_tokens: int = 64, **settings: object) -> ChatRequest:
    """A request; one of `settings` may be any field of it."""
    return ChatRequest(model, tuple(messages), max_tokens, **settings)  # type: ignore[arg-type]


def complete(client: Client, *chats: ChatRequest, seed: int = 7, timeout_s: float = 30.0) -> Completion:
    """The completion of the last of `chats`, asked one after the other."""

    async def run() -> Completion:
        try:
            return [await client.complete(chat, seed, timeout_s) for chat in chats][-1]
        finally:
            await client.close()

    return asyncio.run(run())


def failure(client: Client, chat: ChatRequest, timeout_s: float = 30.0) -> CallError:
    """The error that a call ends with."""
    with pytest.raises(CallError) as caught:
        complete(client, chat, timeout_s=timeout_s)
    return caught.value

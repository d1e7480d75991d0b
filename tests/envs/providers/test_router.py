"""The router: every request to its provider, every result in its place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.router import Router
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request, Result, ToolRequest


class Named:
    """Answers with its name; with `meet`, only while the others are answering too."""

    def __init__(self, name: str, meet: threading.Barrier | None = None) -> None:
        self.name, self.meet, self.closed = name, meet, False

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        if self.meet:
            self.meet.wait(30)
        return [self._result(request) for request in requests]

    async def answer(self, request: Request) -> Result:
        return self._result(request)

    def close(self) -> None:
        self.closed = True
        if self.name == "broken":
            raise OSError("it would not close")

    def _result(self, request: Request) -> Result:
        return Result(request.id, ChatReply(f"{self.name} on {request.payload.model}"))


def ask(i: int, model: str) -> Request:
    return Request(f"{i}/0", "chat", ChatRequest(model, (Message("user", "hi"),), 8), i)


def test_results_come_back_in_the_order_of_the_requests() -> None:
    router = Router({name: Named(name) for name in "abc"})
    models = ["b:x", "a:y", "b:z:with:colons", "c:x", "a:x"]
    requests = [ask(i, model) for i, model in enumerate(models)]
    wanted = [Result(f"{i}/0", ChatReply(f"{model[0]} on {model}")) for i, model in enumerate(models)]
    assert router.perform(requests) == wanted
    assert [asyncio.run(router.answer(request)) for request in requests] == wanted
    assert router.perform([]) == []


def test_providers_work_side_by_side() -> None:
    meet = threading.Barrier(2)  # breaks, and so fails, unless both are inside at once
    router = Router({name: Named(name, meet) for name in "ab"})
    assert len(router.perform([ask(0, "a:x"), ask(1, "b:x")])) == 2


@pytest.mark.parametrize("model", ["other:x", "a", ":x"])
def test_a_model_of_no_known_provider_is_named(model: str) -> None:
    with pytest.raises(ConfigError, match=f"'{model}'.*providers: a"):
        Router({"a": Named("a")}).perform([ask(0, model)])


def test_what_is_no_chat_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'tool'"):
        Router({"a": Named("a")}).perform([Request("0/0", "tool", ToolRequest("f", "{}"), 0)])


def test_closing_closes_every_provider_although_one_fails() -> None:
    providers = {name: Named(name) for name in ("a", "broken", "c")}
    with pytest.raises(OSError, match="would not close"):
        Router(providers).close()
    assert all(provider.closed for provider in providers.values())

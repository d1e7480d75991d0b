"""What every client makes of a service's failures: the fault, the words, when to ask again, what was billed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from email.utils import formatdate
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError, MissingExtraError
from nextstep_envs.providers.base import RETRYABLE, CallError
from nextstep_envs.providers.gateway import Gateway
from nextstep_envs.providers.limits import Limits
from nextstep_envs.providers.service import ServiceClient
from nextstep_envs.requests import Request, Result
from tests.envs.providers.calling import CLIENTS, ask, clean_environment, complete, failure
from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.chaos import AFTER, FAULTS, ChaosProxy, scripted
from tests.servers.google_wire import GoogleServer
from tests.servers.openai_like import OpenAIServer
from tests.servers.scripted import ScriptedServer
from tests.servers.wire import Server, json_response, response

SERVERS: dict[str, type[Server]] = {"openai": OpenAIServer, "anthropic": AnthropicServer, "google": GoogleServer}
EXPECTED = {
    "429": "rate limit",
    "429 after": "rate limit",
    "500": "server",
    "503": "overloaded",
    "reset": "connection",
    "hang": "timeout",
    "html": "malformed",
    "lost": "connection",
    "cut": "connection",
    "truncated": "malformed",
    "slow": "timeout",
    "page": "malformed",
    "empty": "malformed",
}

every_client = pytest.mark.parametrize("name", CLIENTS)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def client(name: str, server: Server, **settings: Any) -> ServiceClient:
    return CLIENTS[name](base_url=server.url + ("/v1" if name == "openai" else ""), **settings)


def said(
    status: int, message: str = "The service says so.", headers: dict[str, str] | None = None, **more: Any
) -> bytes:
    """An error document as all three services shape it, more or less."""
    return json_response(status, {"error": {"message": message, **more}}, headers)


def answered(name: str, answer: bytes) -> tuple[CallError, ScriptedServer]:
    """The error that a call ends with where the service says `answer`, and the service."""
    with ScriptedServer(answer) as server:
        return failure(client(name, server), ask()), server


@every_client
@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (408, "timeout"),
        (409, "server"),
        (413, "refused"),
        (422, "refused"),
        (429, "rate limit"),
        (500, "server"),
        (502, "server"),
        (503, "overloaded"),
        (504, "server"),
        (529, "overloaded"),
    ],
)
def test_a_status_is_a_fault_that_is_tried_once_and_says_what_the_service_says(
    name: str, status: int, fault: str
) -> None:
    error, server = answered(name, said(status))
    assert error.fault == fault and f"{status}: The service says so." in str(error)
    assert len(server.requests) == 1  # the library does not retry
    assert not any(error.usage)


@every_client
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "7"}, 7.0), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "soon"}, None), ({}, None)],
)
def test_the_wish_to_be_left_alone_is_passed_on(name: str, headers: dict[str, str], seconds: float | None) -> None:
    assert answered(name, said(429, headers=headers))[0].retry_after == seconds


@every_client
@pytest.mark.parametrize(("ahead", "least", "most"), [(3600, 3000, 3600), (-3600, 0, 0)])
def test_that_wish_may_be_a_date(name: str, ahead: int, least: float, most: float) -> None:
    date = formatdate(time.time() + ahead, usegmt=True)
    found = answered(name, said(503, headers={"retry-after": date}))[0].retry_after
    assert found is not None and least <= found <= most


def test_google_writes_that_wish_into_the_body() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
    assert answered("google", said(429, details=[detail]))[0].retry_after == 17.5


@every_client
def test_a_service_may_say_that_trying_again_is_no_use(name: str) -> None:
    assert answered(name, said(500, headers={"x-should-retry": "false"}))[0].fault == "refused"
    assert answered(name, said(429, code="insufficient_quota"))[0].fault == "refused"


@every_client
def test_a_refused_field_comes_with_the_way_to_leave_it_out(name: str) -> None:
    error, _ = answered(name, said(400, "Unsupported value: 'temperature' does not support 0.0 with this model."))
    assert "extra={'temperature': None}" in str(error)


@every_client
@pytest.mark.parametrize("fault", FAULTS)
def test_each_kind_of_trouble_is_one_fault(name: str, fault: str) -> None:
    if fault == "empty" and name != "openai":
        pytest.skip("that answer is malformed in OpenAI's format only")
    with SERVERS[name]() as server, ChaosProxy(server, scripted(fault), retry_after="3") as proxy:
        error = failure(client(name, proxy), ask(), timeout_s=0.5 if fault in ("hang", "slow") else 30)
        assert error.fault == EXPECTED[fault] and error.fault in RETRYABLE
        assert error.retry_after == (3.0 if fault == "429 after" else None)
        assert len(proxy.events) == 1  # one attempt
        # What was billed is known only where the answer still said it.
        assert any(error.usage) == (fault == "empty") and (
            not any(error.usage) or error.usage == proxy.events[0].billed
        )
        assert proxy.events[0].billed is None or fault in AFTER
        assert complete(client(name, proxy), ask()).reply.text


@every_client
@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "{}", '"text"', '{"choices": [{}], "content": 3, "candidates": [3]}', "[" * 100_000],
    ids=["empty", "null", "list", "object", "text", "wrong types", "deep"],
)
def test_an_answer_of_another_shape_is_malformed(name: str, body: str) -> None:
    error, _ = answered(name, response(200, body.encode()))
    assert error.fault == "malformed" and len(str(error)) < 700


@every_client
def test_bytes_that_are_no_text_are_malformed_or_an_error(name: str) -> None:
    assert answered(name, response(200, b"\xff\xfe\x00garbage"))[0].fault == "malformed"
    assert answered(name, response(500, b"\xff\xfe\x00garbage"))[0].fault in ("server", "connection")
    gzip = {"content-encoding": "gzip"}
    assert answered(name, response(200, b"not gzip", gzip))[0].fault in ("malformed", "connection")


@every_client
def test_json_of_another_content_type_is_malformed_and_its_bill_is_known(name: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "input_tokens": 9, "output_tokens": 2}
    metadata = {"promptTokenCount": 9, "candidatesTokenCount": 2}
    body = json.dumps({"usage": usage, "usageMetadata": metadata}).encode()
    error, _ = answered(name, response(200, body, {"content-type": "text/plain"}))
    assert error.fault == "malformed" and "text/plain" in str(error) and error.usage[:3] == (9, 2, 1)


@every_client
def test_nobody_there_is_a_fault_of_the_connection(name: str) -> None:
    with ScriptedServer() as server:
        pass
    error = failure(client(name, server), ask())
    assert error.fault == "connection" and server.url in str(error)


@every_client
def test_a_redirect_is_not_followed_since_it_would_carry_the_key_away(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "key-0123456789")
    with ScriptedServer(said(500)) as other:
        away = json_response(307, {}, {"location": f"{other.url}/elsewhere"})
        with ScriptedServer(away) as server:
            error = failure(client(name, server, key="A_KEY"), ask())
    assert error.fault == "refused" and f"{other.url}/elsewhere" in str(error)
    assert len(server.requests) == 1 and not other.requests


@every_client
def test_the_exceptions_of_libraries_are_not_chained(name: str) -> None:
    """They hold the request with its headers, which tracebacks and crash reports would show."""
    error, _ = answered(name, said(401))
    assert error.__cause__ is None and error.__context__ is None


@every_client
def test_a_call_can_be_cancelled(name: str) -> None:
    async def run() -> None:
        with SERVERS[name]() as server, ChaosProxy(server, scripted("hang")) as proxy:
            calls = client(name, proxy)
            task = asyncio.create_task(calls.complete(ask(), 0, 60))
            while not proxy.events:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await calls.complete(ask(), 0, 60)).reply.text
            await calls.close()

    asyncio.run(run())


@every_client
def test_behind_a_gateway_trouble_costs_time_and_nothing_else(name: str) -> None:
    trouble = [fault for fault in FAULTS if fault not in ("hang", "slow")]

    def asked(i: int) -> Request:
        return Request("0/0", "chat", ask(f"{name}:m{i}"), i)

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    with SERVERS[name]() as server, ChaosProxy(server, scripted(*trouble)) as proxy:
        limits = Limits(retries=len(trouble), breaker_failures=len(trouble) + 1)
        gateway = Gateway(lambda: client(name, proxy), limits, sleep=no_pause)
        results: list[Result] = gateway.perform([asked(i) for i in range(20)])
        gateway.close()
    assert all(not result.error and result.value.text for result in results)
    told = [event for event in proxy.events if event.told and event.billed]
    assert sum(result.usage.calls + result.waste.calls for result in results) == len(told)
    assert sum(result.usage.tokens + result.waste.tokens for result in results) == sum(
        event.billed.tokens for event in told if event.billed
    )


@every_client
@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("127.0.0.1:80", "https://host/path"),
        ("ftp://host", "https://host/path"),
        ("http://user:hunter2hunter2@host", "no user, password"),
        ("http://host?key=hunter2hunter2", "no user, password"),
    ],
)
def test_a_malformed_url_is_refused_and_shows_no_password(name: str, url: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        CLIENTS[name](base_url=url)
    assert "hunter2" not in str(caught.value)


@every_client
def test_a_library_that_is_not_installed_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, CLIENTS[name].module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nextstep-envs\[providers\]'") as caught:
        CLIENTS[name](base_url="http://localhost")
    assert CLIENTS[name].package in str(caught.value)


@every_client
def test_extra_fields_are_plain_data(name: str) -> None:
    with pytest.raises(ConfigError, match="plain data"):
        CLIENTS[name](base_url="http://localhost", extra={"user": object()})


@every_client
def test_fields_that_the_ledger_counts_on_cannot_be_overridden(name: str) -> None:
    field = "max_output_tokens" if name == "google" else "max_tokens"
    with pytest.raises(ConfigError, match=field):
        CLIENTS[name](base_url="http://localhost", extra={field: 10**6})

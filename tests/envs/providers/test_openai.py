"""Chat completions through the official client: against a real model, and against the wire format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.providers.openai import OpenAIClient
from nextstep_envs.requests import Message, ToolSpec, ToolUse
from tests.envs.providers.calling import ASKED, CALLED, SEARCH, ask, clean_environment, complete, failure
from tests.servers.llama import MODEL
from tests.servers.openai_like import OpenAIServer
from tests.servers.scripted import ScriptedServer
from tests.servers.wire import json_response

HELLO = (Message("system", "You are helpful."), Message("user", "Say hello."))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def client(server: OpenAIServer | ScriptedServer, **settings: Any) -> OpenAIClient:
    return OpenAIClient(base_url=f"{server.url}/v1", **settings)


def document(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage} | fields


@pytest.fixture
def scripted() -> Iterator[Any]:
    """Makes servers that answer one document."""
    opened: list[ScriptedServer] = []

    def make(value: Any) -> ScriptedServer:
        opened.append(ScriptedServer(json_response(200, value)).__enter__())
        return opened[-1]

    yield make
    for server in opened:
        server.__exit__()


def test_a_real_model_answers_with_its_usage(llama_url: str) -> None:
    reply, usage = complete(OpenAIClient(base_url=f"{llama_url}/v1"), ask(MODEL, HELLO, max_tokens=8))
    assert "ello" in reply.text and reply.finish == "length"
    assert usage.completion_tokens == 8 and usage.prompt_tokens > 10 and usage.calls == 1


def test_a_real_model_gives_the_log_probability_of_each_token(llama_url: str) -> None:
    reply, usage = complete(OpenAIClient(base_url=f"{llama_url}/v1"), ask(MODEL, HELLO, max_tokens=8, logprobs=True))
    assert "".join(token for token, _ in reply.logprobs) == reply.text
    assert len(reply.logprobs) == usage.completion_tokens
    assert all(logprob <= 0 and math.isfinite(logprob) for _, logprob in reply.logprobs)


def test_a_real_model_follows_the_seed(llama_url: str) -> None:
    def texts(*seeds: int) -> list[str]:
        chat = ask(MODEL, HELLO, max_tokens=16, temperature=1.0)
        return [complete(OpenAIClient(base_url=f"{llama_url}/v1"), chat, seed=seed)[0].text for seed in seeds]

    first, again, other = texts(2**62 + 1, 2**62 + 1, 2**62 + 2)
    assert first == again != other


def test_every_field_of_a_request_is_sent(openai_server: OpenAIServer) -> None:
    chat = ask("m", tools=(SEARCH,), temperature=0.5, logprobs=True, max_tokens=9)
    complete(client(openai_server, extra={"reasoning_effort": "low"}), chat, seed=2**40 + 5)
    body = openai_server.bodies[0]
    function = {"name": "search", "description": SEARCH.description, "parameters": json.loads(SEARCH.schema)}
    assert body == {
        "model": "m",
        "messages": [{"role": role, "content": content} for role, content, *_ in ASKED],
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 5,
        "logprobs": True,
        "tools": [{"type": "function", "function": function}],
        "reasoning_effort": "low",
    }


def test_what_is_not_asked_for_is_not_sent(openai_server: OpenAIServer) -> None:
    complete(client(openai_server, extra={"temperature": None, "seed": None}), ask())
    assert openai_server.bodies[0].keys() == {"model", "messages", "max_tokens"}


def test_openais_own_hosts_are_told_the_limit_in_their_newer_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    for url, name in (
        (None, "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://openai.com.example.org/v1", "max_tokens"),
    ):
        asked = OpenAIClient(base_url=url)._body(ask(max_tokens=3), 0)
        assert asked[name] == 3 and len({"max_tokens", "max_completion_tokens"} & asked.keys()) == 1


def test_tool_calls_come_back_and_their_results_are_sent(openai_server: OpenAIServer) -> None:
    reply, usage = complete(client(openai_server), ask(tools=(SEARCH,)))
    (call,) = reply.calls
    assert (call.name, json.loads(call.arguments), reply.finish) == ("search", {"q": "red shoe"}, "tools")
    assert usage == openai_server.bills[0].usage
    messages = (*ASKED, Message("assistant", reply.text, reply.calls), Message("tool", "None.", call_id=call.id))
    reply, _ = complete(client(openai_server), ask(messages=messages, tools=(SEARCH,)))
    assert reply.finish == "stop" and not reply.calls
    assert openai_server.bodies[1]["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": "search", "arguments": call.arguments}}
            ],
        },
        {"role": "tool", "content": "None.", "tool_call_id": call.id},
    ]


def test_arguments_that_are_no_json_are_sent_back_as_json(openai_server: OpenAIServer) -> None:
    broken = Message("assistant", "", (ToolUse("call_1", "search", '{"q": '),))
    complete(client(openai_server), ask(messages=(*ASKED, broken, CALLED[-1])))
    sent = openai_server.bodies[0]["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"invalid": '{"q": '}


@pytest.mark.parametrize(
    ("message", "fields", "text", "thinking", "finish"),
    [
        ({"content": "Hi."}, {}, "Hi.", "", "stop"),
        ({"content": "<think>Hm.</think>\n\nHi."}, {}, "Hi.", "Hm.", "stop"),
        ({"content": "<think>Hm"}, {"finish_reason": "length"}, "", "Hm", "length"),
        ({"content": "Hi.", "reasoning_content": "Hm."}, {}, "Hi.", "Hm.", "stop"),
        ({"content": "Hi.", "reasoning": "Hm."}, {}, "Hi.", "Hm.", "stop"),
        ({"content": "Hi", "refusal": None}, {"finish_reason": "content_filter"}, "Hi", "", "filter"),
        ({"refusal": "I cannot."}, {}, "I cannot.", "", "filter"),
        ({"content": "Hi."}, {"finish_reason": "eos"}, "Hi.", "", "stop"),
        ({"content": "Hi \ud83d."}, {}, "Hi ?.", "", "stop"),
    ],
)
def test_replies_are_read(
    scripted: Any, message: dict[str, Any], fields: dict[str, Any], text: str, thinking: str, finish: str
) -> None:
    value = document(message)
    value["choices"][0] |= fields
    reply, usage = complete(client(scripted(value)), ask())
    assert (reply.text, reply.thinking, reply.finish) == (text, thinking, finish)
    assert usage[:3] == (20, 5, 1)


def test_servers_that_call_tools_their_own_way_are_understood(scripted: Any) -> None:
    function = {"name": "search", "arguments": {"q": "x"}}  # an object, not its text; no id; "stop"
    reply, _ = complete(client(scripted(document({"tool_calls": [{"function": function}]}))), ask(tools=(SEARCH,)))
    assert reply.calls == (ToolUse("call-0", "search", '{"q": "x"}'),) and reply.finish == "tools"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}, (20, 5)),
        ({"prompt_tokens": 20, "completion_tokens": 5}, (20, 5)),
        ({"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 16}}, (20, 5)),
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 65}, (20, 45)),  # thinking in the total only
    ],
)
def test_usage_is_what_the_service_says(scripted: Any, usage: dict[str, Any], tokens: tuple[int, int]) -> None:
    assert complete(client(scripted(document({"content": "Hi."}, usage=usage))), ask()).usage[:3] == (*tokens, 1)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "20", "completion_tokens": 5}, {"prompt_tokens": -1}])
def test_usage_that_is_missing_is_estimated(scripted: Any, usage: Any) -> None:
    found = complete(client(scripted(document({"content": "A red shoe."}, usage=usage))), ask()).usage
    prompt = sum(estimate_tokens(content) for _, content, *_ in ASKED)
    assert found[:3] == (prompt, estimate_tokens("A red shoe."), 1)


def test_log_probabilities_that_do_not_come_are_an_error_not_an_empty_list(scripted: Any) -> None:
    error = failure(client(scripted(document({"content": "Hi."}))), ask(logprobs=True))
    assert error.fault == "refused" and "log-probabilities" in str(error) and error.usage[:3] == (20, 5, 1)


@pytest.mark.parametrize("schema", ["{", "[]"])
def test_a_tool_with_a_broken_schema_is_named(openai_server: OpenAIServer, schema: str) -> None:
    with pytest.raises(ConfigError, match="'search'"):
        complete(client(openai_server), ask(tools=(ToolSpec("search", "", schema),)))
    assert openai_server.requests == 0


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch, openai_server: OpenAIServer) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{openai_server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    openai_server.key = "sk-of-the-environment"
    complete(OpenAIClient(), ask())
    assert len(openai_server.bills) == 1


def test_a_client_can_be_used_again_after_it_was_closed(openai_server: OpenAIServer) -> None:
    again = client(openai_server)
    for _ in range(2):  # each in an event loop of its own
        complete(again, ask())
    assert openai_server.requests == 2

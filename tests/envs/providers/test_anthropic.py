"""Messages through the official client: against a real model, and against the wire format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.anthropic import AnthropicClient
from nextstep_envs.requests import ChatReply, Message, ToolUse
from tests.envs.providers.calling import ASKED, CALLED, SEARCH, ask, clean_environment, complete, failure
from tests.servers.anthropic_wire import THOUGHT, AnthropicServer
from tests.servers.llama import MODEL

ADAPTIVE = {"thinking": {"type": "adaptive"}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def client(server: AnthropicServer, **settings: Any) -> AnthropicClient:
    return AnthropicClient(base_url=server.url, **settings)


def after(reply: ChatReply, *results: str) -> tuple[Message, ...]:
    """The conversation with a reply and the results of its calls."""
    told = (Message("tool", text, call_id=call.id) for text, call in zip(results, reply.calls, strict=True))
    return (*ASKED, Message("assistant", reply.text, reply.calls), *told)


def test_a_real_model_answers_with_its_usage(llama_url: str) -> None:
    chat = ask(MODEL, (Message("system", "You are helpful."), Message("user", "Say hello.")), max_tokens=8)
    reply, usage = complete(AnthropicClient(base_url=llama_url), chat)
    assert "ello" in reply.text and reply.finish == "length"
    assert usage.completion_tokens == 8 and usage.prompt_tokens > 10 and usage.calls == 1


def test_every_field_of_a_request_is_sent() -> None:
    with AnthropicServer() as server:
        complete(client(server, extra={"stop_sequences": ["."]}), ask(tools=(SEARCH,), temperature=0.5, max_tokens=9))
    tool = {"name": "search", "description": SEARCH.description, "input_schema": json.loads(SEARCH.schema)}
    assert server.bodies[0] == {
        "model": "m",
        "system": "You shop.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Find a red shoe."}]}],
        "max_tokens": 9,
        "temperature": 0.5,
        "tools": [tool],
        "stop_sequences": ["."],
    }


def test_models_that_refuse_a_temperature_can_be_asked_without() -> None:
    with AnthropicServer() as server:
        complete(client(server, extra={"temperature": None}), ask(messages=ASKED[1:]))
    assert server.bodies[0].keys() == {"model", "messages", "max_tokens"}


def test_tool_calls_come_back_and_their_results_are_sent() -> None:
    with AnthropicServer() as server:
        reply, usage = complete(client(server), ask(tools=(SEARCH,)))
        assert reply == ChatReply("I will look.", "", (ToolUse("toolu_01A", "search", '{"q": "red shoe"}'),), "tools")
        assert usage.calls == 1 and usage.prompt_tokens > 0 and usage.completion_tokens > 0
        reply, _ = complete(client(server), ask(messages=after(reply, "None."), tools=(SEARCH,)))
    assert reply == ChatReply("A red shoe.")
    assert server.bodies[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "toolu_01A", "name": "search", "input": {"q": "red shoe"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01A", "content": "None."}]},
    ]


def test_results_of_parallel_calls_and_what_follows_are_one_turn() -> None:
    calls = (ToolUse("a", "search", "{}"), ToolUse("b", "search", "not json"))
    told = (Message("tool", "", call_id="a"), Message("tool", "Red.", call_id="b"), Message("user", "Go on."))
    with AnthropicServer() as server:
        complete(client(server), ask(messages=(*ASKED, Message("assistant", "", calls), *told)))
    _, called, answered = server.bodies[0]["messages"]
    assert [block["input"] for block in called["content"]] == [{}, {"invalid": "not json"}]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "a"},
        {"type": "tool_result", "tool_use_id": "b", "content": "Red."},
        {"type": "text", "text": "Go on."},
    ]


def test_an_empty_reply_in_the_conversation_is_left_out() -> None:
    messages = (*ASKED, Message("assistant", " \n"), Message("user", "Again."))
    with AnthropicServer() as server:
        complete(client(server), ask(messages=messages))
    (turn,) = server.bodies[0]["messages"]
    assert [block["text"] for block in turn["content"]] == ["Find a red shoe.", "Again."]


def test_thinking_is_kept_apart_and_goes_back_within_a_tool_loop() -> None:
    with AnthropicServer() as server:
        reply, _ = complete(client(server, extra=ADAPTIVE), ask(tools=(SEARCH,)))
        assert (reply.text, reply.thinking) == ("I will look.", THOUGHT["thinking"])
        reply, _ = complete(client(server, extra=ADAPTIVE), ask(messages=after(reply, "None."), tools=(SEARCH,)))
    assert (reply.text, reply.thinking, reply.calls) == ("A red shoe.", THOUGHT["thinking"], ())
    assert server.bodies[1]["messages"][1]["content"][0] == THOUGHT


def test_a_signature_of_other_calls_is_not_sent() -> None:
    with AnthropicServer() as server:
        reply, _ = complete(client(server, extra=ADAPTIVE), ask(tools=(SEARCH,)))
        other = reply.calls[0]._replace(id="another")
        complete(
            client(server),
            ask(messages=(*ASKED, Message("assistant", "", (other,)), Message("tool", "x", (), "another"))),
        )
    assert [block["type"] for block in server.bodies[1]["messages"][1]["content"]] == ["tool_use"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "filter"),
        ("something new", "stop"),
    ],
)
def test_reasons_to_stop_are_mapped(reason: str, finish: str) -> None:
    with AnthropicServer(stop_reason=reason) as server:
        assert complete(client(server), ask()).reply.finish == finish


def test_what_was_cached_counts_as_prompt_and_thinking_as_completion() -> None:
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 40},
    }
    with AnthropicServer(usage=usage) as server:
        assert complete(client(server), ask()).usage[:3] == (123, 50, 1)


def test_usage_that_is_missing_is_estimated() -> None:
    with AnthropicServer(usage={}) as server:
        assert complete(client(server), ask()).usage[:3] == (3 + 4, 3, 1)


def test_log_probabilities_are_refused_before_anything_is_sent() -> None:
    with AnthropicServer() as server, pytest.raises(ConfigError, match="no log-probabilities"):
        complete(client(server), ask(logprobs=True))
    assert not server.bodies


def test_a_late_system_message_is_refused_before_anything_is_sent() -> None:
    with AnthropicServer() as server, pytest.raises(ConfigError, match="system messages only before"):
        complete(client(server), ask(messages=(*ASKED, Message("system", "Stop."))))
    assert not server.bodies


def test_a_conversation_that_the_service_refuses_says_why() -> None:
    with AnthropicServer() as server:
        error = failure(client(server), ask(messages=CALLED[:-1]))
    assert error.fault == "refused" and "400" in str(error) and "tool_result" in str(error)

"""generateContent through the official client, by API key and by application credentials, against the wire format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.google import GoogleClient
from nextstep_envs.requests import ChatReply, Message, ToolUse
from tests.envs.providers.calling import ASKED, CALLED, SEARCH, ask, clean_environment, complete, failure
from tests.servers.google_wire import SIGNATURE, GoogleServer

ALOUD = {"thinking_config": {"include_thoughts": True}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


def client(server: GoogleServer, **settings: Any) -> GoogleClient:
    return GoogleClient(base_url=server.url, **settings)


def after(reply: ChatReply, *results: str) -> tuple[Message, ...]:
    """The conversation with a reply and the results of its calls."""
    told = (Message("tool", text, call_id=call.id) for text, call in zip(results, reply.calls, strict=True))
    return (*ASKED, Message("assistant", reply.text, reply.calls), *told)


def test_every_field_of_a_request_is_sent() -> None:
    chat = ask(tools=(SEARCH,), temperature=0.5, logprobs=True, max_tokens=9)
    with GoogleServer() as server:
        complete(client(server, extra={"top_p": 0.9}), chat, seed=2**40 + 5)
    declared = {"name": "search", "description": SEARCH.description, "parametersJsonSchema": json.loads(SEARCH.schema)}
    assert server.bodies[0] == {
        "systemInstruction": {"parts": [{"text": "You shop."}], "role": "user"},
        "contents": [{"role": "user", "parts": [{"text": "Find a red shoe."}]}],
        "tools": [{"functionDeclarations": [declared]}],
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "seed": 5,
            "responseLogprobs": True,
        },
    }


def test_a_field_that_a_model_refuses_can_be_left_out() -> None:
    with GoogleServer() as server:
        complete(client(server, extra={"temperature": None, "seed": None}), ask())
    assert server.bodies[0]["generationConfig"] == {"maxOutputTokens": 64}


def test_text_comes_with_log_probabilities_and_usage() -> None:
    with GoogleServer() as server:
        reply, usage = complete(client(server), ask(logprobs=True))
    assert reply == ChatReply("A red shoe.", logprobs=(("A red ", -0.5), ("shoe.", -0.5)))
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0 and usage.calls == 1


@pytest.mark.parametrize("id", [None, "srv-1"])
def test_tool_calls_come_back_and_their_results_are_sent(id: str | None) -> None:
    made = {"name": "search", "args": {"q": "shoe"}} | ({"id": id} if id else {})
    replies = iter(
        ([{"functionCall": made}, {"functionCall": made | ({"id": "srv-2"} if id else {})}], [{"text": "No."}])
    )
    with GoogleServer(reply=lambda body: next(replies)) as server:
        reply, _ = complete(client(server), ask(tools=(SEARCH,)))
        assert [(call.name, call.arguments) for call in reply.calls] == [("search", '{"q": "shoe"}')] * 2
        assert reply.finish == "tools" and len({call.id for call in reply.calls}) == 2
        reply, _ = complete(client(server), ask(messages=after(reply, "None.", "One."), tools=(SEARCH,)))
    assert reply == ChatReply("No.")
    ids: list[dict[str, str]] = [{"id": "srv-1"}, {"id": "srv-2"}] if id else [{}, {}]  # none of ours is sent
    called, answered = server.bodies[1]["contents"][1:]
    assert called == {"role": "model", "parts": [{"functionCall": made | own} for own in ids]}
    assert answered == {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "search", "response": {"output": text}} | own}
            for text, own in zip(("None.", "One."), ids, strict=True)
        ],
    }


def test_the_signature_of_a_call_goes_back_with_it() -> None:
    with GoogleServer(signed=True) as server:
        reply, _ = complete(client(server), ask(tools=(SEARCH,)))
        reply, _ = complete(client(server), ask(messages=after(reply, "None."), tools=(SEARCH,)))
    assert reply.text == "A red shoe."
    assert server.bodies[1]["contents"][1]["parts"][1]["thoughtSignature"] == SIGNATURE


def test_thinking_is_kept_apart() -> None:
    with GoogleServer() as server:
        reply, _ = complete(client(server, extra=ALOUD), ask())
    assert (reply.text, reply.thinking) == ("A red shoe.", "The user wants shoes.")


@pytest.mark.parametrize(
    ("candidate", "text", "finish"),
    [
        ({}, "A red shoe.", "stop"),
        ({"finishReason": "MAX_TOKENS"}, "A red shoe.", "length"),
        ({"finishReason": "MAX_TOKENS", "content": {"role": "model"}}, "", "length"),
        ({"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}}, "", "stop"),
        ({"finishReason": "SAFETY", "content": {}}, "", "filter"),
        ({"finishReason": "RECITATION"}, "A red shoe.", "filter"),
    ],
)
def test_reasons_to_stop_are_mapped(candidate: dict[str, Any], text: str, finish: str) -> None:
    with GoogleServer(candidate=candidate) as server:
        reply, _ = complete(client(server), ask())
    assert (reply.text, reply.finish) == (text, finish)


def test_a_blocked_prompt_is_a_reply_that_was_filtered() -> None:
    usage = {"promptTokenCount": 12, "totalTokenCount": 12}
    document = {"candidates": None, "promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}
    with GoogleServer(document=document) as server:
        reply, used = complete(client(server), ask())
    assert reply == ChatReply("", finish="filter") and used[:3] == (12, 0, 1)


def test_an_answer_without_candidates_or_a_reason_is_malformed() -> None:
    with GoogleServer(document={"candidates": None}) as server:
        error = failure(client(server), ask())
    assert error.fault == "malformed" and error.usage.calls == 1


def test_thoughts_count_as_completion_and_what_was_cached_as_prompt() -> None:
    usage = {
        "promptTokenCount": 120,
        "cachedContentTokenCount": 100,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 30,
    }
    with GoogleServer(document={"usageMetadata": usage}) as server:
        assert complete(client(server), ask()).usage[:3] == (125, 37, 1)


def test_usage_that_is_missing_is_estimated() -> None:
    with GoogleServer(document={"usageMetadata": None}) as server:
        assert complete(client(server), ask()).usage[:3] == (3 + 4, 3, 1)


def test_a_result_of_no_call_is_refused_before_anything_is_sent() -> None:
    with GoogleServer() as server, pytest.raises(ConfigError, match="call_1"):
        complete(client(server), ask(messages=(*ASKED, CALLED[-1])))
    assert not server.paths


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Application credentials as Google hands them out: a service account with a private key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "account.json"
    account = {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "1",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": "shopper@shop.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "to be set",
    }
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


def test_vertex_ai_is_called_with_application_credentials(credentials: Path) -> None:
    with GoogleServer() as server:
        account = json.loads(credentials.read_text())
        credentials.write_text(json.dumps(account | {"token_uri": f"{server.url}/token"}))
        vertex = client(server, vertexai=True, project="shop", location="europe-west4")
        reply, _ = complete(vertex, ask("gemini"), ask("gemini"))
    assert reply.text == "A red shoe."
    path = "/v1beta1/projects/shop/locations/europe-west4/publishers/google/models/gemini:generateContent"
    assert server.paths == ["/token", path, path]


def test_tools_work_on_vertex_ai(credentials: Path) -> None:
    with GoogleServer(signed=True) as server:
        account = json.loads(credentials.read_text())
        credentials.write_text(json.dumps(account | {"token_uri": f"{server.url}/token"}))
        vertex = client(server, vertexai=True, project="shop")
        reply, _ = complete(vertex, ask(tools=(SEARCH,)))
        reply, _ = complete(vertex, ask(messages=after(reply, "None."), tools=(SEARCH,)))
    assert reply.text == "A red shoe."


def test_without_credentials_vertex_ai_says_what_is_missing(credentials: Path) -> None:
    credentials.write_text("{}")
    with GoogleServer() as server:
        error = failure(client(server, vertexai=True, project="shop"), ask())
    assert error.fault == "refused" and "no access token" in str(error)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "GOOGLE_API_KEY or GEMINI_API_KEY"),
        ({"vertexai": True}, "GOOGLE_CLOUD_PROJECT"),
        ({"project": "shop"}, "vertexai=True"),
        ({"vertexai": True, "project": "shop", "key": "GOOGLE_API_KEY"}, "either key"),
        ({"base_url": "http://localhost", "extra": {"thinking": 1}}, "thinking"),
        ({"base_url": "http://localhost", "extra": {"top_p": "high"}}, "top_p"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        GoogleClient(**settings)


def test_a_tool_use_of_another_service_is_understood() -> None:
    call = ToolUse("call_1", "search", "{}", "anthropic:[]")
    with GoogleServer() as server:
        complete(client(server), ask(messages=(*ASKED, Message("assistant", "", (call,)), CALLED[-1])))
    assert server.bodies[0]["contents"][1]["parts"] == [
        {"functionCall": {"name": "search", "args": {}, "id": "call_1"}}
    ]

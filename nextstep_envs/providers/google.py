"""Google's Gemini models, by API key (Gemini API) or by application credentials (Vertex AI)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.base import CallError, Fault
from nextstep_envs.providers.secrets import redact
from nextstep_envs.providers.service import (
    SEEDS,
    Answer,
    ServiceClient,
    arguments_of,
    count_of,
    schema_of,
    system_and_rest,
    text_of,
)
from nextstep_envs.requests import ChatReply, ChatRequest, Message, ToolUse

STOPS = {
    "STOP",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MALFORMED_RESPONSE",
    "OTHER",
}
LENGTHS = {"MAX_TOKENS", "CONTINUATION"}
SIGNED = "google:"  # before the base64 of a call's thought signature
NAMELESS = "nextstep-"  # ids of calls that the service gave none


class GoogleClient(ServiceClient):
    """A `Client` of `generateContent` (https://ai.google.dev/api/generate-content).

    Offers tool calls, log-probabilities, seeds (the request's, modulo 2**31) and thinking; its text comes where
    `extra={"thinking_config": {"include_thoughts": True}}` asks for it. `extra` holds fields of the library's
    `GenerateContentConfig`. A blocked prompt or reply is a reply with finish "filter". The signature that thinking
    models want back with a tool call travels in `ToolUse.signature`.

    Args:
        base_url: as for every client.
        key: as for every client.
        extra: as for every client.
        secrets_file: as for every client.
        vertexai: use Vertex AI with application default credentials (`gcloud auth application-default login`, or
            GOOGLE_APPLICATION_CREDENTIALS) instead of an API key.
        project: of Vertex AI; default: GOOGLE_CLOUD_PROJECT.
        location: of Vertex AI; default: GOOGLE_CLOUD_LOCATION, else "global".
    """

    service = "google"
    package = "google-genai"
    module = "google.genai"
    keys = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    url_variable = "GOOGLE_GEMINI_BASE_URL"
    reserved = frozenset(
        (
            "model",
            "contents",
            "system_instruction",
            "tools",
            "max_output_tokens",
            "candidate_count",
            "response_logprobs",
            "http_options",
            "should_return_http_response",
            "automatic_continuation",
            "automatic_function_calling",
        )
    )

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        secrets_file: str | None = None,
        vertexai: bool = False,
        project: str | None = None,
        location: str | None = None,
    ) -> None:
        self.vertexai = vertexai
        self.project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
        self.location = location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "global"
        if vertexai and not self.project:
            raise ConfigError("provider 'google' with vertexai=True needs project=, or GOOGLE_CLOUD_PROJECT")
        if (project or location or key) and vertexai == bool(key):
            raise ConfigError("provider 'google' takes either key= or vertexai=True with project= and location=")
        super().__init__(base_url, key, extra, secrets_file)
        from google.genai.types import GenerateContentConfig

        try:
            GenerateContentConfig(**self.extra)
        except ValueError as error:
            raise ConfigError(redact(f"extra= of provider 'google' does not fit: {error}")) from None

    def _secret(self) -> str:
        return "" if self.vertexai else super()._secret()

    def _connect(self) -> Any:
        from google import genai

        options = genai.types.HttpOptions(
            base_url=self.base_url,
            httpx_async_client=self._http,
            retry_options=genai.types.HttpRetryOptions(attempts=1),
        )
        if self.vertexai:
            client = genai.Client(vertexai=True, project=self.project, location=self.location, http_options=options)
        else:
            client = genai.Client(vertexai=False, api_key=self._secret(), http_options=options)
        return client.aio.models

    def _body(self, chat: ChatRequest, seed: int) -> dict[str, Any]:
        system, rest = system_and_rest(self.service, chat.messages)
        functions = [
            {"name": t.name, "description": t.description, "parameters_json_schema": schema_of(t)} for t in chat.tools
        ]
        return {
            "model": chat.model,
            "contents": _contents(rest),
            "system_instruction": system or None,
            "max_output_tokens": chat.max_tokens,
            "temperature": chat.temperature,
            "seed": seed % SEEDS,
            "tools": [{"function_declarations": functions}] if functions else None,
            "response_logprobs": chat.logprobs or None,
        }

    async def _send(self, body: dict[str, Any], timeout_s: float) -> Answer:
        model, contents = body.pop("model"), body.pop("contents")
        config = body | {
            "http_options": {"timeout": max(1, round(1000 * timeout_s))},
            "should_return_http_response": True,
            "automatic_continuation": False,
            "automatic_function_calling": {"disable": True},
        }
        found = await self._library.generate_content(model=model, contents=contents, config=config)
        response = found.sdk_http_response
        headers = {name.lower(): value for name, value in (response.headers or {}).items()}
        return Answer(headers.get("content-type", ""), response.body or "")

    def _exceptions(self) -> tuple[type[Exception], ...]:
        import google.auth.exceptions
        import httpx2
        from google.genai import errors

        # The library lets the last one out where an error's body is no text.
        return (errors.APIError, httpx2.HTTPError, google.auth.exceptions.GoogleAuthError, UnicodeDecodeError)

    def _failed(self, problem: Exception) -> CallError:
        import google.auth.exceptions

        if isinstance(problem, google.auth.exceptions.GoogleAuthError):
            fault: Fault = "connection" if problem.retryable else "refused"
            return CallError(fault, redact(f"{self.service}: no access token: {problem}"))
        return super()._failed(problem)

    def _reply(self, document: Any) -> ChatReply:
        if not document.get("candidates"):
            document["promptFeedback"]["blockReason"]  # the only reason to have no candidate
            return ChatReply("", finish="filter")
        candidate = document["candidates"][0]
        parts = candidate.get("content", {}).get("parts") or ()
        texts = [text_of(part["text"]) for part in parts if "text" in part and not part.get("thought")]
        thoughts = [text_of(part["text"]) for part in parts if "text" in part and part.get("thought")]
        called = [part for part in parts if "functionCall" in part]
        calls = tuple(_call(i, part) for i, part in enumerate(called))
        reason = candidate.get("finishReason", "STOP")
        finish = "length" if reason in LENGTHS else "stop" if reason in STOPS else "filter"
        tokens = candidate.get("logprobsResult", {}).get("chosenCandidates") or ()
        return ChatReply(
            text="".join(texts),
            thinking="\n".join(filter(None, thoughts)),
            calls=calls,
            finish="tools" if calls and finish == "stop" else finish,
            logprobs=tuple((text_of(token["token"]), float(token["logProbability"])) for token in tokens),
        )

    def _usage(self, document: Any) -> tuple[int, int]:
        usage = document["usageMetadata"]
        count_of(usage["promptTokenCount"])
        prompt = (usage.get(f"{name}TokenCount") or 0 for name in ("prompt", "toolUsePrompt"))
        completion = (usage.get(f"{name}TokenCount") or 0 for name in ("candidates", "thoughts"))
        return sum(map(count_of, prompt)), sum(map(count_of, completion))


def _call(index: int, part: Any) -> ToolUse:
    call = part["functionCall"]
    signature = text_of(part.get("thoughtSignature"))
    return ToolUse(
        text_of(call.get("id")) or f"{NAMELESS}{index}",
        text_of(call["name"]),
        json.dumps(call.get("args") or {}),
        signature and SIGNED + signature,
    )


def _contents(messages: list[Message]) -> list[dict[str, Any]]:
    """Turns of user and model alternate; the results of tools belong to the user's and name the tool."""
    names: dict[str, str] = {}
    turns: list[dict[str, Any]] = []
    for role, turn in groupby(messages, lambda message: "model" if message.role == "assistant" else "user"):
        parts: list[dict[str, Any]] = []
        for message in turn:
            names.update((call.id, call.name) for call in message.calls)
            parts += _parts(message, names)
        turns.append({"role": role, "parts": parts})
    return turns


def _parts(message: Message, names: Mapping[str, str]) -> list[dict[str, Any]]:
    if message.role == "tool":
        if message.call_id not in names:
            raise ConfigError(f"a tool message answers call {message.call_id!r}, which no message before it makes")
        response = {"name": names[message.call_id], "response": {"output": message.content}}
        return [{"function_response": response | _id(message.call_id)}]
    parts: list[dict[str, Any]] = [{"text": message.content}] if message.content.strip() else []
    for call in message.calls:
        part: dict[str, Any] = {
            "function_call": {"name": call.name, "args": arguments_of(call.arguments)} | _id(call.id)
        }
        if call.signature.startswith(SIGNED):
            part["thought_signature"] = base64.b64decode(call.signature.removeprefix(SIGNED))
        parts.append(part)
    return parts


def _id(id: str) -> dict[str, str]:
    return {} if id.startswith(NAMELESS) else {"id": id}

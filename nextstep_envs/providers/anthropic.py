"""Anthropic's messages, and every server that speaks them."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.service import (
    Answer,
    ServiceClient,
    arguments_of,
    count_of,
    schema_of,
    system_and_rest,
    text_of,
)
from nextstep_envs.requests import ChatReply, ChatRequest, Message, ToolUse

FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tools",
    "refusal": "filter",
}
SIGNED = "anthropic:"  # before the content that a tool call came with


class AnthropicClient(ServiceClient):
    """A `Client` of messages (https://platform.claude.com/docs/en/api/messages).

    Offers tool calls and thinking (switched on by `extra={"thinking": {"type": "adaptive"}}` where the model does not
    think by itself). The service has no log-probabilities: asking for them is a ConfigError. It has no seeds either; a
    request's seed only names it in a store. Recent models refuse `temperature`; leave it out with
    `extra={"temperature": None}`. What was read from or written to a cache counts as prompt.

    A model that thinks before it calls a tool wants its message back exactly as it was, thinking included, as long as
    the tool loop lasts: it travels in the signature of the message's first call.
    """

    service = "anthropic"
    package = "anthropic"
    module = "anthropic"
    keys = ("ANTHROPIC_API_KEY",)
    url_variable = "ANTHROPIC_BASE_URL"
    reserved = frozenset(("model", "messages", "system", "tools", "max_tokens", "stream"))

    def _connect(self) -> Any:
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self._secret(), base_url=self.base_url, max_retries=0, http_client=self._http
        )

    def _body(self, chat: ChatRequest, seed: int) -> dict[str, Any]:
        if chat.logprobs:
            raise ConfigError("anthropic offers no log-probabilities; ask for none (logprobs=False)")
        system, rest = system_and_rest(self.service, chat.messages)
        tools = [{"name": t.name, "description": t.description, "input_schema": schema_of(t)} for t in chat.tools]
        return {
            "model": chat.model,
            "messages": _turns(rest),
            "max_tokens": chat.max_tokens,
            "temperature": chat.temperature,
            "system": system or None,
            "tools": tools or None,
        }

    async def _send(self, body: dict[str, Any], timeout_s: float) -> Answer:
        import httpx2

        # Not by `messages.create`, which lacks some of the service's arguments (temperature) and checks the others.
        options = {"timeout": timeout_s}
        response = await self._library.post("/v1/messages", cast_to=httpx2.Response, body=body, options=options)
        return Answer(response.headers.get("content-type", ""), response.text)

    def _exceptions(self) -> tuple[type[Exception], ...]:
        import anthropic

        return (anthropic.AnthropicError,)

    def _reply(self, document: Any) -> ChatReply:
        blocks = document["content"]
        texts = [text_of(block["text"]) for block in blocks if block["type"] == "text"]
        thoughts = [text_of(block["thinking"]) for block in blocks if block["type"] == "thinking"]
        calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
        if calls and any(block["type"] in ("thinking", "redacted_thinking") for block in blocks):
            calls[0] = calls[0]._replace(signature=SIGNED + json.dumps(blocks))
        finish = FINISH.get(document.get("stop_reason"), "stop")
        return ChatReply(
            text="".join(texts),
            thinking="\n".join(filter(None, thoughts)),
            calls=tuple(calls),
            finish="tools" if calls and finish == "stop" else finish,
        )

    def _usage(self, document: Any) -> tuple[int, int]:
        usage = document["usage"]
        cached = (usage.get(f"cache_{name}_input_tokens") or 0 for name in ("creation", "read"))
        return count_of(usage["input_tokens"]) + sum(map(count_of, cached)), count_of(usage["output_tokens"])


def _call(block: Any) -> ToolUse:
    return ToolUse(text_of(block["id"]), text_of(block["name"]), json.dumps(block["input"]))


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    """Turns of user and assistant alternate; the results of tools belong to the user's."""
    turns = groupby(messages, lambda message: "assistant" if message.role == "assistant" else "user")
    return [
        {"role": role, "content": [block for message in turn for block in _blocks(message)]} for role, turn in turns
    ]


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.call_id}
        return [result | {"content": message.content} if message.content.strip() else result]
    if message.calls and message.calls[0].signature.startswith(SIGNED):
        signed: list[dict[str, Any]] = json.loads(message.calls[0].signature.removeprefix(SIGNED))
        if [block["id"] for block in signed if block["type"] == "tool_use"] == [call.id for call in message.calls]:
            return signed
    text = [{"type": "text", "text": message.content}] if message.content.strip() else []
    calls = (
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call.arguments)}
        for call in message.calls
    )
    return [*text, *calls]

"""A server that speaks Anthropic's messages format as published, and refuses what the service refuses.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers.wire import Message, Server, json_response, read_message

Body = Mapping[str, Any]
FIELDS = {
    "model",
    "messages",
    "max_tokens",
    "system",
    "temperature",
    "tools",
    "tool_choice",
    "thinking",
    "stop_sequences",
}
SIGNATURE = "EqQBCgIYAhIM-signed-by-the-service"
THOUGHT = {"type": "thinking", "thinking": "The user wants shoes.", "signature": SIGNATURE}


def plain(body: Body) -> list[dict[str, Any]]:
    """Calls the first tool that it is offered, once; else answers. Thinks first where that is switched on."""
    thoughts = [THOUGHT] if body.get("thinking", {}).get("type") in ("adaptive", "enabled") else []
    answered = any(block["type"] == "tool_result" for block in body["messages"][-1]["content"])
    if body.get("tools") and not answered:
        call = {"type": "tool_use", "id": "toolu_01A", "name": body["tools"][0]["name"], "input": {"q": "red shoe"}}
        return [*thoughts, {"type": "text", "text": "I will look."}, call]
    return [*thoughts, {"type": "text", "text": "A red shoe."}]


class AnthropicServer(Server):
    """Answers `POST /v1/messages`.

    Args:
        reply: the content blocks to answer.
        stop_reason: instead of the one that fits the reply.
        usage: instead of counts by characters.
        key: the only API key that it accepts; None accepts any.
    """

    def __init__(
        self,
        reply: Callable[[Body], list[dict[str, Any]]] = plain,
        stop_reason: str | None = None,
        usage: Mapping[str, Any] | None = None,
        key: str | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port)
        self.reply, self.stop_reason, self.usage, self.key = reply, stop_reason, usage, key
        self.bodies: list[Body] = []

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while (message := await read_message(reader)) is not None:
            writer.write(self._answer(message))
            await writer.drain()

    def _answer(self, message: Message) -> bytes:
        if message.start[:2] != ("POST", "/v1/messages"):
            return error(404, "not_found_error", f"Not found: {message.start[1]}")
        # The official client now sends the key as a bearer token; the older header stands in the published format too.
        bearer = message.headers.get("authorization", "").removeprefix("Bearer ")
        key = message.headers.get("x-api-key") or bearer
        if not key or (self.key is not None and key != self.key):
            return error(401, "authentication_error", f"invalid API key: {key}")
        if "anthropic-version" not in message.headers:
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        body = json.loads(message.body)
        wrong = check(body)
        if wrong:
            return error(400, "invalid_request_error", wrong)
        self.bodies.append(body)
        content = self.reply(body)
        called = any(block["type"] == "tool_use" for block in content)
        usage = {"input_tokens": len(message.body) // 4, "output_tokens": len(json.dumps(content)) // 4}
        value = {
            "id": f"msg_{len(self.bodies)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": self.stop_reason or ("tool_use" if called else "end_turn"),
            "stop_sequence": None,
            "usage": usage if self.usage is None else self.usage,
        }
        return json_response(200, value)


def error(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    """An error as the service writes it."""
    value = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return json_response(status, value, headers)


def check(body: Body) -> str:
    """What the service would find wrong with a request; "" if nothing."""
    for name in body:
        if name not in FIELDS:
            return f"{name}: Extra inputs are not permitted"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if "system" in body and not body["system"]:
        return "system: text content blocks must be non-empty"
    turns = body["messages"]
    if not turns or turns[0]["role"] != "user":
        return "messages: first message must use the user role"
    for i, turn in enumerate(turns):
        if turn["role"] not in ("user", "assistant"):
            return f"messages.{i}.role: Input should be 'user' or 'assistant'"
        if not turn["content"]:
            return f"messages.{i}: all messages must have non-empty content"
        if any(block["type"] == "text" and not block["text"].strip() for block in turn["content"]):
            return f"messages.{i}: text content blocks must contain non-whitespace text"
        if i and turn["role"] == turns[i - 1]["role"]:
            return f"messages.{i}: this server wants turns to alternate"
        wrong = _check_tools(i, turn, turns[i + 1] if i + 1 < len(turns) else None, body.get("thinking", {}))
        if wrong:
            return wrong
    return ""


def _check_tools(i: int, turn: Body, after: Body | None, thinking: Body) -> str:
    called = [block for block in turn["content"] if block["type"] == "tool_use"]
    if not called:
        return ""
    if not all(isinstance(block["input"], dict) for block in called):
        return f"messages.{i}.content: tool_use.input: Input should be a valid dictionary"
    results = [block for block in (after or {"content": ()})["content"] if block["type"] == "tool_result"]
    if [block["id"] for block in called] != [block["tool_use_id"] for block in results]:
        return f"messages.{i}: `tool_use` ids were found without `tool_result` blocks immediately after"
    if after and after["content"][: len(results)] != results:
        return f"messages.{i + 1}: tool_result blocks must come first"
    if thinking.get("type") in ("adaptive", "enabled") and turn["content"][0] != THOUGHT:
        return f"messages.{i}.content.0.type: Expected `thinking`, but found `{turn['content'][0]['type']}`"
    return ""

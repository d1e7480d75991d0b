"""Replies of an OpenAI-shaped server that make sense to a worker in a shop: those of the fake provider."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request, ToolSpec, ToolUse

_provider = FakeProvider()


def shopper(body: Mapping[str, Any], rng: random.Random) -> str | dict[str, Any]:
    """Searches, clicks around, answers: by tool calls where tools are offered, else in JSON."""
    messages = tuple(
        Message(
            message["role"],
            message.get("content") or "",
            tuple(ToolUse(call["id"], **call["function"]) for call in message.get("tool_calls") or ()),
            message.get("tool_call_id", ""),
        )
        for message in body["messages"]
    )
    functions = [tool["function"] for tool in body.get("tools") or ()]
    tools = tuple(ToolSpec(f["name"], f["description"], json.dumps(f["parameters"])) for f in functions)
    chat = ChatRequest("fake:shopper", messages, body.get("max_tokens", 512), tools=tools)
    (result,) = _provider.perform([Request("", "chat", chat, rng.getrandbits(63))])
    reply: ChatReply = result.value
    if not reply.calls:
        return reply.text
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.calls
    ]
    return {"content": reply.text or None, "tool_calls": calls}

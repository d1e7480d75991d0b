"""What a chat worker's reply means: an answer, calls of tools, or nothing that can be used.

Two forms. JSON: one object a reply, {"action": "search[lamp]"} in the world, {"tool": ..., "arguments": {...}} for
another tool, or {"answer": ...}. Native: the provider's own tool calls, several a reply; a reply without any is the
answer, as text or as the same JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.requests import ChatReply, Done, ToolRequest, ToolSpec, ToolUse, WorldTool
from nextstep_envs.tools.arguments import fault, read_arguments


class Act(NamedTuple):
    """One thing that a reply wants done.

    Attributes:
        call: a call of the world, as text; a `ToolRequest`; or None where it cannot be done.
        id: of the native tool call; "" in JSON.
        fault: why it cannot be done, for the model.
    """

    call: str | ToolRequest | None
    id: str = ""
    fault: str = ""


class Reading(NamedTuple):
    """What a reply means: `done`, or `acts` in their order, or neither, where it cannot be used."""

    done: Done | None = None
    acts: tuple[Act, ...] = ()


def read_native(reply: ChatReply, world: Sequence[WorldTool], others: Sequence[ToolSpec]) -> Reading:
    """The meaning of a reply of a model that calls tools by the provider's own means."""
    if reply.calls:
        return Reading(acts=tuple(resolve(use, world, others) for use in reply.calls))
    stated = parse_json(reply.text)
    done = _answer(stated) if isinstance(stated, Mapping) else None
    return Reading(done or (Done(reply.text) if reply.text.strip() else None))


def read_json(reply: ChatReply, world: Sequence[WorldTool], others: Sequence[ToolSpec]) -> Reading:
    """The meaning of a reply of a model that writes JSON."""
    said = parse_json(reply.text)
    if not isinstance(said, Mapping):
        return Reading()
    if done := _answer(said):
        return Reading(done)
    if world and isinstance(said.get("action"), str):
        return Reading(acts=(Act(said["action"]),))
    if isinstance(said.get("tool"), str):
        arguments = said.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return Reading(acts=(resolve(ToolUse("", said["tool"], written), world, others),))
    return Reading()


def resolve(use: ToolUse, world: Sequence[WorldTool], others: Sequence[ToolSpec]) -> Act:
    """What a call of a tool by name stands for."""
    arguments = read_arguments(use.arguments)
    found = next((tool for tool in world if tool.spec.name == use.name), None)
    spec = found.spec if found else next((spec for spec in others if spec.name == use.name), None)
    if spec is None:
        known = ", ".join([tool.spec.name for tool in world] + [other.name for other in others])
        return Act(None, use.id, f"error: there is no tool {use.name!r}; there are: {known or 'none'}")
    if arguments is None:
        return Act(None, use.id, f"error: the arguments of {use.name!r} must be one JSON object")
    if wrong := fault(spec.schema, arguments):
        return Act(None, use.id, f"error: {use.name!r} was not called: {wrong}")
    if found is None:
        return Act(ToolRequest(use.name, json.dumps(arguments)), use.id)
    return Act(found.form.format_map({name: _text(value) for name, value in arguments.items()}), use.id)


def _answer(said: Mapping[str, Any]) -> Done | None:
    if not isinstance(said.get("answer"), str):
        return None
    sure = said.get("confidence")
    if isinstance(sure, bool) or not isinstance(sure, int | float) or not 0 <= sure <= 1:
        sure = None
    return Done(said["answer"], failed=said.get("failed") is True, confidence=sure)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

"""What a chat worker is told, how many tokens that is, and what is cut where it is too much."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

from nextstep_envs.requests import Job, Message, ToolSpec, WorldTool
from nextstep_envs.types import UNLIMITED, Allowance

Count = Callable[[str], int]
"""Tokens of a text: a tokenizer's, or `ledger.estimate_tokens`."""

OVERHEAD = 4  # tokens that a chat template puts around a message or a call (ChatML: 4 or 5, its newline shared)
_MARK = 12  # at least as many tokens as the marker of a cut has

WORK = "{role} Work on the subtask by acting in the world or by answering."
JSON_RULES = "Reply with one JSON object: {forms}."
NATIVE_RULES = "Call tools as you need them. When you have finished, reply with your result, as text or as {answer}."
ANSWER = '{"answer": "your result"}'
DETAILS = 'An answer may also say "confidence": 0.0 to 1.0, and "failed": true where you did not succeed.'
AGAIN = "That was not one JSON object as asked for. Reply again with JSON only: {forms}."
EMPTY = "Your reply was empty. Call a tool, or reply with your result."


@lru_cache(maxsize=256)
def json_system(role: str, world: tuple[WorldTool, ...], others: tuple[ToolSpec, ...]) -> str:
    """The system message of a worker that writes JSON; its tools are described here."""
    described = [f"{written(tool)}: {tool.spec.description}" for tool in world]
    described += [f"{spec.name}: {spec.description} Arguments: {spec.schema}" for spec in others]
    return "\n".join([f"{WORK.format(role=role)} {JSON_RULES.format(forms=forms(world, others))}", DETAILS, *described])


def native_system(role: str) -> str:
    """The system message of a worker whose provider describes its tools."""
    return f"{WORK.format(role=role)} {NATIVE_RULES.format(answer=ANSWER)}\n{DETAILS}"


def forms(world: tuple[WorldTool, ...], others: tuple[ToolSpec, ...]) -> str:
    """The JSON objects that a reply may be."""
    found = [json.dumps({"action": written(tool)}) for tool in world]
    if others:
        found.append('{"tool": "its name", "arguments": {...}}')
    return " or ".join([", ".join(found), ANSWER]) if found else ANSWER


def written(tool: WorldTool) -> str:
    """A call of a tool of the world with the arguments' names in their places: "search[words]"."""
    names = json.loads(tool.spec.schema).get("properties", {})
    return tool.form.format_map({name: name for name in names})


def conversation(
    system: str, job: Job, turns: Sequence[Message], count: Count, room: int = UNLIMITED
) -> tuple[Message, ...]:
    """The messages of a call: system, brief, and what has been said since.

    Where they have more than `room` tokens, the oldest text is cut: outputs of earlier steps in their order, then what
    the world showed at the start, then what it and the tools answered. A mark says where and about how much. The
    system message, the subtask and the model's own words are never cut.
    """
    texts = [*job.context, job.view, *(turn.content for turn in turns if turn.role != "assistant")]
    messages = _assembled(system, job, turns, texts)
    excess = size(messages, count) - room
    cut = 0
    while excess > 0:
        cut += excess
        shorter = shortened(texts, cut, count)
        fewer = _assembled(system, job, turns, shorter)
        if fewer == messages:
            break  # nothing is left to cut
        messages = fewer
        excess = size(messages, count) - room
    return messages


def _assembled(system: str, job: Job, turns: Sequence[Message], texts: Sequence[str]) -> tuple[Message, ...]:
    given = len(job.context)
    earlier = [f"Result of an earlier step: {text}" for text in texts[:given]]
    lines = [f"Subtask: {job.subtask}", *allowed(job.allowance), *earlier, f"The world shows:\n{texts[given]}"]
    heard = iter(texts[given + 1 :])
    said = (turn if turn.role == "assistant" else turn._replace(content=next(heard)) for turn in turns)
    return (Message("system", system), Message("user", "\n".join(lines)), *said)


def allowed(allowance: Allowance) -> list[str]:
    """What the worker may use up, as a line of its brief; no line where nothing is limited."""
    amounts = ((allowance.calls, "replies"), (allowance.env_steps, "actions"), (allowance.tokens, "tokens in all"))
    limits = [f"{amount} {what}" for amount, what in amounts if amount < UNLIMITED]
    return [f"You may use at most {', '.join(limits)}."] if limits else []


def size(messages: Sequence[Message], count: Count, tools: Sequence[ToolSpec] = ()) -> int:
    """Tokens of a prompt: its texts as counted, plus `OVERHEAD` for each message, call and tool."""
    total = 0
    for message in messages:
        total += OVERHEAD + count(message.content)
        for call in message.calls:
            total += OVERHEAD + count(call.name) + count(call.arguments) + count(call.signature)
    return total + sum(OVERHEAD + sum(map(count, tool)) for tool in tools)


def shortened(texts: Sequence[str], cut: int, count: Count) -> list[str]:
    """The texts, oldest first, with about `cut` tokens less: each loses its beginning, and all of it before the next.

    A text as short as the mark that would replace it stays as it is.
    """
    result = []
    for text in texts:
        tokens = count(text) if cut > 0 else 0
        if tokens > _MARK:
            kept = _end(text, tokens, tokens - cut - _MARK, count)
            shorter = "\n".join([f"[cut here: about {tokens - count(kept)} tokens]", kept][: 1 + bool(kept)])
            cut -= tokens - count(shorter)
            text = shorter
        result.append(text)
    return result


def _end(text: str, tokens: int, keep: int, count: Count) -> str:
    """The end of a text of `tokens` tokens that has at most `keep` of them."""
    characters = len(text)
    while keep > 0 and tokens > keep:
        characters = min(characters * keep // tokens, characters - 1)
        text = text[-characters:] if characters else ""
        tokens = count(text)
    return text if keep > 0 else ""

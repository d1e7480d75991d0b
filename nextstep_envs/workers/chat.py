"""A worker that is a chat model: acts in the world through JSON, one action a message, then answers.

The minimal form: messages, JSON actions with bounded reformat retries, metering. Native tool calling, personas and
tokenizers belong to real providers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.requests import Ask, ChatRequest, Done, Job, Message, Result
from nextstep_envs.types import Usage

REFORMATS = 2  # times a worker may be asked again for valid JSON
RULES = (
    "{role} Work on the subtask by acting in the world or by answering. Reply with one JSON object: "
    '{{"action": "search[words]"}}, {{"action": "click[button]"}} or {{"answer": "your result"}}.'
)


class Memory(NamedTuple):
    """What a chat worker remembers: the conversation, and how often it was asked to reformat."""

    messages: tuple[Message, ...]
    reformats: int = 0


class ChatWorker:
    """An `Actor` over chat completions of one model.

    Args:
        model: name that the provider knows.
        description: who it is, for the system message, unless it plays a persona.
        max_tokens: completion tokens of one call.
    """

    def __init__(self, model: str, description: str, max_tokens: int) -> None:
        self.model, self.max_tokens, self.description = model, max_tokens, description

    def advance(self, job: Job, memory: Memory | None, result: Result | None, rng: random.Random) -> Ask | Done:
        """Ask the model, do what it says in the world, until it answers."""
        if memory is None or result is None:
            system = RULES.format(role=job.role or f"You are {self.description}")
            return self._chat(Memory((Message("system", system), Message("user", _brief(job)))))
        if memory.messages[-1].role == "assistant":  # the world has answered the model's action
            return self._chat(Memory((*memory.messages, Message("user", str(result.value))), memory.reformats))
        reply = result.value.text
        messages = (*memory.messages, Message("assistant", reply))
        value = parse_json(reply)
        if isinstance(value, Mapping) and isinstance(value.get("answer"), str):
            return Done(value["answer"])
        if isinstance(value, Mapping) and isinstance(value.get("action"), str):
            return Ask("world", value["action"], Usage(env_steps=1), Memory(messages, memory.reformats))
        if memory.reformats >= REFORMATS:
            return Done(reply)  # what it wrote is its answer; the orchestrator sees that it is no JSON
        again = Message("user", "That was not one JSON object with an action or an answer. Reply again with JSON only.")
        return self._chat(Memory((*messages, again), memory.reformats + 1))

    def _chat(self, memory: Memory) -> Ask:
        prompt = sum(estimate_tokens(message.content) for message in memory.messages)
        bound = Usage(prompt_tokens=prompt, completion_tokens=self.max_tokens, calls=1)
        return Ask("chat", ChatRequest(self.model, memory.messages, self.max_tokens), bound, memory)


def _brief(job: Job) -> str:
    context: list[Any] = [f"Result of an earlier step: {text}" for text in job.context]
    return "\n".join([f"Subtask: {job.subtask}", *context, f"The world shows:\n{job.view}"])

"""A desk to act at, and models that reply as they are told: for tests of chat workers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nextstep_envs.execution import Call, advance
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import (
    ChatReply,
    ChatRequest,
    Job,
    Request,
    Result,
    ToolRequest,
    ToolSpec,
    ToolUse,
    WorldTool,
)
from nextstep_envs.types import Allowance, Outcome, Step, StepRecord, Task, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.workers.chat import ChatWorker

UNLIMITED = Allowance()
SPEC = WorkerSpec("w", "A clerk.", 1.0, 4.0, 7.0)
TEXT = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
BOTH = (
    '{"type": "object", "properties": {"name": {"type": "string"}, "times": {"type": "integer"}}, "required": ["name"]}'
)
OPEN, STAMP = ToolSpec("open", "Open a drawer.", TEXT), ToolSpec("stamp", "Stamp a paper.", BOTH)
SUM = ToolSpec("sum", "Add up.", '{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}')


class Desk:
    """A world whose state is the tuple of calls made in it."""

    name = "desk"

    def tools(self) -> tuple[WorldTool, ...]:
        return WorldTool(OPEN, "open[{name}]"), WorldTool(STAMP, "stamp[{name}]")

    def ids(self, split: str) -> tuple[str, ...]:
        return ("0",)

    def sample_id(self, split: str, rng: random.Random) -> str:
        return "0"

    def task(self, task_id: str) -> Task:
        return Task(task_id, "tidy up")

    def begin(self, task: Task, rng: random.Random) -> tuple[str, ...]:
        return ()

    def act(self, state: tuple[str, ...], call: str) -> tuple[tuple[str, ...], str]:
        return (*state, call), f"after {call}"

    def view(self, state: tuple[str, ...]) -> str:
        return "a desk"

    def available(self, state: tuple[str, ...]) -> dict[str, Any]:
        return {}

    def done(self, state: tuple[str, ...]) -> bool:
        return False

    def outcome(self, task: Task, state: tuple[str, ...]) -> Outcome:
        return Outcome(1.0, True)


def spoken(chat: ChatRequest) -> Usage:
    """What the fake provider meters for a prompt: its contents, estimated."""
    return Usage(sum(estimate_tokens(message.content) for message in chat.messages), calls=1)


@dataclass
class Model:
    """Replies in turn: texts, `ChatReply`s, or functions of the request; tools answer "did <name>"."""

    replies: Sequence[str | ChatReply | Callable[[ChatRequest], ChatReply]]
    meter: Callable[[ChatRequest], Usage] = spoken
    asked: list[Request] = field(default_factory=list)

    @property
    def chats(self) -> list[ChatRequest]:
        return [request.payload for request in self.asked if request.kind == "chat"]

    @property
    def tools(self) -> list[ToolRequest]:
        return [request.payload for request in self.asked if request.kind == "tool"]

    def __call__(self, request: Request) -> Result:
        self.asked.append(request)
        asked = request.payload
        if isinstance(asked, ToolRequest):
            return Result(request.id, f"did {asked.name}", Usage(env_steps=1))
        reply = self.replies[len(self.chats) - 1]
        if callable(reply):
            reply = reply(asked)
        if isinstance(reply, str):
            reply = ChatReply(reply)
        used = self.meter(asked)
        written = estimate_tokens(reply.text + reply.thinking + "".join(use.arguments for use in reply.calls))
        return Result(request.id, reply, used._replace(completion_tokens=min(written, asked.max_tokens)))


def calls(*uses: tuple[str, str], text: str = "") -> ChatReply:
    """A reply that calls tools."""
    made = tuple(ToolUse(f"id{i}", name, arguments) for i, (name, arguments) in enumerate(uses))
    return ChatReply(text, calls=made, finish="tools")


def work(
    worker: ChatWorker,
    perform: Callable[[Request], Result],
    allowance: Allowance = UNLIMITED,
    world: Any = None,
    spec: WorkerSpec = SPEC,
    **job: Any,
) -> StepRecord:
    """One step by one worker, from its start to its record."""
    world = world or Desk()
    tools = getattr(world, "tools", tuple)()
    given = Job("tidy up", view="a desk", allowance=allowance, tools=tools)._replace(**job)
    call = advance(Call(Step(0, "tidy up", "w"), given, allowance, ()), worker, spec, world, seed=3)
    while call.pending:
        call = advance(call, worker, spec, world, 3, perform(call.pending))
    assert call.record is not None
    return call.record


def worker(**kwargs: Any) -> ChatWorker:
    """A worker with 100 completion tokens a call."""
    return ChatWorker(kwargs.pop("model", "fake:m"), "A clerk.", kwargs.pop("max_tokens", 100), **kwargs)


def down(request: Request) -> Result:
    """A provider that stays down."""
    return Result(request.id, error="nobody answers")

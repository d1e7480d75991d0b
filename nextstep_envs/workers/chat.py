"""A worker that is a chat model: it acts with the tools of its world and others, then answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import Ask, ChatReply, ChatRequest, Done, Job, Message, Result, ToolRequest, ToolSpec
from nextstep_envs.tools.listing import read_specs
from nextstep_envs.types import UNLIMITED, Usage
from nextstep_envs.workers import chat_prompts as prompts
from nextstep_envs.workers.chat_tools import Act, read_json, read_native

REFORMATS = 2  # times a worker may be asked again because a reply could not be used
LEAST = 64  # completion tokens; a call that leaves room for fewer is not made
FORMS = ("native", "json")
NATIVE = ("openai", "anthropic", "google")  # providers that call tools by themselves
_ACTION = Usage(env_steps=1)


class Memory(NamedTuple):
    """What a chat worker remembers.

    Attributes:
        turns: what has been said since the brief, uncut.
        listed: for each MCP server asked so far, its tools.
        todo: what the last reply wants done and has not been done.
        again: whether part of the last reply could not be used.
        reformats: how often that was so.
        tokens: used so far.
        asked: tokens of the prompt under way, as counted.
        ratio: the most that a service metered for a token as counted, at least 1.
    """

    turns: tuple[Message, ...] = ()
    listed: tuple[tuple[ToolSpec, ...], ...] = ()
    todo: tuple[Act, ...] = ()
    again: bool = False
    reformats: int = 0
    tokens: int = 0
    asked: int = 0
    ratio: float = 1.0


class ChatWorker:
    """An `Actor` over chat completions of one model.

    It is asked, does what it says in the world (`job.tools`), with its own tools and with those of MCP servers, is told
    what came of it, and is asked again, until it answers. A reply that cannot be used is asked for anew, `reformats`
    times; then what it wrote is its answer. So it is where a reply ends for want of tokens or by a filter.

    A prompt that does not fit (the model's window, the allowance) is cut, oldest text first; a completion is as long as
    the allowance permits, and a call that would leave fewer than `LEAST` tokens for it is refused by the ledger.

    What a call may use is bounded by its prompt as counted plus `max_tokens`. Services meter prompts their own way: if
    they find more, that is charged, the rest of the step counts with their ratio, and a step that is over its allowance
    ends. A step therefore never exceeds its allowance by more than what the prompt of one call was undercounted by.

    Args:
        model: "<provider>:<model>".
        description: who it is, for the system message, unless it plays a persona.
        max_tokens: completion tokens of one call.
        tools: registered tools that it may call.
        servers: names of MCP servers whose tools it may call; asked for their lists when a step begins.
        tool_calls: "native", "json", or None for what suits the provider.
        temperature: of sampling.
        context_tokens: the model's window, prompt and completion; None for no limit.
        reformats: times that it may be asked again in a step.
        count_tokens: tokens of a text; the model's tokenizer if there is one.

    Raises:
        ConfigError: an unknown form of tool calls, a window that holds no completion, or (when it starts) a tool with
            the name of a tool of the world.
    """

    def __init__(
        self,
        model: str,
        description: str,
        max_tokens: int,
        *,
        tools: Sequence[ToolSpec] = (),
        servers: Sequence[str] = (),
        tool_calls: str | None = None,
        temperature: float = 0.0,
        context_tokens: int | None = None,
        reformats: int = REFORMATS,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        if tool_calls is None:
            tool_calls = "native" if model.partition(":")[0] in NATIVE else "json"
        check_choice("tool_calls", tool_calls, FORMS)
        if context_tokens is not None and (not isinstance(context_tokens, int) or context_tokens <= max_tokens):
            raise ConfigError(
                f"context_tokens={context_tokens!r} must be a whole number above the {max_tokens} tokens of one "
                "completion (call_tokens of the budget), or None for no limit"
            )
        self.model, self.max_tokens, self.description = model, max_tokens, description
        self.tools, self.servers, self.native = tuple(tools), tuple(servers), tool_calls == "native"
        self.temperature, self.context_tokens, self.reformats = temperature, context_tokens, reformats
        self.count_tokens = count_tokens

    def advance(self, job: Job, memory: Memory | None, result: Result | None, rng: random.Random) -> Ask | Done:
        """Take one turn."""
        if memory is None or result is None:
            self._check_names(job)
            return self._begin(job, Memory())
        memory = memory._replace(tokens=memory.tokens + result.usage.tokens)
        if len(memory.listed) < len(self.servers):
            return self._begin(job, memory._replace(listed=(*memory.listed, read_specs(result.value))))
        if memory.todo:
            return self._do(job, self._told(memory, str(result.value)))
        return self._read(job, memory, result)

    def _begin(self, job: Job, memory: Memory) -> Ask | Done:
        """Learn what tools the servers have, then ask the model."""
        if len(memory.listed) < len(self.servers):
            return Ask("tool", ToolRequest(self.servers[len(memory.listed)], ""), Usage(), memory)
        return self._chat(job, memory)

    def _read(self, job: Job, memory: Memory, result: Result) -> Ask | Done:
        """Take in a reply."""
        reply: ChatReply = result.value
        others = self._others(memory)
        read = (read_native if self.native else read_json)(reply, job.tools, others)
        if read.done:
            return read.done
        faulty = not read.acts or any(act.fault for act in read.acts)
        if faulty and (memory.reformats >= self.reformats or reply.finish in ("length", "filter")):
            return Done(reply.text)  # what it wrote is its answer; whoever reads it sees what it is
        turns = (*memory.turns, Message("assistant", reply.text, reply.calls if self.native else ()))
        if not read.acts:
            again = prompts.EMPTY if self.native else prompts.AGAIN.format(forms=prompts.forms(job.tools, others))
            turns = (*turns, Message("user", again))
        ratio = max(memory.ratio, result.usage.prompt_tokens / memory.asked)
        reformats = memory.reformats + faulty
        return self._do(
            job, memory._replace(turns=turns, todo=read.acts, again=faulty, reformats=reformats, ratio=ratio)
        )

    def _do(self, job: Job, memory: Memory) -> Ask | Done:
        """Do what the last reply wants, one after the other; then ask the model again."""
        while memory.todo:
            act = memory.todo[0]
            if isinstance(act.call, str):
                return Ask("world", act.call, _ACTION, memory)
            if act.call is not None:
                return Ask("tool", act.call, _ACTION, memory)
            memory = self._told(memory, act.fault)
        return self._chat(job, memory)

    def _told(self, memory: Memory, text: str) -> Memory:
        """The first thing to do was done, and this came of it."""
        answer = Message("tool", text, call_id=memory.todo[0].id) if self.native else Message("user", text)
        return memory._replace(turns=(*memory.turns, answer), todo=memory.todo[1:])

    def _chat(self, job: Job, memory: Memory) -> Ask | Done:
        others = self._others(memory)
        role = job.role or f"You are {self.description}"
        if self.native:
            system, tools = prompts.native_system(role), (*(tool.spec for tool in job.tools), *others)
        else:
            system, tools = prompts.json_system(role, job.tools, others), ()
        described = prompts.size((), self.count_tokens, tools)
        room = math.floor(self._room(job, memory) / memory.ratio) - described
        messages = prompts.conversation(system, job, memory.turns, self.count_tokens, room)
        asked = prompts.size(messages, self.count_tokens) + described
        prompt, most = math.ceil(asked * memory.ratio), self.max_tokens
        if self.context_tokens is not None:
            most = min(most, self.context_tokens - prompt)
            if most < 1:
                words = f"The subtask does not fit my window of {self.context_tokens} tokens, so I did nothing more."
                return Done(words, failed=True)
        request = ChatRequest(self.model, messages, most, self.temperature, tools)
        bound = Usage(prompt, most, calls=1)
        return Ask("chat", request, bound, memory._replace(asked=asked), min(LEAST, most), memory.again)

    def _room(self, job: Job, memory: Memory) -> int:
        """Tokens that the prompt may have, as services meter them."""
        left = job.allowance.tokens
        room = left if left >= UNLIMITED else left - memory.tokens - min(LEAST, self.max_tokens)
        return room if self.context_tokens is None else min(room, self.context_tokens - self.max_tokens)

    def _others(self, memory: Memory) -> tuple[ToolSpec, ...]:
        """Tools beside those of the world."""
        return (*self.tools, *(spec for specs in memory.listed for spec in specs))

    def _check_names(self, job: Job) -> None:
        for tool in job.tools:
            if any(tool.spec.name == spec.name for spec in self.tools):
                raise ConfigError(f"tools names {tool.spec.name!r}, which the world has too; leave it out")

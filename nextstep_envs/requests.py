"""What actors ask for and what they get back.

An actor (worker, coach, judge, planner) is one pure function, `advance(job, memory, result, rng)`, that returns
`Ask` or `Done`. What the world answers at once (`kind="world"`) is answered inside the episode; everything else
becomes a `Request` that a driver takes to a provider, and comes back as a `Result`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from nextstep_envs.types import Allowance, Usage

Kind = Literal["world", "chat", "code", "tool"]


class ToolUse(NamedTuple):
    """A model's wish to call a tool.

    Attributes:
        id: names the call.
        name: of the tool.
        arguments: JSON text, as the model wrote it.
        signature: what the service wants back with this call, such as its signed thinking; opaque to all others.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolSpec(NamedTuple):
    """A tool that a model may call; `schema` is the JSON Schema of its arguments, as text."""

    name: str
    description: str
    schema: str


class WorldTool(NamedTuple):
    """A tool of a world.

    Attributes:
        spec: what a model is told of it.
        form: how a call is written in the world, with the arguments' names in braces: "search[{words}]".
    """

    spec: ToolSpec
    form: str


class Message(NamedTuple):
    """One message of a conversation.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: its text.
        calls: of an assistant message: the tools it called.
        call_id: of a tool message: which call it answers.
    """

    role: str
    content: str
    calls: tuple[ToolUse, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion.

    Attributes:
        model: "<provider>:<model>".
        messages: the conversation so far.
        max_tokens: bounds the completion, thinking included.
        temperature: of sampling; 0 is greedy.
        tools: what the model may call by the provider's own tool calling; empty for none.
        logprobs: whether to return the log-probability of each completion token.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    tools: tuple[ToolSpec, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What a model answered: the value of a chat request's result.

    Attributes:
        text: the answer, without thinking.
        thinking: what it thought aloud, where the provider or the text marks it.
        calls: tools it wants called.
        finish: why it stopped: "stop", "length" (max_tokens), "tools" or "filter".
        logprobs: (token text, log-probability) of the completion's tokens; () where none were asked for.
    """

    text: str
    thinking: str = ""
    calls: tuple[ToolUse, ...] = ()
    finish: str = "stop"
    logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """Code to run in a sandbox, with a wall-clock limit in seconds."""

    code: str
    timeout_s: float
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call of a tool; its result's value is text.

    Attributes:
        name: the tool; one of an MCP server is named "<server>__<tool>".
        arguments: a JSON object, as text. "" asks the MCP server `name` which tools it has.
    """

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Request:
    """Something to wait for.

    Attributes:
        id: "<step>/<turn>", unique in its episode.
        kind: what it is ("chat", "code" or "tool").
        payload: a `ChatRequest`, `CodeRequest` or `ToolRequest`.
        seed: from (episode seed, sample, id); part of the cache key, never of the prompt.
    """

    id: str
    kind: Kind
    payload: Any
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to `Request.id`.

    Attributes:
        usage: of the attempt that gave the value; metered and unpriced.
        error: an outage ("" if none). An outage masks the episode; it is never a reward.
        waste: of failed attempts that were billed nevertheless. It is booked apart, never charged to the ledger.
    """

    id: str
    value: Any = None
    usage: Usage = Usage()
    error: str = ""
    waste: Usage = Usage()


class Job(NamedTuple):
    """All that a worker sees when it starts.

    Attributes:
        subtask: its instruction.
        context: outputs of the steps in its access list, in step order; nothing of any other step.
        view: what the world shows now (the open page).
        role: the prompt of the persona that it plays ("" for none).
        allowance: the most it may consume.
        tools: what the world says can be done in it; () where it does not say.
    """

    subtask: str
    context: tuple[str, ...] = ()
    view: str = ""
    role: str = ""
    allowance: Allowance = Allowance()
    tools: tuple[WorldTool, ...] = ()


class Ask(NamedTuple):
    """The actor needs an answer.

    Attributes:
        kind: "world" is answered at once, by `World.act(state, payload)`; its result's value is the text.
        payload: a call such as "search[red shoe]" for the world, else the payload of a `Request`.
        bound: the most it can use (prompt + max_tokens, one env_step ...). The ledger refuses an Ask whose priced
            bound exceeds what is left. A world Ask is charged exactly this.
        memory: handed back at the next `advance`. Must be immutable and picklable.
        least: of a chat: the fewest completion tokens that are of use. Where what is left allows as many, but not
            `max_tokens`, the ledger lowers `max_tokens` to what fits. 0: it never does.
        again: whether this asks anew because the last reply had the wrong form; counted in the step's record.
    """

    kind: Kind
    payload: Any
    bound: Usage = Usage(env_steps=1)
    memory: Any = None
    least: int = 0
    again: bool = False


class Done(NamedTuple):
    """The actor has ended.

    Attributes:
        value: a worker's text.
        usage: what it still used, charged if it fits.
        failed: whether it says that it did not succeed.
        confidence: its own, in [0, 1]; None where it states none.
    """

    value: Any
    usage: Usage = Usage()
    failed: bool = False
    confidence: float | None = None


class Actor(Protocol):
    """Worker, coach, judge or planner: one pure function of its arguments."""

    def advance(self, job: Job, memory: Any, result: Result | None, rng: random.Random) -> Ask | Done:
        """Take one turn; `memory` and `result` are None at the first one."""
        ...

"""Advances one worker on one step by one result. Pure: everything it needs comes in, a new `Call` comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nextstep_envs.ledger import fit, price
from nextstep_envs.requests import Actor, ChatReply, Done, Job, Request, Result, ToolRequest
from nextstep_envs.seeding import derive, stream
from nextstep_envs.types import Allowance, Step, StepRecord, ToolCall, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World

BUDGET = "budget: "  # prefix of the error of a step that was refused; the resource follows
OUTAGE = "outage: "  # prefix of the error of a step whose provider or sandbox stayed down


@dataclass(frozen=True, slots=True)
class Call:
    """One worker at work on one step, in its own fork of the world.

    Attributes:
        step, job: what it was given.
        allowance: the most it may consume.
        world: the world as this worker left it so far.
        used: priced usage so far.
        waste: priced usage of attempts that failed and were billed.
        turn: number of results it has been fed.
        memory: the worker's own, immutable.
        tools: what it did in the world and with other tools.
        thinking: what it thought aloud.
        reformats: how often it was asked again because a reply had the wrong form.
        pending: the request it waits for, if any.
        record: set when it has ended.
    """

    step: Step
    job: Job
    allowance: Allowance
    world: Any
    used: Usage = Usage()
    waste: Usage = Usage()
    turn: int = 0
    memory: Any = None
    tools: tuple[ToolCall, ...] = ()
    thinking: tuple[str, ...] = ()
    reformats: int = 0
    pending: Request | None = None
    record: StepRecord | None = None


def advance(call: Call, actor: Actor, spec: WorkerSpec, world: World, seed: int, result: Result | None = None) -> Call:
    """Feed one result to a worker (None: start it) and run it until it waits or ends.

    World calls are answered on the spot. A call whose priced bound does not fit the allowance is shortened where its
    `Ask` allows that; else it is not made: the step ends with the error "budget: <resource>", and what it used so far
    stays charged.

    Args:
        call: the worker's state; its `pending` request is the one that `result` answers.
        actor: how the worker thinks. spec: what it costs.
        world: answers world calls.
        seed: of this attempt; each turn draws from its own stream, named by step and turn.
        result: the answer, or None at the start.
    """
    step, job, allowance = call.step, call.job, call.allowance
    state, used, waste, turn, memory = call.world, call.used, call.waste, call.turn, call.memory
    tools, thinking, reformats = call.tools, call.thinking, call.reformats
    if result is not None and call.pending is not None and not result.error:
        asked = call.pending.payload
        if isinstance(asked, ToolRequest) and asked.arguments:
            tools = (*tools, ToolCall(f"{asked.name}({asked.arguments})", result.value))
        elif isinstance(result.value, ChatReply) and result.value.thinking:
            thinking = (*thinking, result.value.thinking)
    pending: Request | None = None
    output, error = "", ""
    failed, confidence = False, None
    while True:
        if result is not None:
            turn += 1
            used = used.plus(price(result.usage, spec))
            waste = waste.plus(price(result.waste, spec))
            if result.error:
                error = OUTAGE + result.error
                break
        out = actor.advance(job, memory, result, stream(seed, step.index, turn))
        if not isinstance(out, Done) and out.least:
            fitting = fit(out.bound, allowance.minus(used), spec, out.least)
            if fitting is not out.bound:
                chat = replace(out.payload, max_tokens=fitting.completion_tokens)
                out = out._replace(payload=chat, bound=fitting)
        bound = out.usage if isinstance(out, Done) else out.bound
        cost = price(bound, spec)
        lack = allowance.lacks(used.plus(cost))
        if lack:
            error = BUDGET + lack
            break
        if isinstance(out, Done):
            used = used.plus(cost)
            output, failed, confidence = out.value, out.failed, out.confidence
            break
        memory = out.memory
        reformats += out.again
        if out.kind != "world":
            name = f"{step.index}/{turn}"
            pending = Request(name, out.kind, out.payload, derive(seed, name))
            break
        state, text = world.act(state, out.payload)
        tools = (*tools, ToolCall(out.payload, text))
        result = Result("", text, bound)
    record = None
    if pending is None:
        said = (output, tools, used, error, failed, confidence, waste, thinking, reformats)
        record = StepRecord(step, job.context, *said)
    return Call(step, job, allowance, state, used, waste, turn, memory, tools, thinking, reformats, pending, record)

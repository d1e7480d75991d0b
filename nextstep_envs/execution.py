"""Advances one worker on one step by one result. Pure: everything it needs comes in, a new `Call` comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextstep_envs.ledger import price
from nextstep_envs.requests import Actor, Done, Job, Request, Result
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
        tools: what it did in the world.
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
    pending: Request | None = None
    record: StepRecord | None = None


def advance(call: Call, actor: Actor, spec: WorkerSpec, world: World, seed: int, result: Result | None = None) -> Call:
    """Feed one result to a worker (None: start it) and run it until it waits or ends.

    World calls are answered on the spot. A call whose priced bound does not fit the allowance is not made: the step
    ends with the error "budget: <resource>", and what it used so far stays charged.

    Args:
        call: the worker's state; its `pending` request is the one that `result` answers.
        actor: how the worker thinks. spec: what it costs.
        world: answers world calls.
        seed: of this attempt; each turn draws from its own stream, named by step and turn.
        result: the answer, or None at the start.
    """
    step, job, allowance = call.step, call.job, call.allowance
    state, used, waste, turn, memory, tools = call.world, call.used, call.waste, call.turn, call.memory, call.tools
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
        if out.kind != "world":
            name = f"{step.index}/{turn}"
            pending = Request(name, out.kind, out.payload, derive(seed, name))
            break
        state, text = world.act(state, out.payload)
        tools = (*tools, ToolCall(out.payload, text))
        result = Result("", text, bound)
    record = None if pending else StepRecord(step, job.context, output, tools, used, error, failed, confidence, waste)
    return Call(step, job, allowance, state, used, waste, turn, memory, tools, pending, record)

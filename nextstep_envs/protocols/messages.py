"""The words of the text interface: a conversation that only ever grows at its end."""

from __future__ import annotations

from collections.abc import Sequence

from nextstep_envs.episode import State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.types import NANO, UNLIMITED, Allowance, Budget, StepRecord

OUTPUT_CHARS = 600  # of each step's output in a message
INVALID = "Invalid action, nothing was run: "  # so begins the answer to one


def opening(state: State, budget: Budget, workers: Sequence[str], answer: str) -> str:
    """The first message: task, workers (a line each), budget and how to answer."""
    return "\n".join(
        [
            f"Task: {state.task.prompt}",
            "Workers:",
            *workers,
            f"Budget: {amounts(budget.steps, total_allowance(budget))}",
            answer,
            "",
        ]
    )


def report(state: State, budget: Budget, status: Sequence[str] = ()) -> str:
    """What the last decision brought, as the workers reported it, the protocol's own lines, and what is left."""
    records = [record for i in state.fresh if (record := state.calls[i].record)]
    return "\n".join([*_notices(state), *map(_result, records), *status, _closing(state, budget), ""])


def transcript(first: str, state: State, budget: Budget, status: Sequence[str] = ()) -> str:
    """The whole episode as text, from its first message on."""
    steps = [f"-> {_action(r)}\n{_tools(r)}{_result(r)}" for r in state.records()]
    return "\n".join([first.rstrip(), *steps, *_notices(state), *status, _closing(state, budget)])


def amounts(steps: int, left: Allowance) -> str:
    """What may be consumed, in words."""
    usd = "" if left.usd_nano >= UNLIMITED else f", ${left.usd_nano / NANO:.4f}"
    return f"{steps} steps, {left.calls} calls, {left.tokens} tokens, {left.env_steps} actions{usd}"


def _notices(state: State) -> list[str]:
    lines = [f"{INVALID}{state.notice}."] if state.notice else []
    return [*lines, f"Interrupted: {state.interrupted}."] if state.interrupted else lines


def _closing(state: State, budget: Budget) -> str:
    if state.end:
        return f"The episode is over ({state.end})."
    left = total_allowance(budget).minus(state.spent)
    return f"Left: {amounts(max(budget.steps - state.steps_used(), 0), left)}"


def _action(record: StepRecord) -> str:
    return f"step {record.step.index}, {_who(record)}, reads {list(record.step.reads)}: {record.step.subtask}"


def _tools(record: StepRecord) -> str:
    return "".join(f"   {tool.call}\n" for tool in record.tools)


def _result(record: StepRecord) -> str:
    text = record.output[:OUTPUT_CHARS] if not record.error else f"stopped ({record.error})"
    used = f"{record.usage.tokens} tokens, {record.usage.env_steps} actions"
    return f"Step {record.step.index} by {_who(record)} ({used}): {text}"


def _who(record: StepRecord) -> str:
    return record.step.agent or record.step.worker_id

"""The words of the text interface: a conversation that only ever grows at its end."""

from __future__ import annotations

from nextstep_envs.episode import State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.types import NANO, UNLIMITED, Allowance, Budget, StepRecord
from nextstep_envs.workers.base import WorkerSpec

OUTPUT_CHARS = 600  # of each step's output in a message


def opening(state: State, budget: Budget) -> str:
    """The first message: task, workers, budget and rules."""
    workers = "\n".join(_worker(spec) for spec in state.pool)
    return (
        f"Task: {state.task.prompt}\n"
        f"Workers:\n{workers}\n"
        f"Budget: {_amounts(budget.steps, total_allowance(budget))}\n"
        'Answer in JSON: one step {"subtask": "...", "worker_id": "...", "access_list": ["0"]}, '
        'a whole plan {"workflow": [step, ...]}, or {"finish": true}. '
        '"{task}" in a subtask stands for the task. '
        "A worker sees its subtask and the outputs of the steps in its access list, nothing else.\n"
    )


def report(state: State, budget: Budget) -> str:
    """What the last decision brought, as the workers reported it, and what is left."""
    lines = []
    if state.notice:
        lines.append(f"Invalid action, nothing was run: {state.notice}.")
    for index in state.fresh:
        record = state.calls[index].record
        if record:
            lines.append(_result(record))
    lines.append(f"The episode is over ({state.end})." if state.end else f"Left: {_left(state, budget)}")
    return "\n".join(lines) + "\n"


def transcript(state: State, budget: Budget) -> str:
    """The whole episode as text."""
    steps = [f"-> {_action(r)}\n{_tools(r)}{_result(r)}" for r in state.records()]
    end = f"The episode is over ({state.end})." if state.end else f"Left: {_left(state, budget)}"
    notice = [f"Invalid action, nothing was run: {state.notice}."] if state.notice else []
    return "\n".join([opening(state, budget).rstrip(), *steps, *notice, end])


def _worker(spec: WorkerSpec) -> str:
    skills = ", ".join(f"{domain} {level:.1f}" for domain, level in spec.skills)
    return (
        f"- {spec.worker_id}: {spec.description} "
        f"(${spec.usd_per_mtok_in:g}/{spec.usd_per_mtok_out:g} per Mtok; skill: {skills or 'unknown'})"
    )


def _action(record: StepRecord) -> str:
    return f"step {record.step.index}, {record.step.worker_id}, reads {list(record.step.reads)}: {record.step.subtask}"


def _tools(record: StepRecord) -> str:
    return "".join(f"   {tool.call}\n" for tool in record.tools)


def _result(record: StepRecord) -> str:
    text = record.output[:OUTPUT_CHARS] if not record.error else f"stopped ({record.error})"
    used = f"{record.usage.tokens} tokens, {record.usage.env_steps} actions"
    return f"Step {record.step.index} by {record.step.worker_id} ({used}): {text}"


def _left(state: State, budget: Budget) -> str:
    return _amounts(max(budget.steps - state.steps_used(), 0), total_allowance(budget).minus(state.spent))


def _amounts(steps: int, amounts: Allowance) -> str:
    usd = "" if amounts.usd_nano >= UNLIMITED else f", ${amounts.usd_nano / NANO:.4f}"
    return f"{steps} steps, {amounts.calls} calls, {amounts.tokens} tokens, {amounts.env_steps} actions{usd}"

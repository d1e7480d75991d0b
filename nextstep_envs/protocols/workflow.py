"""The Workflow protocol: one action is one step {subtask, worker_id, access_list}, or finish, or a whole plan.

Steps run in sequence; access lists gate context (NextStep specification; Conductor, arXiv 2512.04388).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nextstep_envs.episode import Decision, State
from nextstep_envs.protocols.base import BaseProtocol, Mask, only_last
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.grid import Grid
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.types import Budget, Step
from nextstep_envs.workers.base import WorkerSpec

CONTEXTS = ("none", "last", "all")
FORMAT = (
    'Answer in JSON: one step {"subtask": "...", "worker_id": "...", "access_list": ["0"]}, '
    'a whole plan {"workflow": [step, ...]}, or {"finish": true}. '
    '"{task}" in a subtask stands for the task. '
    "A worker sees its subtask and the outputs of the steps in its access list, nothing else."
)


class WorkflowProtocol(BaseProtocol):
    """Rules of Workflow: steps run in sequence, each may spend what is left.

    Vector actions: `(worker * n_templates + template) * 3 + context`, context in (none, last, all); the last index is
    finish. Text actions: JSON, one of `{"subtask": ..., "worker_id": ..., "access_list": [...]}`, `{"finish": true}`
    and `{"workflow": [step, ...]}`, which runs the whole plan and ends. Access list entries are earlier step numbers,
    `"last"` or `"all"`; `{task}` in a subtask stands for the task's text.
    """

    name = "workflow"

    def __init__(self, pool: tuple[WorkerSpec, ...], budget: Budget, cost_limits: Mapping[str, float]) -> None:
        super().__init__(pool, budget, cost_limits)
        self.grid = Grid(pool, len(CONTEXTS))
        self.n_actions = self.grid.size + 1
        self.features = Features(pool, budget)

    # -- what an action means ------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """The steps behind a vector index or a JSON text; what makes no sense is an invalid action."""
        return self._decode_text(state, action) if isinstance(action, str) else self._decode_index(state, int(action))

    def _decode_index(self, state: State, action: int) -> Decision:
        if action == self.n_actions - 1:
            return Decision(finish=True)
        if not 0 <= action < self.n_actions:
            return Decision(invalid=f"action {action} is outside 0..{self.n_actions - 1}")
        worker_id, template, context = self.grid.choice(action)
        access = [] if context == 0 else [CONTEXTS[context]]
        entry = {"subtask": template.text, "worker_id": worker_id, "access_list": access}
        return self._plan(state, [entry], finish=False)

    def _decode_text(self, state: State, text: str) -> Decision:
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return Decision(invalid="no JSON object was found")
        if value.get("finish") is True:
            return Decision(finish=True)
        if "workflow" not in value:
            return self._plan(state, [value], finish=False)
        plan = value["workflow"]
        if not isinstance(plan, list):
            return Decision(invalid='"workflow" must be a list of steps')
        return self._plan(state, plan, finish=True)

    def _plan(self, state: State, plan: list[Any], finish: bool) -> Decision:
        """Check every entry; one bad entry makes the whole action invalid, so that nothing runs by half."""
        left = self.budget.steps - state.steps_used()
        if len(plan) > left:
            return Decision(invalid=f"the plan has {len(plan)} steps but only {left} are left")
        first, steps = len(state.steps), []
        present = {spec.worker_id for spec in state.pool}
        for index, entry in enumerate(plan, start=first):
            step = _step(entry, index, present, state.task.prompt)
            if isinstance(step, str):
                return Decision(invalid=f"step {index}: {step}")
            steps.append(step)
        return Decision(tuple(steps), finish)

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    def mask(self, state: State) -> Mask:
        """int8 [n_actions]: 1 where the worker is present, the context exists and the budget allows a call.

        Finish is always legal.
        """
        if state.end or state.steps_used() >= self.budget.steps:
            return only_last(self.n_actions)
        return self.grid.mask(state, self.total.minus(state.spent), min(len(state.steps), 2) + 1, (True,))

    def format_text(self) -> str:
        """How to answer, for the first message."""
        return FORMAT


def _step(entry: Any, index: int, present: set[str], prompt: str) -> Step | str:
    """A step from one JSON entry, or what is wrong with it."""
    if not isinstance(entry, Mapping):
        return "must be an object with subtask, worker_id and access_list"
    subtask, worker_id = entry.get("subtask"), entry.get("worker_id")
    if not isinstance(subtask, str) or not subtask.strip():
        return '"subtask" must be a non-empty text'
    if not isinstance(worker_id, str) or worker_id not in present:
        return f'"worker_id" must be one of {", ".join(sorted(present))}'
    reads = _reads(entry.get("access_list", []), index)
    if isinstance(reads, str):
        return reads
    after = (index - 1,) if index else ()
    return Step(index, subtask.replace("{task}", prompt), worker_id, after, reads)


def _reads(access: Any, index: int) -> tuple[int, ...] | str:
    """Indices of the steps named by an access list, or what is wrong with it."""
    entries = [access] if isinstance(access, str) else access
    if not isinstance(entries, list):
        return '"access_list" must be a list of earlier step numbers, or ["last"] or ["all"]'
    reads: set[int] = set()
    for entry in entries:
        if entry == "all":
            reads.update(range(index))
        elif entry == "last":
            reads.update(range(max(index - 1, 0), index))
        elif entry == "none":
            continue
        else:
            number = _number(entry)
            if number is None or not 0 <= number < index:
                return f'"access_list" names {entry!r}, which is no earlier step'
            reads.add(number)
    return tuple(sorted(reads))


def _number(entry: Any) -> int | None:
    if isinstance(entry, bool):
        return None
    if isinstance(entry, int):
        return entry
    return int(entry) if isinstance(entry, str) and entry.isdecimal() and len(entry) < 10 else None

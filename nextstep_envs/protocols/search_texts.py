"""The words of a search: tasks, program and how to answer at first, then what each edit brought."""

from __future__ import annotations

from nextstep_envs.ledger import total_allowance
from nextstep_envs.programs.kinds import KINDS
from nextstep_envs.programs.serial import to_python
from nextstep_envs.programs.state import Run, SearchState
from nextstep_envs.protocols.base import worker_line
from nextstep_envs.protocols.messages import amounts
from nextstep_envs.types import Budget

OUTPUT_CHARS = 200  # of each run's output in a message
FORMAT = (
    'Answer in JSON, one edit at a time: {"edit": "add", "operator": {"name": "...", "kind": "...", "worker": "...", '
    '"inputs": ["task"], "prompt": "..."}, "readers": ["..."]} adds an operator before those that shall read it, '
    'or at the end; {"edit": "remove", "name": "..."}; {"edit": "set", "name": "...", and one or more of "worker": '
    '"...", "prompt": "...", "inputs": ["..."]}; {"program": "def workflow(task): ..."} writes all of it anew; '
    '{"finish": true} ends. An operator reads only what comes before it. Without a prompt it is told the usual '
    'instruction of its kind; "{task}" in a prompt stands for the task, which must then be among the inputs. '
    "The last operator that gives an answer gives the program's answer; what it does not need is not run."
)


class SearchTexts:
    """What the rules of a search say; `SearchProtocol` adds what they do."""

    budget: Budget
    tasks: int
    runs: int
    max_operators: int
    runs_code: bool

    def message(self, state: SearchState) -> str:
        """The next message: tasks, workers and program at first, then what the last edit brought."""
        if not (state.evaluations or state.invalid or state.end):
            return self._opening(state)
        lines = [f"Invalid action, nothing was run: {state.notice}."] if state.notice else []
        if state.fresh:
            lines += [*self._result(state, len(state.evaluations) - 1), *_program(state)]
        return "\n".join([*lines, self._closing(state), ""])

    def format_text(self) -> str:
        """How to answer, for the first message."""
        return FORMAT

    def transcript(self, state: SearchState) -> str:
        """The whole search as text."""
        lines = [self._opening(state).rstrip()]
        for i, found in enumerate(state.evaluations):
            lines += [f"-> {found.change}", *self._result(state, i)]
        if state.notice:
            lines.append(f"Invalid action, nothing was run: {state.notice}.")
        return "\n".join([*lines, *_program(state), self._closing(state)])

    def _opening(self, state: SearchState) -> str:
        kinds = [kind.signature() for kind in KINDS.values() if self.runs_code or not kind.needs_code]
        limits = amounts(0, total_allowance(self.budget)).removeprefix("0 steps, ")
        return "\n".join(
            [
                "Task: improve a program of workers, by one edit after the other, until it does tasks like these best:",
                *(f"{i}. {task.prompt}" for i, task in enumerate(state.tasks, start=1)),
                "Workers:",
                *map(worker_line, state.pool),
                "Operators:",
                *(f"- {line}" for line in kinds),
                "Program:",
                to_python(state.start).rstrip(),
                f"Budget: {self.budget.steps} edits, {self.max_operators} operators; a run of the program on a task: "
                f"{limits}. Each edited program runs {self.runs} x on every task.",
                self.format_text(),
                "",
            ]
        )

    def _result(self, state: SearchState, index: int) -> list[str]:
        """What an evaluation brought, and the best so far."""
        found = state.evaluations[index]
        best = max(state.evaluations[: index + 1], key=lambda e: e.mean)
        number = state.evaluations.index(best) + 1
        return [
            f"Edit {index + 1} ({found.change}): score {found.mean:.3f} (standard deviation {found.std:.3f}), "
            f"{found.usage.tokens // len(found.runs)} tokens a run. Best: {best.mean:.3f}, after edit {number}.",
            *(f"  task {i // self.runs + 1}, {line}" for i, line in enumerate(map(_run, found.runs))),
        ]

    def _closing(self, state: SearchState) -> str:
        if state.end:
            return f"The episode is over ({state.end})."
        return f"Left: {max(self.budget.steps - state.steps_used(), 0)} edits"


def _run(run: Run) -> str:
    text = f"stopped ({run.error})" if run.error else " ".join(run.output.split())[:OUTPUT_CHARS]
    return f"score {run.score:.2f}: {text}"


def _program(state: SearchState) -> list[str]:
    return ["Program:", to_python(state.program).rstrip()]

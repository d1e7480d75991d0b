"""The state of a search: the program now, what was evaluated so far, and the runs that are under way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nextstep_envs.episode import State
from nextstep_envs.programs.program import Program
from nextstep_envs.types import Task, Usage
from nextstep_envs.workers.base import WorkerSpec


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a program on one task came to.

    Attributes:
        task_id: the task.
        score, success: of its outcome.
        output: what the last operator that ran wrote.
        error: why that operator was cut short ("budget: tokens" ...), or "".
        usage: of the whole run, priced.
    """

    task_id: str
    score: float
    success: bool
    output: str
    error: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A program, the edit that led to it, and its runs: task by task, the repeated runs of a task together."""

    program: Program
    change: str
    runs: tuple[Run, ...]

    @property
    def mean(self) -> float:
        """Mean score of all runs."""
        return math.fsum(run.score for run in self.runs) / len(self.runs)

    @property
    def std(self) -> float:
        """Standard deviation of the runs' scores around their mean (population: divided by their number)."""
        mean = self.mean
        return math.sqrt(math.fsum((run.score - mean) ** 2 for run in self.runs) / len(self.runs))

    @property
    def usage(self) -> Usage:
        """Of all runs together."""
        total = Usage()
        for run in self.runs:
            total = total.plus(run.usage)
        return total


@dataclass(frozen=True, slots=True)
class SearchState:
    """A whole search.

    Attributes:
        task, tasks, pool: what reset fixed: the validation tasks as one and one by one, the workers present.
        start: the program at the beginning.
        episode_seed: fixes tasks, pool and worlds; with `sample`, all chance.
        program: the program now.
        evaluations: one for each valid edit so far.
        change: the edit whose program is being evaluated, or "".
        runs: the runs of that evaluation, task by task; () between decisions.
        spent: priced usage of all decisions before this one.
        invalid: number of invalid actions so far.
        notice: why the last action was invalid, or "".
        fresh: whether the last transition brought an evaluation.
        finish: whether the last decision asked to end.
        end: why the search is over ("finish", "budget: steps", "outage: ..."), or "".
    """

    task: Task
    tasks: tuple[Task, ...]
    pool: tuple[WorkerSpec, ...]
    start: Program
    episode_seed: int
    sample: int
    program: Program
    evaluations: tuple[Evaluation, ...] = ()
    change: str = ""
    runs: tuple[State, ...] = ()
    spent: Usage = Usage()
    invalid: int = 0
    notice: str = ""
    fresh: bool = False
    finish: bool = False
    end: str = ""

    def steps_used(self) -> int:
        """Edits evaluated plus invalid actions: what counts against `Budget.steps`."""
        return len(self.evaluations) + self.invalid

    def best(self) -> Evaluation | None:
        """The evaluation with the highest mean score, the earliest of equals."""
        return best_of(self.evaluations)


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest mean score, the earliest of equals; None if there is none."""
    return max(evaluations, key=lambda evaluation: evaluation.mean, default=None)

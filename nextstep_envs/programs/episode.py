"""A search as a state machine that never waits: reset, then (act, (poll, deliver)*, transition)*.

The counterpart of `nextstep_envs.episode.Episode`, for actions that edit a program. Each run of a program on a task
is an `Episode` of its own; this one keeps their states, hands their requests on and adds up what they bring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.execution import BUDGET, OUTAGE
from nextstep_envs.ledger import total_allowance
from nextstep_envs.programs.program import Program
from nextstep_envs.programs.serial import to_json
from nextstep_envs.programs.state import Evaluation, Run, SearchState, best_of
from nextstep_envs.programs.validation import ValidationSet
from nextstep_envs.requests import Actor, Request, Result
from nextstep_envs.seeding import derive
from nextstep_envs.types import Allowance, Budget, Outcome, Step, StepRecord, Task, Transition, Usage
from nextstep_envs.workers.base import WorkerSpec


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an action means: a program to evaluate and the edit that gave it, or an end, or nothing valid."""

    program: Program | None = None
    change: str = ""
    finish: bool = False
    invalid: str = ""


class SearchRules(Protocol):
    """What a search must know of its protocol."""

    runs: int

    def start(self, pool: tuple[WorkerSpec, ...]) -> Program:
        """The program at the beginning, for the workers present."""
        ...

    def decode(self, state: SearchState, action: Any) -> Proposal:
        """The edit behind an action, carried out; never raises on a malformed action."""
        ...

    def compile(self, program: Program, task: Task) -> tuple[Step, ...]:
        """The steps of a program on a task."""
        ...

    def reward(self, evaluation: Evaluation, before: Sequence[Evaluation]) -> float:
        """What an evaluation is worth after those before it."""
        ...

    def cost(self, evaluation: Evaluation) -> float:
        """Mean main cost of one run."""
        ...


class SearchEpisode:
    """A search for a workflow program on validation tasks. The methods are those of `Episode`.

    Args:
        world: its tasks are sets of tasks.
        rules: what actions mean, and what a program is worth.
        workers: how each worker works, by worker_id.
        budget: `steps` bounds the edits; everything else bounds one run of a program on one task.
    """

    state: SearchState

    def __init__(self, world: ValidationSet, rules: SearchRules, workers: Mapping[str, Actor], budget: Budget) -> None:
        self.world, self.rules, self.budget = world, rules, budget
        self._total = total_allowance(budget)
        # One operator of a run after the other, so that each may spend what is left; the runs go side by side.
        self._run = Episode(world, _Gate(self), workers, budget, max_parallel=1)

    def reset(self, task_id: str, pool: tuple[WorkerSpec, ...], seed: int, sample: int = 0) -> None:
        """Start. `seed` fixes the worlds (tasks and pool are given); `sample` only this attempt's noise."""
        task, tasks = self.world.task(task_id), self.world.parts(task_id)
        program = self.rules.start(pool)
        self.state = SearchState(task, tasks, pool, program, seed, sample, program)

    def snapshot(self) -> SearchState:
        """The whole search, unanswered requests included."""
        return self.state

    def restore(self, state: SearchState, sample: int | None = None) -> None:
        """Continue from a snapshot; with `sample`, as another attempt: what is yet to come draws new chance."""
        if sample is not None:
            runs = []
            for i, run in enumerate(state.runs):
                self._run.restore(run, self._chance(sample, len(state.evaluations), i))
                runs.append(self._run.state)
            state = replace(state, sample=sample, runs=tuple(runs))
        self.state = state

    def left(self) -> Allowance:
        """What the budget allows one run of a program on one task."""
        return self._total

    def act(self, action: Any) -> None:
        """Take one decision; a valid edit starts the runs of the edited program."""
        state = self.state
        if state.end:
            raise RuntimeError(f"the episode is over ({state.end}); call reset first")
        if self.poll():
            raise RuntimeError("act was called while requests are unanswered; deliver their results first")
        made = self.rules.decode(state, action)
        invalid = state.invalid + bool(made.invalid)
        self.state = replace(state, notice=made.invalid, invalid=invalid, finish=made.finish, fresh=False)
        if made.program is not None:
            runs = tuple(self._begin(made.program))
            self.state = replace(self.state, program=made.program, change=made.change, runs=runs)

    def poll(self) -> tuple[Request, ...]:
        """Every unanswered request, run by run. An id is "<edit>.<run>/<step>/<turn>"."""
        edit = len(self.state.evaluations)
        return tuple(
            replace(call.pending, id=f"{edit}.{i}/{call.pending.id}")
            for i, run in enumerate(self.state.runs)
            for call in run.calls.values()
            if call.pending
        )

    def deliver(self, result: Result) -> None:
        """Feed one result back to the run that waits for it. An unknown or repeated id changes nothing."""
        where, _, inner = result.id.partition("/")
        runs = self.state.runs
        for i, run in enumerate(runs):
            if where == f"{len(self.state.evaluations)}.{i}":
                self._run.restore(run)
                self._run.deliver(replace(result, id=inner))
                self.state = replace(self.state, runs=(*runs[:i], self._run.state, *runs[i + 1 :]))
                return

    def transition(self, scored: bool = True) -> Transition:
        """What the decision yielded; once per decision, when nothing is pending. `scored`: the score is rewarded."""
        state = self.state
        if self.poll():
            raise RuntimeError("transition was called while requests are unanswered; deliver their results first")
        if not state.runs:
            return self._ended(replace(state, fresh=False), 0.0, Usage(), (), {})
        ends = tuple(self._close(run) for run in state.runs)
        records = tuple(record for end in ends for record in end.records)
        usage = Usage()
        for end in ends:
            usage = usage.plus(end.usage)
        error = next((end.error for end in ends if end.error), "")
        state = replace(state, runs=(), change="", spent=state.spent.plus(usage))
        if error:
            self.state = replace(state, end=OUTAGE + error)
            return Transition(0.0, usage, records, False, True, error=error)
        found = Evaluation(state.program, self.state.change, tuple(self._measure(ends)))
        reward = self.rules.reward(found, state.evaluations) if scored else 0.0
        extra = {
            "score_mean": found.mean,
            "score_std": found.std,
            "score_cost": self.rules.cost(found),
            "program": to_json(found.program),
        }
        state = replace(state, evaluations=(*state.evaluations, found), fresh=True)
        return self._ended(state, reward, usage, records, extra)

    def _ended(
        self, state: SearchState, reward: float, usage: Usage, records: tuple[StepRecord, ...], extra: Mapping[str, Any]
    ) -> Transition:
        """The transition to a state, which is the last one if the search is over."""
        spent = state.steps_used() >= self.budget.steps
        end = "finish" if state.finish else BUDGET + "steps" if spent else ""
        self.state = replace(state, end=end)
        if not end:
            return Transition(reward, usage, records, False, False, extra=extra)
        exhausted = end.removeprefix(BUDGET) if end.startswith(BUDGET) else ""
        return Transition(reward, usage, records, True, False, self._outcome(state), exhausted, extra=extra)

    def _outcome(self, state: SearchState) -> Outcome:
        """Ground truth about the best program that was evaluated; 0 where none was."""
        best = best_of(state.evaluations)
        if best is None:
            none = {"success_rate": 0.0, "score_std": 0.0, "score_cost": 0.0, "program": to_json(state.start)}
            return Outcome(0.0, False, none)
        wins = [run.success for run in best.runs]
        details = {
            "success_rate": sum(wins) / len(wins),
            "score_std": best.std,
            "score_cost": self.rules.cost(best),
            "program": to_json(best.program),
        }
        return Outcome(best.mean, all(wins), details)

    def _begin(self, program: Program) -> Iterator[State]:
        """The runs of a program, each as far as it gets without an answer."""
        state = self.state
        for i in range(len(state.tasks) * self.rules.runs):
            task = state.tasks[i // self.rules.runs]
            world_seed = derive(state.episode_seed, "task", task.task_id)
            chance = self._chance(state.sample, len(state.evaluations), i)
            self._run.reset(task.task_id, state.pool, world_seed, chance)
            self._run.act(self.rules.compile(program, task))
            yield self._run.state

    def _chance(self, sample: int, edit: int, run: int) -> int:
        """Which attempt at its task a run is: every evaluation draws anew, also of a program seen before."""
        return derive(sample, "edit", edit, "run", run)

    def _close(self, run: State) -> Transition:
        self._run.restore(run)
        return self._run.transition()

    def _measure(self, ends: Sequence[Transition]) -> Iterator[Run]:
        for i, end in enumerate(ends):
            assert end.outcome is not None  # only an outage has none
            last = end.records[-1]
            task_id = self.state.tasks[i // self.rules.runs].task_id
            yield Run(task_id, float(end.outcome.score), end.outcome.success, last.output, last.error, end.usage)

    def broken(self) -> bool:
        """Whether a run has met an outage: what is in flight is drained, nothing new starts."""
        return any(
            call.record.error.startswith(OUTAGE)
            for run in self.state.runs
            for call in run.calls.values()
            if call.record is not None
        )


class _Gate:
    """Rules of a run: the compiled steps are its one decision, and stop where another run met an outage."""

    def __init__(self, search: SearchEpisode) -> None:
        self._search = search

    def decode(self, state: State, action: tuple[Step, ...]) -> Decision:
        """The steps, and then the end."""
        return Decision(action, finish=True)

    def may_start(self, state: State, step: Step) -> bool:
        """Unless another run met an outage: then this evaluation counts for nothing, whatever the order."""
        return not self._search.broken()

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        """Never."""
        return ""

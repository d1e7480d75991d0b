"""One episode as a state machine that never waits: reset, then (act, (poll, deliver)*, transition)*.

It knows no clock, no provider and no Gymnasium. Its whole state is one frozen, picklable object, so a snapshot *is*
that object, unanswered requests included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import sub
from typing import Any, Protocol

from nextstep_envs.execution import BUDGET, OUTAGE, Call, advance
from nextstep_envs.ledger import total_allowance
from nextstep_envs.requests import Actor, Job, Request, Result
from nextstep_envs.seeding import derive, stream
from nextstep_envs.types import UNLIMITED, Allowance, Budget, Outcome, Step, StepRecord, Task, Transition, Usage
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World, tools_of


@dataclass(frozen=True, slots=True)
class Decision:
    """What an action means.

    Attributes:
        steps: what is to be done.
        finish: nothing follows these steps.
        invalid: why the action cannot be run, or "".
        draft: what the protocol remembers until the next decision; frozen and picklable.
    """

    steps: tuple[Step, ...] = ()
    finish: bool = False
    invalid: str = ""
    draft: Any = None


@dataclass(frozen=True, slots=True)
class State:
    """A whole episode.

    Attributes:
        task, pool, start: what reset fixed: the task, the workers present, the world at the start.
        episode_seed: fixes task, pool and world; seed: this attempt's chance, from (episode_seed, sample).
        steps: by index, also those that have not started.
        calls: by index, those that have started.
        spent: priced usage of the whole episode so far.
        told: indices whose records a transition has reported.
        invalid: number of invalid actions so far.
        notice: why the last action was invalid, or "".
        fresh: indices of the records that the last transition reported.
        finish: whether the last decision asked to end.
        draft: what the protocol remembers (DAG: nodes that have not been run).
        interrupted: why control came back before all that was decided had run, or "".
        interrupts: how often that has happened.
        end: why the episode is over ("finish", "done", "budget: tokens", "outage: ..."), or "".
    """

    task: Task
    pool: tuple[WorkerSpec, ...]
    start: Any
    episode_seed: int
    sample: int
    seed: int
    steps: tuple[Step, ...] = ()
    calls: Mapping[int, Call] = field(default_factory=dict)
    spent: Usage = Usage()
    told: frozenset[int] = frozenset()
    invalid: int = 0
    notice: str = ""
    fresh: tuple[int, ...] = ()
    finish: bool = False
    draft: Any = None
    interrupted: str = ""
    interrupts: int = 0
    end: str = ""

    def steps_used(self) -> int:
        """Steps decided plus invalid actions: what counts against `Budget.steps`."""
        return len(self.steps) + self.invalid

    def records(self) -> tuple[StepRecord, ...]:
        """Records of all ended steps, by index."""
        return tuple(c.record for c in self.calls.values() if c.record)

    def world_after(self, after: Sequence[int]) -> Any:
        """The world as the highest of these steps left it; the start if there is none."""
        return self.calls[max(after)].world if after else self.start

    def world_now(self) -> Any:
        """The world as the highest-indexed finished step left it.

        A step that was cut short counts if it was free to spend all that was left: then its world is the only one.
        """
        return self.world_after(
            [i for i, c in self.calls.items() if c.record and not (c.record.error and c.step.allowance is not None)]
        )


class Rules(Protocol):
    """A protocol (Workflow, DAG ...): what an action means. No I/O, no Gymnasium."""

    def decode(self, state: State, action: Any) -> Decision:
        """The steps that an action stands for; never raises on a malformed action."""
        ...

    def may_start(self, state: State, step: Step) -> bool:
        """Whether a step whose predecessors have ended may start.

        Must depend on nothing but the step's ancestors, so that what runs does not depend on who answers first.
        """
        ...

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        """Why control goes back to the orchestrator although it asked to end or more was to run; "" if it does not."""
        ...


class Episode:
    """An episode in a world, under rules, within a budget.

    Args:
        world: where it takes place.
        rules: what actions mean.
        workers: how each worker works, by worker_id.
        budget: what it may consume.
        max_parallel: the most steps at work at once.
    """

    state: State

    def __init__(
        self, world: World, rules: Rules, workers: Mapping[str, Actor], budget: Budget, max_parallel: int = UNLIMITED
    ) -> None:
        self.world, self.rules, self.workers, self.budget = world, rules, workers, budget
        self.max_parallel = max_parallel
        self._total, self._tools = total_allowance(budget), tools_of(world)

    def reset(self, task_id: str, pool: tuple[WorkerSpec, ...], seed: int, sample: int = 0) -> None:
        """Start. `seed` fixes the world (task and pool are given); `sample` only this attempt's noise."""
        task = self.world.task(task_id)
        start = self.world.begin(task, stream(seed, "world"))
        self.state = State(task, pool, start, seed, sample, derive(seed, "sample", sample))

    def snapshot(self) -> State:
        """The whole episode, unanswered requests included."""
        return self.state

    def restore(self, state: State, sample: int | None = None) -> None:
        """Continue from a snapshot; with `sample`, as another attempt: what is yet to come draws new chance."""
        if sample is not None:
            seed = derive(state.episode_seed, "sample", sample)
            calls = {
                i: replace(c, pending=replace(c.pending, seed=derive(seed, c.pending.id))) if c.pending else c
                for i, c in state.calls.items()
            }
            state = replace(state, sample=sample, seed=seed, calls=calls)
        self.state = state

    def left(self) -> Allowance:
        """What the budget still allows."""
        return self._total.minus(self.state.spent)

    def act(self, action: Any) -> None:
        """Take one decision and start what can start."""
        state = self.state
        if state.end:
            raise RuntimeError(f"the episode is over ({state.end}); call reset first")
        if self.poll():
            raise RuntimeError("act was called while requests are unanswered; deliver their results first")
        decision = self.rules.decode(state, action)
        self.state = replace(
            state,
            steps=state.steps + decision.steps,
            invalid=state.invalid + bool(decision.invalid),
            notice=decision.invalid,
            finish=decision.finish,
            draft=decision.draft,
            interrupted="",
        )
        self._start()

    def poll(self) -> tuple[Request, ...]:
        """Every unanswered request, in step order. Idempotent: the driver knows what it has in flight."""
        return tuple(c.pending for c in self.state.calls.values() if c.pending)

    def deliver(self, result: Result) -> None:
        """Feed one result back. An unknown or repeated id changes nothing."""
        for index, call in self.state.calls.items():
            if call.pending and call.pending.id == result.id:
                call = self._advance(call, result)
                self._put(index, call)
                if call.record:  # only an end lets others start
                    self._start()
                return

    def transition(self, scored: bool = True) -> Transition:
        """What the decision yielded; once per decision, when nothing is pending. `scored`: reward = outcome score."""
        state = self.state
        fresh = tuple(i for i, c in state.calls.items() if c.record and i not in state.told)
        records = tuple(r for i in fresh if (r := state.calls[i].record))
        usage = Usage()
        for record in records:
            usage = usage.plus(record.usage)
        decided = state.steps
        reason = self.rules.interrupt(state, records) if records else ""
        # What has not started by now never will, unless it is decided again.
        state = replace(state, steps=tuple(c.step for c in state.calls.values()))
        if reason:
            back = replace(state, finish=False, interrupted=reason, interrupts=state.interrupts + 1)
            # Control goes back only where there is something left to decide.
            reason, state = ("", state) if self._end(back, records) else (reason, back)
        end = self._end(state, records)
        steps = decided if end else state.steps
        self.state = replace(state, steps=steps, told=state.told.union(fresh), fresh=fresh, end=end)
        extra = {"interrupted": reason} if reason else {}
        if end.startswith(OUTAGE):
            return Transition(0.0, usage, records, False, True, error=end.removeprefix(OUTAGE))
        if not end:
            return Transition(0.0, usage, records, False, False, extra=extra)
        outcome: Outcome = self.world.outcome(state.task, state.world_now())
        reward = float(outcome.score) if scored else 0.0
        exhausted = end.removeprefix(BUDGET) if end.startswith(BUDGET) else ""
        return Transition(reward, usage, records, True, False, outcome, exhausted, extra=extra)

    def _end(self, state: State, records: tuple[StepRecord, ...]) -> str:
        """Why the episode is over now, the gravest reason first; "" if it goes on."""
        for prefix in (OUTAGE, BUDGET):
            for record in records:
                # A step that has used up its own share leaves the others theirs.
                if record.error.startswith(prefix) and (prefix == OUTAGE or record.step.allowance is None):
                    return record.error
        if state.finish:
            return "finish"
        if self.world.done(state.world_now()):
            return "done"
        return BUDGET + "steps" if state.steps_used() >= self.budget.steps else ""

    def _start(self) -> None:
        """Start every step whose predecessors have ended well; nothing new after an outage or the world's end."""
        while True:
            state = self.state
            waiting = [s for s in state.steps if s.index not in state.calls]
            if not waiting or any(c.record and c.record.error.startswith(OUTAGE) for c in state.calls.values()):
                return
            ready = [s for s in waiting if self._ready(state, s)]
            room = self.max_parallel - sum(c.record is None for c in state.calls.values())
            if not ready or room < 1:
                return
            for step in ready[:room]:
                world = state.world_after(step.after)
                context = tuple(r.output for j in step.reads if (r := state.calls[j].record))
                allowance = self.left() if step.allowance is None else step.allowance
                job = Job(step.subtask, context, self.world.view(world), step.role, allowance, self._tools)
                call = Call(step, job, allowance, world)
                self._put(step.index, self._advance(call, None))

    def _ready(self, state: State, step: Step) -> bool:
        records = [state.calls[j].record if j in state.calls else None for j in step.after]
        if any(record is None or record.error for record in records):
            return False
        return not self.world.done(state.world_after(step.after)) and self.rules.may_start(state, step)

    def _advance(self, call: Call, result: Result | None) -> Call:
        worker_id = call.step.worker_id
        spec = next(s for s in self.state.pool if s.worker_id == worker_id)
        return advance(call, self.workers[worker_id], spec, self.world, self.state.seed, result)

    def _put(self, index: int, call: Call) -> None:
        state = self.state
        earlier = state.calls.get(index)
        calls = {**state.calls, index: call}
        if earlier is None and index != max(calls):
            calls = dict(sorted(calls.items()))  # step order, never arrival order
        more = Usage(*map(sub, call.used, earlier.used)) if earlier else call.used
        self.state = replace(state, calls=calls, spent=state.spent.plus(more))

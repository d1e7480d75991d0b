"""The core: budgets hold, drivers agree, snapshots continue identically, failures are no rewards."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs.drivers import batched, one_by_one
from nextstep_envs.episode import Episode, State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.requests import Done, Job, Result
from nextstep_envs.types import Allowance, Budget, Step, Transition, Usage
from tests.envs.toy import POOL, WORKERS, Counter, answer, fail


@dataclass(frozen=True)
class Sequence:
    """Rules for tests: an action is a list of (subtask, worker, reads, ends); "junk" is invalid."""

    budget: Budget

    def decode(self, state: State, action: Any) -> Any:
        from nextstep_envs.episode import Decision

        if action == "junk":
            return Decision(invalid="junk")
        first = len(state.steps)
        if first + len(action) > self.budget.steps:
            return Decision(invalid="too long")
        steps = []
        for i, (text, worker, reads, parallel) in enumerate(action, start=first):
            after = () if i == 0 or parallel else (i - 1,)
            share = total_allowance(self.budget).minus(state.spent).split(max(len(action), 1)) if parallel else None
            steps.append(Step(i, text, worker, after, tuple(j for j in sorted(reads) if j in after), share))
        return Decision(tuple(steps), finish=not action)

    def may_start(self, state: State, step: Step) -> bool:
        return True

    def interrupt(self, state: State, fresh: Any) -> str:
        return ""


def make(budget: Budget) -> Episode:
    return Episode(Counter(), Sequence(budget), WORKERS, budget)


def shuffled(chaos: random.Random) -> Any:
    """What concurrency does: any order, one by one, and everything delivered twice."""

    def drive(episode: Episode, perform: Any) -> None:
        while asked := episode.poll():
            request = chaos.choice(asked)
            episode.deliver(perform([request])[0])
            episode.deliver(perform([request])[0])
            episode.deliver(Result("99/99", "unknown"))

    return drive


def play(drive: Any, budget: Budget, actions: list[Any], sample: int = 0) -> tuple[list[Transition], State]:
    episode = make(budget)
    episode.reset("7", POOL, seed=5, sample=sample)
    transitions = []
    for action in actions:
        episode.act(action)
        drive(episode, answer)
        transitions.append(episode.transition())
        if transitions[-1].terminated:
            break
    return transitions, episode.state


def same(a: list[Transition], b: list[Transition]) -> bool:
    return [replace_outcome(t) for t in a] == [replace_outcome(t) for t in b]


def replace_outcome(t: Transition) -> Any:
    return t._replace(outcome=dict(t.outcome) if t.outcome else None)


entry = st.tuples(st.text(max_size=5), st.sampled_from("ab"), st.frozensets(st.integers(0, 4)), st.just(False))
forked = st.tuples(st.text(max_size=5), st.sampled_from("ab"), st.just(frozenset()), st.just(True))
plan = st.one_of(st.lists(entry, max_size=3), st.lists(forked, min_size=1, max_size=3), st.just("junk"))
plans = st.lists(plan, min_size=1, max_size=5)
budgets = st.builds(
    Budget,
    steps=st.integers(1, 6),
    env_steps=st.integers(1, 6),
    tokens=st.integers(1, 1200),
    calls=st.integers(1, 12),
    usd=st.one_of(st.none(), st.floats(1e-6, 3e-3)),
)


@given(budgets, plans)
@settings(max_examples=150, deadline=None)
def test_no_budget_is_ever_exceeded(budget: Budget, actions: list[Any]) -> None:
    transitions, state = play(one_by_one, budget, actions)
    spent = state.spent
    assert total_allowance(budget).lacks(spent) == ""
    total = Usage()
    for t in transitions:
        total = total.plus(t.usage)
    assert total == spent
    assert all(t.terminated == bool(t.outcome) for t in transitions)


@given(budgets, plans, st.integers(0, 2**16))
@settings(max_examples=150, deadline=None)
def test_every_driver_gives_identical_records(budget: Budget, actions: list[Any], chaos: int) -> None:
    alone, state = play(one_by_one, budget, actions)
    for drive in (lambda e, p: batched([e], p), shuffled(random.Random(chaos))):
        other, other_state = play(drive, budget, actions)
        assert same(alone, other)
        assert state == other_state


@given(budgets, plans, st.integers(0, 2**16))
@settings(max_examples=80, deadline=None)
def test_a_snapshot_at_any_moment_continues_identically(budget: Budget, actions: list[Any], chaos: int) -> None:
    rng = random.Random(chaos)
    episode = make(budget)
    episode.reset("8", POOL, seed=3)
    for action in actions:
        episode.act(action)
        cuts = [pickle.dumps(episode.snapshot())]
        while asked := episode.poll():
            episode.deliver(answer([rng.choice(asked)])[0])
            cuts.append(pickle.dumps(episode.snapshot()))
        end = episode.transition()
        for cut in cuts:
            other = make(budget)
            other.restore(pickle.loads(cut))
            one_by_one(other, answer)
            assert same([other.transition()], [end])
            assert other.state == episode.state
        if end.terminated:
            break


def test_sample_changes_only_the_noise() -> None:
    plan = [[("x", "a", (), False), ("y", "b", (0,), False)]]
    (first, a), (second, b) = play(one_by_one, Budget(), plan), play(one_by_one, Budget(), plan, sample=1)
    assert a.start == b.start and a.task == b.task
    assert first[0].records != second[0].records


def test_restoring_as_another_sample_renames_what_is_pending() -> None:
    episode = make(Budget())
    episode.reset("7", POOL, seed=1)
    episode.act([("x", "a", (), False)])
    cut, (before,) = episode.snapshot(), episode.poll()
    episode.restore(cut, sample=4)
    (after,) = episode.poll()
    assert before.id == after.id and before.seed != after.seed
    episode.restore(cut)
    assert episode.poll() == (before,)


def test_an_outage_masks_the_episode_and_starts_nothing_new() -> None:
    episode = make(Budget())
    episode.reset("7", POOL, seed=1)
    episode.act([("x", "a", (), False), ("y", "b", (), False)])
    one_by_one(episode, fail)
    t = episode.transition()
    assert t.truncated and not t.terminated and t.reward == 0 and t.outcome is None
    assert t.error == "connection refused" and t.usage.calls == 1
    assert [r.step.index for r in t.records] == [0]


def test_running_out_terminates_and_is_scored() -> None:
    transitions, _ = play(one_by_one, Budget(tokens=60), [[("x", "a", (), False)]])
    assert transitions[0].terminated and transitions[0].budget_exhausted == "tokens"
    assert transitions[0].outcome is not None and transitions[0].reward == transitions[0].outcome.score


def test_invalid_actions_use_up_steps_and_run_nothing() -> None:
    transitions, state = play(one_by_one, Budget(steps=2), ["junk", "junk", "junk"])
    assert len(transitions) == 2 and state.spent == Usage()
    assert transitions[1].budget_exhausted == "steps"


def test_nothing_starts_once_the_world_is_done() -> None:
    class Ender:
        def advance(self, job: Job, memory: Any, result: Any, rng: Any) -> Any:
            from nextstep_envs.requests import Ask

            return Done("ended") if result else Ask("world", "end")

    budget = Budget()
    episode = Episode(Counter(), Sequence(budget), {"a": Ender(), "b": WORKERS["b"]}, budget)
    episode.reset("7", POOL, seed=1)
    episode.act([("x", "a", (), False), ("y", "b", (), False)])
    t = episode.transition()
    assert t.terminated and [r.step.index for r in t.records] == [0]


def test_acting_too_early_or_too_late_is_an_error() -> None:
    episode = make(Budget())
    episode.reset("7", POOL, seed=1)
    episode.act([("x", "a", (), False)])
    with pytest.raises(RuntimeError, match="unanswered"):
        episode.act("junk")
    one_by_one(episode, answer)
    episode.transition()
    episode.act([])
    episode.transition()
    with pytest.raises(RuntimeError, match="finish"):
        episode.act("junk")


def test_a_provider_that_drops_a_request_is_named() -> None:
    episode = make(Budget())
    episode.reset("7", POOL, seed=1)
    episode.act([("x", "a", (), False)])
    with pytest.raises(RuntimeError, match="0/0"):
        one_by_one(episode, lambda requests: [])


def test_usage_and_allowance_arithmetic() -> None:
    assert Usage(1, 2, 3).plus(Usage(1, 1, 1, 1)) == Usage(2, 3, 4, 1)
    assert Allowance(10, 2).minus(Usage(3, 4, 1, 5)) == Allowance(3, 1)
    assert Allowance(10, 3).split(4)[:2] == (2, 0)
    assert Allowance(tokens=5).lacks(Usage(3, 3)) == "tokens"
    assert Allowance(usd_nano=5).lacks(Usage(usd_nano=6)) == "usd"


def test_records_are_cheap_to_copy_and_budget_is_replaceable() -> None:
    import copy

    transitions, _ = play(one_by_one, Budget(), [[("x", "b", (), False)]])
    record = transitions[0].records[0]
    assert copy.deepcopy(record) is record
    assert replace(Budget(), tokens=5).tokens == 5
    assert json.dumps(dict(transitions[0].usage._asdict()))

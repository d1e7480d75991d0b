"""A search is the sum of its runs: nothing depends on who answers first, failures are no scores."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs.drivers import batched, one_by_one
from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.programs.compile import compile_program
from nextstep_envs.programs.episode import SearchEpisode
from nextstep_envs.programs.instructions import GENERAL
from nextstep_envs.programs.program import Program
from nextstep_envs.programs.serial import to_dict
from nextstep_envs.programs.state import SearchState
from nextstep_envs.protocols.search import SearchProtocol
from nextstep_envs.requests import CodeRequest, Done, Request, Result
from nextstep_envs.seeding import derive
from nextstep_envs.types import Budget, Step, StepRecord, Transition, Usage
from tests.envs.programs.strategies import programs
from tests.envs.programs.test_validation import Many
from tests.envs.test_episode import same, shuffled
from tests.envs.toy import POOL, WORKERS, answer, fail

TASKS = "3+1+4"
FINISH = '{"finish": true}'


def make(budget: Budget | None = None, workers: Any = WORKERS, world: Any = None, **kwargs: Any) -> SearchEpisode:
    limits = budget or Budget(steps=8)
    rules = SearchProtocol(POOL, limits, {}, **{"tasks": 3, "runs": 2, "max_operators": 9, **kwargs})
    episode = rules.episode(rules.adapt(world or Many()), workers)
    episode.reset(TASKS, POOL, seed=5)
    return episode


def rewrite(program: Program) -> str:
    return json.dumps({"program": to_dict(program)})


def add(**operator: Any) -> str:
    return json.dumps({"edit": "add", "operator": {"worker": "b", **operator}})


def play(drive: Any, actions: Sequence[str], budget: Budget | None = None) -> tuple[list[Transition], SearchState]:
    episode, seen = make(budget), []
    for action in actions:
        episode.act(action)
        drive(episode, answer)
        seen.append(episode.transition())
        if seen[-1].terminated:
            break
    return seen, episode.state


EDITS = [
    add(kind="custom", name="plan", worker="a"),
    add(kind="generate", name="second", inputs=["plan", "task"]),
    "junk",
    add(kind="ensemble", name="both", worker="a", inputs=["answer1", "second"]),
    json.dumps({"edit": "set", "name": "second", "worker": "a"}),
    FINISH,
]
edits = st.lists(st.one_of(st.sampled_from(EDITS), programs(most=4).map(rewrite)), min_size=1, max_size=4)
budgets = st.builds(
    Budget,
    steps=st.integers(1, 4),
    env_steps=st.integers(1, 6),
    tokens=st.integers(1, 1500),
    calls=st.integers(1, 12),
    usd=st.one_of(st.none(), st.floats(1e-6, 3e-3)),
)


class OnePlan:
    """Rules by hand: the action is the steps."""

    def decode(self, state: State, action: tuple[Step, ...]) -> Decision:
        return Decision(action, finish=True)

    def may_start(self, state: State, step: Step) -> bool:
        return True

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        return ""


@given(programs(most=5), budgets)
@settings(max_examples=60, deadline=None)
def test_an_evaluation_is_its_runs_done_by_hand(program: Program, budget: Budget) -> None:
    episode = make(budget)
    if program == episode.state.program:
        return
    episode.act(rewrite(program))
    one_by_one(episode, answer)
    found = episode.transition()
    records: list[StepRecord] = []
    scores, usage = [], Usage()
    for position, task_id in enumerate(TASKS.split("+")):
        for run in (2 * position, 2 * position + 1):
            alone = Episode(Many(), OnePlan(), WORKERS, budget, max_parallel=1)
            alone.reset(task_id, POOL, derive(5, "task", task_id), derive(0, "edit", 0, "run", run))
            alone.act(compile_program(program, f"count to {task_id}", GENERAL))
            one_by_one(alone, answer)
            end = alone.transition()
            assert end.outcome is not None and total_allowance(budget).lacks(end.usage) == ""
            records += end.records
            scores.append(end.outcome.score)
            usage = usage.plus(end.usage)
    assert found.records == tuple(records) and found.usage == usage == episode.state.spent
    assert found.reward == found.extra["score_mean"] == pytest.approx(sum(scores) / 6)
    assert [run.score for run in episode.state.evaluations[0].runs] == scores


@given(edits, budgets, st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_every_driver_and_every_order_give_the_same(actions: list[str], budget: Budget, chaos: int) -> None:
    alone, state = play(one_by_one, actions, budget)
    for drive in (lambda e, p: batched([e], p), shuffled(random.Random(chaos))):
        other, other_state = play(drive, actions, budget)
        assert same(alone, other) and state == other_state


@given(edits, st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_a_snapshot_at_any_moment_continues_identically(actions: list[str], chaos: int) -> None:
    rng, episode = random.Random(chaos), make()
    for action in actions:
        episode.act(action)
        cuts = [episode.snapshot()]
        while asked := episode.poll():
            episode.deliver(answer([rng.choice(asked)])[0])
            cuts.append(episode.snapshot())
        end = episode.transition()
        for cut in rng.sample(cuts, min(3, len(cuts))):
            other = make()
            other.restore(pickle.loads(pickle.dumps(cut)))
            one_by_one(other, answer)
            assert same([other.transition()], [end]) and other.state == episode.state
        if end.terminated:
            break


def test_restoring_as_another_sample_changes_only_what_is_yet_to_come() -> None:
    episode = make()
    episode.act(EDITS[0])
    asked = episode.poll()
    episode.deliver(answer(asked[:1])[0])
    cut = episode.snapshot()
    before = episode.poll()
    episode.restore(cut, sample=4)
    after = episode.poll()
    assert [r.id for r in after] == [r.id for r in before] and episode.state.sample == 4
    assert not {r.seed for r in after} & {r.seed for r in before}
    assert [run.calls[0].turn for run in episode.state.runs] == [1, 0, 0, 0, 0, 0]
    episode.restore(cut)
    assert episode.poll() == before


def test_requests_name_edit_run_step_and_turn_and_stale_answers_change_nothing() -> None:
    episode = make()
    episode.act(EDITS[0])
    first = episode.poll()
    assert [r.id for r in first] == [f"0.{run}/0/0" for run in range(6)] and len({r.seed for r in first}) == 6
    one_by_one(episode, answer)
    episode.transition()
    episode.act(EDITS[1])
    state = episode.state
    for stale in (*answer(first), Result("1.0/9/9"), Result("1.9/0/0"), Result("1.0"), Result("")):
        episode.deliver(stale)
    assert episode.state == state and episode.poll()[0].id == "1.0/0/0"


def test_sample_changes_only_the_noise_and_every_evaluation_draws_anew() -> None:
    def outputs(sample: int) -> list[tuple[str, ...]]:
        episode = make()
        episode.reset(TASKS, POOL, seed=5, sample=sample)
        seen = []
        for worker in ("b", "a", "b", "a"):
            episode.act(json.dumps({"edit": "set", "name": "answer1", "worker": worker}))
            if not episode.state.notice:
                one_by_one(episode, answer)
            seen.append(tuple(record.output for record in episode.transition().records))
        return seen

    first, again, other = outputs(0), outputs(0), outputs(1)
    assert first == again
    assert first[0] != other[0] and first[0] != first[2] and first[1] != first[3]


def test_an_outage_of_one_run_is_an_outage_of_the_step_and_drains_the_others() -> None:
    episode = make()
    episode.act(EDITS[0])
    one_by_one(episode, answer)
    episode.transition()
    episode.act(EDITS[1])
    broken, *others = episode.poll()
    episode.deliver(fail([broken])[0])
    while asked := episode.poll():
        episode.deliver(answer(asked[-1:])[0])
    end = episode.transition()
    assert end.truncated and not end.terminated and end.reward == 0.0 and end.outcome is None and not end.extra
    assert end.error == "connection refused" and episode.state.end == "outage: connection refused"
    assert {record.step.index for record in end.records} == {0}  # what was at work ended, nothing new started
    assert len(end.records) == 1 + len(others) and end.usage.calls > len(others)
    assert len(episode.state.evaluations) == 1
    with pytest.raises(RuntimeError, match="outage"):
        episode.act(FINISH)


@pytest.mark.parametrize(
    "action", ["junk", add(kind="review", inputs=["task"]), add(kind="program"), '{"edit": "add"}']
)
def test_an_edit_that_breaks_the_program_runs_nothing_and_is_not_charged(action: str) -> None:
    episode = make()
    before = episode.state
    episode.act(action)
    assert episode.poll() == () and episode.state.runs == ()
    end = episode.transition()
    assert end == Transition(0.0, Usage(), (), False, False)
    assert episode.state == replace(before, invalid=1, notice=episode.state.notice) and episode.state.notice


def test_invalid_actions_and_edits_use_up_steps() -> None:
    seen, state = play(one_by_one, ["junk", EDITS[0], "junk", EDITS[1]], Budget(steps=3))
    assert [t.terminated for t in seen] == [False, False, True] and state.steps_used() == 3
    assert seen[-1].budget_exhausted == "steps" and state.end == "budget: steps"
    assert seen[-1].outcome is not None and seen[-1].outcome.score == seen[1].reward


def test_the_outcome_is_that_of_the_best_program() -> None:
    seen, state = play(one_by_one, [EDITS[0], EDITS[1], FINISH])
    best = max(seen[:2], key=lambda t: t.reward)
    outcome = seen[-1].outcome
    assert outcome is not None and outcome.score == best.reward and seen[-1].reward == 0.0
    assert outcome["program"] == best.extra["program"] and outcome["score_std"] == best.extra["score_std"]
    assert outcome["success_rate"] == 0.0 and not outcome.success and not seen[-1].budget_exhausted
    assert state.end == "finish" and seen[-1].extra == {}


def test_where_nothing_was_evaluated_the_outcome_is_nothing() -> None:
    (end,), _ = play(one_by_one, [FINISH])
    assert end.terminated and end.outcome is not None and end.outcome.score == 0.0 and not end.outcome.success


def test_running_out_of_a_runs_budget_ends_that_run_not_the_search() -> None:
    seen, state = play(one_by_one, [EDITS[1], EDITS[0], EDITS[1]], Budget(tokens=60))
    assert not any(t.terminated for t in seen) and seen[1].usage.tokens <= 6 * 60
    assert {run.error for run in state.evaluations[0].runs} <= {"", "budget: tokens"}
    assert "budget: tokens" in {run.error for run in state.evaluations[-1].runs}


def test_calling_out_of_turn_is_an_error() -> None:
    episode = make()
    episode.act(EDITS[0])
    for call in (lambda: episode.act("junk"), episode.transition):
        with pytest.raises(RuntimeError, match="unanswered"):
            call()
    assert episode.left() == total_allowance(episode.budget)


class Coder:
    """Writes code, has it run, and says what came out."""

    def advance(self, job: Any, memory: Any, result: Result | None, rng: random.Random) -> Any:
        from nextstep_envs.requests import Ask

        if result is None:
            return Ask("code", CodeRequest("print(2 + 2)", 1.0), Usage(10, 10, 1))
        return Done(f"the result is {result.value}")


def test_a_world_that_runs_code_can_have_programs() -> None:
    class Machine(Many):
        runs_code = True

    perform: Callable[[Sequence[Request]], list[Result]] = lambda asked: [Result(r.id, "4") for r in asked]  # noqa: E731
    episode = make(workers={"a": Coder(), "b": Coder()}, world=Machine())
    episode.act(add(kind="program"))
    assert {r.kind for r in episode.poll()} == {"code"}
    one_by_one(episode, perform)
    assert {record.output for record in episode.transition().records} == {"the result is 4"}

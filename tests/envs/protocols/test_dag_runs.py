"""How a DAG runs: who starts when, on what share, in which world, and when control comes back."""

from __future__ import annotations

import json
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs import graph
from nextstep_envs.episode import Episode, State
from nextstep_envs.ledger import divide, total_allowance
from nextstep_envs.protocols.replanning import kinds_of
from nextstep_envs.requests import Result
from nextstep_envs.types import UNLIMITED, Allowance, Transition, Usage
from tests.envs.protocols.dagging import Run, drain, node, reply, waiting

# -- start and order -------------------------------------------------------------------------------------------------


def test_a_node_starts_the_moment_its_dependencies_end() -> None:
    run = Run()
    plan = [node("wait a"), node("wait b"), node("wait c", 0), node("wait d", 1, 2)]
    run.episode.act(json.dumps({"dag": plan}))
    assert waiting(run.episode) == [0, 1]
    reply(run.episode, 0)
    assert waiting(run.episode) == [1, 2]  # c works while b still waits
    reply(run.episode, 2)
    assert waiting(run.episode) == [1]
    reply(run.episode, 1)
    assert waiting(run.episode) == [3]
    reply(run.episode, 3)
    result = run.episode.transition()
    assert [r.step.index for r in result.records] == [0, 1, 2, 3] and result.terminated
    assert result.records[3].context == ("did wait b", "did wait c")


@pytest.mark.parametrize("bound", [1, 2, 4])
def test_no_more_nodes_work_at_once_than_allowed_and_no_fewer(bound: int) -> None:
    run = Run(max_parallel=bound)
    run.episode.act(json.dumps({"dag": [node(f"wait {i}") for i in range(5)]}))
    left = 5
    while asked := run.episode.poll():
        assert len(asked) == min(bound, left)
        reply(run.episode, int(asked[-1].id[0]))
        left -= 1
    assert len(run.episode.transition().records) == 5


def test_a_node_works_where_the_last_of_its_dependencies_left_the_world() -> None:
    run = Run()
    run.act(node("call left"))
    run.act(node("call right"))
    run.act(node("look", 0, 1))
    run.act(node("look", 0))
    run.act(node("look"))
    records = run.act({"run": True}).records
    views = {r.step.index: run.episode.state.calls[r.step.index].job.view for r in records}
    assert views[0] == views[1] == views[4] and (views[2], views[3]) == ("right", "left")
    assert [r.context for r in records[2:]] == [("did call left", "did call right"), ("did call left",), ()]


def test_nothing_that_depends_on_the_end_of_the_world_starts_and_others_do() -> None:
    run = Run()
    result = run.dag(node("end"), node("x", 0), node("call c"))
    assert run.started == ["end", "call c"]
    assert result.terminated and result.reward == 0.2  # of the highest-numbered node: the start and one call


def test_the_run_ends_the_episode_when_the_last_nodes_world_has_ended() -> None:
    run = Run()
    run.act(node("x"))
    run.act(node("end"))
    result = run.act({"run": True})
    assert result.terminated and run.episode.state.end == "done"


# -- shares ----------------------------------------------------------------------------------------------------------

amount = st.integers(0, 10**7) | st.just(UNLIMITED)
weights = st.lists(st.floats(1e-12, 1e12) | st.integers(1, 10).map(float), min_size=1, max_size=10)


@given(st.builds(Allowance, amount, amount, amount, amount), weights)
def test_shares_never_add_up_to_more_than_is_left(left: Allowance, parts: list[float]) -> None:
    shares = divide(left, parts)
    for whole, *each in zip(left, *shares, strict=True):
        if whole == UNLIMITED:
            assert set(each) == {UNLIMITED}
        else:
            assert sum(each) <= whole and sum(each) > whole - len(each)
            assert min(each) >= (whole >= len(each))


def test_shares_are_equal_unless_every_node_declares_a_cost() -> None:
    equal = Run({"usd": 0.003}).dag(node("x", cost=1), node("y", cost=3), node("z"))
    assert {r.step.allowance for r in equal.records} == {Allowance(2000, 4, 26, 1_000_000)}
    declared = Run({"usd": 0.003}).dag(node("x", cost=1), node("y", cost=3))
    assert [r.step.allowance for r in declared.records] == [
        Allowance(1500, 3, 20, 750_000),
        Allowance(4499, 8, 59, 2_249_999),
    ]
    cheap = Run().dag(node("x", cost=1), node("y", cost=999))
    assert [r.step.allowance.calls for r in cheap.records] == [1, 10]


def test_what_a_run_does_not_use_returns_to_the_next() -> None:
    run = Run()
    run.act(node("x"))
    run.act({"run": True})
    run.act(node("y"))
    (record,) = run.act({"run": True}).records
    assert record.step.allowance == total_allowance(run.budget).minus(Usage(15, 5, 1))


def test_a_node_that_exhausts_its_share_fails_alone() -> None:
    run = Run(max_replans=0)
    result = run.dag(node("greedy"), node("x"), node("y", 0), node("z", 1))
    assert [(r.step.index, r.error) for r in result.records] == [(0, "budget: tokens"), (1, ""), (3, "")]
    assert result.terminated and not result.budget_exhausted


# -- replanning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (node("fail"), "failed"),
        (node("greedy"), "failed"),
        (node("unsure"), "unsure"),
        (node("call blue", expects=["red", "green"]), "unexpected"),
    ],
)
def test_a_node_in_trouble_holds_back_what_depends_on_it_and_nothing_else(bad: dict[str, Any], kind: str) -> None:
    run = Run()
    result = run.dag(bad, node("after", 0), node("later", 1), node("other"), node("more", 3))
    assert run.started[1:] == ["other", "more"]
    assert not result.terminated and kinds_of(result.extra["interrupted"])[0] == kind
    state = run.episode.state
    assert state.interrupted == result.extra["interrupted"] and state.interrupts == 1
    assert state.steps_used() == 3  # what did not start uses no step
    message = run.rules.message(state)
    assert f"Interrupted: {state.interrupted}." in message and "Replans left: 2." in message
    named = dict(zip(run.rules.features.names, run.rules.features(state), strict=True))
    assert named[f"trigger.{kind}"] == 1 and named[f"step[0].{kind}"] == 1 and named["step[1].failed"] == 0
    assert named["left.replans"] == pytest.approx(2 / 3)


def test_met_expectations_and_sound_nodes_interrupt_nothing() -> None:
    run = Run(limits={"tokens": 100.0})
    result = run.dag(node("call red", expects=["red", "green"]), node("look", 0, expects=["RED"]), node("x", 1))
    assert result.terminated and len(result.records) == 3 and "interrupted" not in result.extra


def test_finished_nodes_are_kept_and_can_be_built_on_after_a_replan() -> None:
    run = Run()
    run.dag(node("call red"), node("unsure", 0), node("never", 1))
    result = run.dag(node("look", "step 0"), node("despite", "step 1"))
    assert run.started == ["call red", "unsure", "look", "despite"]
    assert result.terminated and [r.step.index for r in result.records] == [2, 3]
    assert run.worker.jobs[2].view == "red" and run.worker.jobs[2].context == ("did call red",)


def test_at_most_three_replans_then_nothing_is_held_back() -> None:
    run = Run()
    for count in (1, 2, 3):
        assert run.dag(node("fail"), node("after", 0)).extra["interrupted"]
        assert run.episode.state.interrupts == count
    last = run.dag(node("fail"), node("after", 0))
    assert last.terminated and len(last.records) == 2 and "interrupted" not in last.extra
    assert run.episode.state.interrupts == 3


def test_without_replans_nothing_interrupts() -> None:
    run = Run(max_replans=0)
    result = run.dag(node("fail"), node("after", 0))
    assert result.terminated and run.started == ["fail", "after"]


@pytest.mark.parametrize(("limit", "kinds"), [(38.0, ("over",)), (39.0, ()), (20.0, ("slow", "over"))])
def test_costs_are_watched_after_the_run(limit: float, kinds: tuple[str, ...]) -> None:
    triggers = {"slow_progress": 1.01} if "slow" in kinds else {}
    run = Run(limits={"tokens": limit}, triggers=triggers)
    result = run.dag(node("x"), node("y"))  # 40 tokens
    assert kinds_of(result.extra.get("interrupted", "")) == kinds


def test_slow_counts_the_nodes_that_were_decided_whether_or_not_they_started() -> None:
    run = Run(limits={"tokens": 50.0}, triggers={"confidence": 0.0})
    result = run.dag(node("x"), node("fail"), *[node("y", 1)] * 5)  # 40 of 50 tokens, 1 of 7 done
    assert kinds_of(result.extra["interrupted"]) == ("failed", "slow")


def test_repeated_failures_and_idleness_count_over_several_runs() -> None:
    run = Run(max_replans=9)
    reasons = [run.dag(node(word)).extra["interrupted"] for word in ("fail", "fail")]
    assert [kinds_of(reason) for reason in reasons] == [("failed",), ("failed", "stalled")]
    run.act(node("fine"))
    assert kinds_of(run.act({"run": True}).extra["interrupted"]) == ("stalled",)
    run = Run(triggers={"idle": 2})
    for count, kinds in enumerate([(), (), ("stalled",)]):
        run.act(node("same"))
        assert kinds_of(run.act({"run": True}).extra.get("interrupted", "")) == kinds, count


def test_nothing_is_handed_back_when_nothing_is_left_to_decide() -> None:
    run = Run({"steps": 1})
    result = run.dag(node("fail"))
    assert result.terminated and "interrupted" not in result.extra and run.episode.state.end == "finish"
    run = Run()
    result = run.dag(node("unsure"), node("end"))
    assert result.terminated and "interrupted" not in result.extra


# -- nothing depends on arrival order --------------------------------------------------------------------------------

WORDS = ("wait", "fail", "unsure", "greedy", "end", "call c", "")


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    n = draw(st.integers(1, 7))
    nodes = []
    for i in range(n):
        words = draw(st.lists(st.sampled_from(WORDS), max_size=2))
        depends = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        nodes.append(node(f"n{i} {draw(st.sampled_from(['wait', '']))} {' '.join(words)}", *depends))
        nodes[-1]["expects"] = draw(st.sampled_from([[], ["c"], ["start"]]))
    return nodes


def play(actions: list[Any], parallel: int, order: random.Random | None) -> tuple[list[Transition], State, Run]:
    run = Run({"tokens": 900, "calls": 40}, {"tokens": 300.0}, max_parallel=parallel)
    seen = []
    for action in actions:
        run.episode.act(json.dumps(action))
        while asked := run.episode.poll():
            request = order.choice(asked) if order else asked[0]
            run.episode.deliver(Result(request.id, f"word {request.seed % 7}", Usage(2, 2, 0)))
        seen.append(run.episode.transition())
        if seen[-1].terminated:
            break
    return seen, run.episode.state, run


def comparable(seen: list[Transition]) -> list[Any]:
    return [t._replace(outcome=dict(t.outcome) if t.outcome else None) for t in seen]


@given(st.lists(plans(), min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 2**16))
@settings(max_examples=250, deadline=None)
def test_neither_arrival_order_nor_parallelism_changes_anything(
    dags: list[list[dict[str, Any]]], parallel: int, chaos: int
) -> None:
    actions = [{"dag": dag} for dag in dags]
    expected, state, _ = play(actions, 1, None)
    other, other_state, run = play(actions, parallel, random.Random(chaos))
    assert comparable(other) == comparable(expected) and other_state == state
    assert pickle.dumps(comparable(other)) and run.rules.message(other_state)
    assert total_allowance(run.budget).lacks(state.spent) == ""


@given(plans(), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_with_room_for_all_what_is_at_work_is_what_is_ready(dag: list[dict[str, Any]], seed: int) -> None:
    for entry in dag:  # everything waits once and nothing goes wrong
        entry["subtask"], entry["expects"] = f"wait {entry['subtask'][:2]}", []
    run, order = Run(max_parallel=9), random.Random(seed)
    before = {i: entry["depends_on"] for i, entry in enumerate(dag)}
    run.episode.act(json.dumps({"dag": dag}))
    ended: set[int] = set()
    while asked := run.episode.poll():
        assert waiting(run.episode) == list(graph.ready(before, ended))
        chosen = int(order.choice(asked).id.split("/")[0])
        reply(run.episode, chosen)
        ended.add(chosen)
    assert ended == set(before)


def test_a_snapshot_in_the_middle_of_a_run_continues_identically() -> None:
    plan = {"dag": [node("wait a"), node("wait b"), node("wait c unsure", 0), node("d", 2), node("wait e", 1)]}
    run = Run()
    run.episode.act(json.dumps(plan))
    cuts = [pickle.dumps(run.episode.snapshot())]
    for index in (1, 0, 4, 2):
        reply(run.episode, index)
        cuts.append(pickle.dumps(run.episode.snapshot()))
    end, state = run.episode.transition(), run.episode.state
    assert kinds_of(state.interrupted) == ("unsure",)
    for cut in cuts:
        other: Episode = Run().episode
        other.restore(pickle.loads(cut))
        drain(other)
        assert comparable([other.transition()]) == comparable([end]) and other.state == state


def test_a_draft_survives_a_snapshot() -> None:
    run = Run()
    run.act(node("x", id="k"))
    other = Run()
    other.episode.restore(pickle.loads(pickle.dumps(run.episode.snapshot())))
    other.act(node("y", "k"))
    assert [r.step.after for r in other.act({"run": True}).records] == [(), (0,)]

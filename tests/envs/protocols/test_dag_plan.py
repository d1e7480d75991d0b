"""What a plan may say: every error is told at once, and a plan with an error runs and costs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextstep_envs.types import Usage
from tests.envs.protocols.dagging import Run, node

LIMIT = {"tokens": 1000.0}
CHAIN = [node("x"), node("y", 0), node("z", 1)]


def rejected(run: Run, action: Any) -> str:
    """Why an action is invalid, having checked that it ran nothing and cost nothing but one step."""
    started, used = len(run.started), run.episode.state.steps_used()
    result = run.act(action)
    assert len(run.started) == started and result.usage == Usage() and result.records == ()
    assert run.episode.state.steps_used() == used + 1 and not result.terminated
    assert run.episode.state.notice in run.rules.message(run.episode.state)
    return run.episode.state.notice


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("gibberish", "no JSON object"),
        ({"dag": "x"}, '"dag" must be a list'),
        ({"dag": {"edges": []}}, '"dag" must be a list'),
        ({"dag": []}, "there is no node"),
        ({"dag": [node("x", i) for i in (1, 2, 0)]}, "cycle: node 0 -> node 2 -> node 1 -> node 0"),
        ({"dag": [node("x", 0)]}, "cycle: node 0 -> node 0"),
        ({"dag": [node("x", 1), node("y", 0)]}, "no sink"),
        ({"dag": [node("x")] * 11}, "11 nodes, but at most 10"),
        ({"dag": [node("x")] * 500}, "500 nodes, but at most 10"),
        ({"dag": [node("x", agent="c")]}, "\"agent\" must be one of a, b, got 'c'"),
        ({"dag": [{"subtask": "x"}]}, '"agent" must be one of a, b, got None'),
        ({"dag": [node("x", agent=["a"])]}, '"agent" must be one of'),
        ({"dag": [node(" ")]}, '"subtask" must be a non-empty text'),
        ({"dag": [{"agent": "a"}]}, '"subtask" must be a non-empty text'),
        ({"dag": [node("x", cost=0)]}, '"cost" must be a number > 0, got 0'),
        ({"dag": [node("x", cost=-3)]}, '"cost" must be a number > 0, got -3'),
        ({"dag": [node("x", cost="1")]}, '"cost" must be a number > 0'),
        ({"dag": [node("x", cost=True)]}, '"cost" must be a number > 0'),
        ('{"dag": [{"subtask": "x", "agent": "a", "cost": NaN}]}', '"cost" must be a number > 0'),
        ({"dag": [node("x", cost=10**400)]}, '"cost" must be a number > 0'),
        ({"dag": [node("x", cost=501)]}, "cost 501 is more than half of the 1000"),
        ({"dag": [node("x", cost=400)] * 3}, "add up to 1200, but 1000 is left"),
        ({"dag": [node("x", "y")]}, "depends on 'y', which is no node and no ended step"),
        ({"dag": [node("x", 7)]}, "depends on 7"),
        ({"dag": [node("x", "step 0")]}, "depends on 'step 0'"),
        ({"dag": [node("x", [0])]}, "depends on [0]"),
        ({"dag": [node("x", True)]}, "depends on True"),
        ({"dag": [node("x", expects=3)]}, '"expects" must be a list of texts'),
        ({"dag": [node("x", id="last")]}, '"id" must be a number or a short name'),
        ({"dag": [node("x", id="step 2")]}, '"id" must be a number or a short name'),
        ({"dag": [node("x", id=1.5)]}, '"id" must be a number or a short name'),
        ({"dag": [node("x", id="k"), node("y", id="k")]}, "the id k is given 2 times"),
        ({"dag": [node("x", id=1), node("y")]}, "the id 1 is given 2 times"),
        ({"dag": ["x"]}, "must be an object"),
        ({"dag": {"nodes": CHAIN, "edges": [[0, 9]]}}, '"edges" has [0, 9]'),
        ({"dag": {"nodes": CHAIN, "edges": [[0, 1, 2], 5]}}, '"edges" has 5'),
        ({"dag": {"nodes": CHAIN, "edges": 5}}, '"edges" must be a list'),
        ({"dag": {"nodes": CHAIN, "edges": [[2, 0]]}}, "cycle: node 0 -> node 1 -> node 2 -> node 0"),
        ({"dag": {"nodes": CHAIN, "agent_assignments": {"5": "a"}}}, "\"agent_assignments\" names '5'"),
        ({"dag": {"nodes": CHAIN, "agent_assignments": []}}, '"agent_assignments" must be an object'),
        ({"dag": {"nodes": CHAIN, "parallel_groups": [[0, 2]]}}, "node 0 and node 2 are in one parallel group"),
        ({"dag": {"nodes": CHAIN, "parallel_groups": [[0, 8]]}}, '"parallel_groups" has [0, 8]'),
        ({"dag": {"nodes": CHAIN, "estimated_total_cost": 1001}}, '"estimated_total_cost" is 1001'),
        ({"dag": {"nodes": CHAIN, "estimated_total_cost": 0}}, '"estimated_total_cost" must be a number > 0'),
        ({"run": True}, "there is no node to run"),
        ({"run": False}, '"subtask" must be a non-empty text'),
        ({"node": "x"}, "must be an object"),
        (node("x", agent="c"), '"agent" must be one of'),
    ],
)
def test_a_bad_plan_says_why_runs_nothing_and_uses_one_step(action: Any, why: str) -> None:
    assert why in rejected(Run(limits=LIMIT), action)


def test_every_error_is_listed_at_once() -> None:
    nodes = [
        node("x", 2, cost=600),
        node("", 0, agent="nobody", cost=-1),
        node("z", 1, "step 4", cost=500),
        node("w", id="all", expects=1),
        *[node("y")] * 7,
    ]
    dag = {"nodes": nodes, "edges": [[0, 99]], "parallel_groups": [[0, 1]], "agent_assignments": {"u": "a"}}
    notice = rejected(Run(limits=LIMIT), {"dag": {**dag, "estimated_total_cost": 2000}})
    for part in (
        "'step 4', which is no",
        'node 1: "subtask"',
        'node 1: "agent"',
        'node 1: "cost"',
        'node 3: "id"',
        'node 3: "expects"',
        '"edges" has [0, 99]',
        "\"agent_assignments\" names 'u'",
        "11 nodes, but at most 10",
        "11 nodes, but only 10 steps",
        "cycle: node 0 -> node 1 -> node 2 -> node 0",
        "node 0 and node 1 are in one parallel group",
        "node 0: cost 600 is more than half",
        "add up to 1100, but 1000 is left",
        '"estimated_total_cost" is 2000',
    ):
        assert part in notice
    assert notice.count(";") == 14


def test_costs_up_to_the_bounds_are_accepted() -> None:
    assert Run(limits=LIMIT).dag(node("x", cost=500), node("y", cost=500)).records
    assert Run(limits={"mix": 0.3}).dag(*[node("x", cost=0.1)] * 3).records  # .1 + .1 + .1 > .3 in floats
    assert Run().dag(node("x", cost=1e12)).records  # without a limit, nothing is too dear


def test_costs_are_measured_against_what_is_left_of_the_main_limit() -> None:
    run = Run(limits={"tokens": 100.0, "usd": 1e-9})
    run.act(node("x"))
    run.act({"run": True})  # 20 tokens
    assert "more than half of the 80 that is left" in rejected(run, node("y", cost=41))
    run.act(node("y", cost=40))
    assert "add up to 81, but 80 is left" in rejected(run, {"dag": [node("y", cost=27)] * 3})


def test_a_plan_may_not_need_more_steps_than_are_left() -> None:
    run = Run({"steps": 3})
    assert "4 nodes, but only 3 steps are left" in rejected(run, {"dag": [node("x")] * 4})
    run.act(node("x"))
    run.act(node("y"))
    assert "3 nodes, but only 2 steps are left" in rejected(run, node("z"))
    # The invalid action has used a step, so the draft has lost its last node.
    assert [n.step.subtask for n in run.episode.state.draft] == ["x"]
    assert run.act({"run": True}).budget_exhausted == "steps"


def test_nodes_cannot_follow_a_step_that_was_cut_short_or_that_ended_the_world() -> None:
    run = Run(max_replans=0)
    run.act(node("end"))
    run.act(node("greedy"))
    run.act(node("call c"))
    run.act({"run": True})
    assert "cannot follow step 1: it was cut short" in rejected(run, node("x", "step 1"))
    assert "cannot follow step 0: the world is done after it" in rejected(run, node("x", "step 0"))
    run.act(node("x", "all"))
    run.act(node("y", "step 0", "step 2"))
    records = run.act({"run": True}).records
    assert [r.step.after for r in records] == [(0, 2), (0, 2)]
    assert run.worker.jobs[-1].view == "c" and run.worker.jobs[-1].context == ("did end", "did call c")


def test_labels_positions_steps_last_and_all_name_what_they_should() -> None:
    run = Run()
    run.dag(node("fail"))
    nodes = [
        node("p", "step 0", id="first"),
        node("q", "first"),
        node("r", "last"),
        node("s", "all"),
        node("t", "2", 1, id=" t "),
        node("u", "step 0", "t"),
    ]
    records = run.dag(*nodes).records
    assert [r.step.subtask for r in records] == ["p", "q", "r", "s", "t", "u"]
    assert [r.step.after for r in records] == [(0,), (1,), (2,), (0, 1, 2, 3), (2, 3), (0, 5)]
    assert all(r.step.reads == r.step.after for r in records)


def test_nodes_may_come_in_any_order_and_are_numbered_so_that_dependencies_come_first() -> None:
    records = Run().dag(node("c", "b"), node("a", id="a"), node("b", "a", id="b")).records
    assert [(r.step.index, r.step.subtask, r.step.after) for r in records] == [
        (0, "a", ()),
        (1, "b", (0,)),
        (2, "c", (1,)),
    ]


def test_the_webarena_form_is_read_whole() -> None:
    run = Run(limits=LIMIT)
    dag = {
        "nodes": [
            {"id": "n1", "task": "search", "description": "look for {task}", "estimated_cost": 300, "difficulty": 0.2},
            {"id": "n2", "task": "compare", "estimated_cost": 100, "priority": 1},
            {"id": "n3", "description": "answer", "estimated_cost": 200, "expected_reward": 1.0, "agent": "a"},
        ],
        "edges": [["n1", "n3"], ["n2", "n3"]],
        "agent_assignments": {"n1": "a", "n2": "b", "n3": "b"},
        "parallel_groups": [["n1", "n2"]],
        "checkpoint_nodes": ["n1"],
        "confidence": 0.9,
        "estimated_total_cost": 600,
        "reasoning": "because",
    }
    result = run.act({"dag": dag})
    assert result.terminated
    assert [(r.step.subtask, r.step.worker_id, r.step.after) for r in result.records] == [
        ("search: look for count to 7", "a", ()),
        ("compare", "b", ()),
        ("answer", "a", (0, 1)),
    ]
    assert [r.step.allowance.tokens for r in result.records] == [2999, 1000, 2000]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "0", "all", "last", "step 0", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "0"]), inner, max_size=3),
    max_leaves=8,
)
keys = ["id", "subtask", "task", "description", "agent", "depends_on", "cost", "estimated_cost", "expects"]
wild_node = st.dictionaries(st.sampled_from(keys), json_values, max_size=9) | json_values
nearly = st.builds(
    lambda n, wild: {**n, **wild}, st.sampled_from(CHAIN), st.dictionaries(st.sampled_from(keys), json_values)
)
parts = ["edges", "agent_assignments", "parallel_groups", "estimated_total_cost", "confidence"]
wild_dag = st.builds(
    lambda nodes, more: {"dag": {"nodes": nodes, **more}},
    st.lists(wild_node | nearly, max_size=12) | json_values,
    st.dictionaries(st.sampled_from(parts), json_values),
)
wild = wild_dag | wild_node | st.builds(lambda n: {"node": n}, nearly) | st.just({"run": True})


@given(st.lists(wild, max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_json_is_an_error_and_every_action_is_run_or_told_to_be_invalid(actions: list[Any]) -> None:
    run = Run(limits=LIMIT)
    for action in actions:
        before = run.episode.state
        result = run.act(json.dumps(action))
        after = run.episode.state
        assert bool(after.notice) + bool(result.records) + (after.draft != before.draft) >= 1
        assert not (after.notice and result.records)
        assert len(run.rules.message(after)) < 1_000_000
        if result.terminated:
            break


def test_a_hostile_plan_gets_a_short_answer() -> None:
    for action in (
        {"dag": [{"id": "x" * 500, "agent": "y" * 500, "depends_on": ["z" * 500] * 50} for _ in range(90)]},
        {"dag": {"nodes": CHAIN, "edges": [[0, 9]] * 9000}},
        {"dag": {"nodes": CHAIN, "parallel_groups": [[0, 1, 2]] * 5000}},
        '{"dag": ' + "[" * 900 + "]" * 900 + "}",
    ):
        assert len(rejected(Run(), action)) < 20_000

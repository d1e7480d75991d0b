"""One edit gives one other program, or a reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from nextstep_envs.programs.edits import Add, Change, Edit, Remove, Rewrite, apply, describe, free_name, read_edit
from nextstep_envs.programs.program import Operator, Program

ANSWER = Operator("answer", "generate", "a")
PLAN = Operator("plan", "custom", "a")
START = Program((ANSWER,))
NEW = {"name": "plan", "kind": "custom", "worker": "a"}


def reads(operator: Operator, *inputs: str) -> Operator:
    return Operator(operator.name, operator.kind, operator.worker, inputs, operator.prompt)


@pytest.mark.parametrize(
    ("edit", "result"),
    [
        (Add(PLAN), Program((ANSWER, PLAN))),
        (Add(PLAN, ("answer",)), Program((PLAN, reads(ANSWER, "task", "plan")))),
        (Remove("answer"), Program(())),
        (Change("answer", worker="b"), Program((Operator("answer", "generate", "b"),))),
        (Change("answer", prompt="do {task}"), Program((Operator("answer", "generate", "a", ("task",), "do {task}"),))),
        (Change("answer", inputs=()), Program((reads(ANSWER),))),
        (Rewrite(Program((PLAN,))), Program((PLAN,))),
        (Remove("x"), "there is no operator 'x'; there are answer"),
        (Change("x", worker="b"), "there is no operator 'x'; there are answer"),
        (Add(PLAN, ("answer", "x")), "there is no operator 'x'; there are answer"),
    ],
)
def test_an_edit_gives_another_program_or_a_reason(edit: Edit, result: Program | str) -> None:
    assert apply(START, edit) == result
    assert START.operators == (ANSWER,)


def test_a_new_operator_comes_before_the_first_of_its_readers() -> None:
    second = Operator("second", "generate", "a")
    found = apply(Program((ANSWER, second)), Add(PLAN, ("second", "answer")))
    assert found == Program((PLAN, reads(ANSWER, "task", "plan"), reads(second, "task", "plan")))
    assert apply(Program((ANSWER, second)), Add(PLAN, ("second",))) == Program(
        (ANSWER, PLAN, reads(second, "task", "plan"))
    )


@pytest.mark.parametrize(
    ("value", "edit"),
    [
        ({"edit": "add", "operator": NEW}, Add(PLAN)),
        ({"edit": "add", "operator": NEW, "readers": ["answer"]}, Add(PLAN, ("answer",))),
        ({"edit": "add", "operator": {"kind": "custom", "worker": "a"}}, Add(Operator("text1", "custom", "a"))),
        ({"edit": "remove", "name": "answer"}, Remove("answer")),
        ({"edit": "set", "name": "answer", "worker": "b"}, Change("answer", worker="b")),
        ({"edit": "set", "name": "answer", "prompt": "", "inputs": ["plan"]}, Change("answer", None, "", ("plan",))),
        (
            {"program": "def workflow(task):\n    answer = generate(task, worker='a')\n    return answer"},
            Rewrite(START),
        ),
        ({"program": {"operators": [{"name": "answer", "kind": "generate", "worker": "a"}]}}, Rewrite(START)),
    ],
)
def test_edits_are_read_from_json(value: Any, edit: Edit) -> None:
    assert read_edit(START, value) == edit


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, '"edit" must be "add", "remove" or "set"'),
        ({"edit": "swap", "name": "answer"}, '"edit" must be'),
        ({"edit": ["add"]}, '"edit" must be'),
        ({"edit": "add"}, "operator must be an object"),
        ({"edit": "add", "operator": {"kind": "think", "worker": "a"}}, 'operator: "name" must be a text'),
        ({"edit": "add", "operator": {"kind": ["custom"], "worker": "a"}}, '"name" must be a text'),
        ({"edit": "add", "operator": NEW, "readers": "answer"}, '"readers" must be a list'),
        ({"edit": "add", "operator": NEW, "before": "answer"}, "unknown 'before'"),
        ({"edit": "remove"}, '"name" must be the name of an operator: answer'),
        ({"edit": "remove", "name": 3}, '"name" must be the name of an operator: answer'),
        ({"edit": "remove", "name": "answer", "worker": "b"}, "unknown 'worker'"),
        ({"edit": "set", "name": "answer"}, 'needs a "worker", a "prompt" or "inputs"'),
        ({"edit": "set", "name": "answer", "worker": 3}, '"worker" must be a text'),
        ({"edit": "set", "name": "answer", "inputs": "task"}, '"inputs" must be a list of names'),
        ({"edit": "set", "name": "answer", "kind": "custom", "worker": "b"}, "unknown 'kind'"),
        ({"program": "import os"}, "line 1: a program is one function"),
        ({"program": 3}, "must be an object or a text"),
        ({"program": {}, "edit": "add"}, "unknown 'edit'"),
    ],
)
def test_what_is_no_edit_says_why(value: Any, reason: str) -> None:
    found = read_edit(START, value)
    assert isinstance(found, str) and reason in found


def test_edits_are_described_on_one_line() -> None:
    assert describe(Add(PLAN, ("answer",))) == "add plan = custom(task) by a, read by answer"
    assert describe(Remove("plan")) == "remove plan"
    assert describe(Change("answer", "b", None, ("plan", "task"))) == "set answer: worker b; inputs plan, task"
    assert describe(Rewrite(START)) == "rewrite the program"


def test_new_names_are_free() -> None:
    assert free_name(START, "generate") == "answer1"
    assert free_name(Program((Operator("answer1", "generate", "a"),)), "revise") == "answer2"
    assert free_name(START, "test") == "verdict1"

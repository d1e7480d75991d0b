"""Programs are typed graphs: everything that is wrong is named, and what is right can run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.programs.compile import compile_program
from nextstep_envs.programs.instructions import GENERAL
from nextstep_envs.programs.kinds import KINDS
from nextstep_envs.programs.program import MAX_PROMPT, Operator, Program, live, problems
from nextstep_envs.programs.serial import from_python, to_python
from tests.envs.programs.strategies import anything, programs


def op(name: str, kind: str, *inputs: str, worker: str = "a", prompt: str = "") -> Operator:
    return Operator(name, kind, worker, inputs, prompt)


def wrong(*operators: Operator, **kwargs: object) -> str:
    return "; ".join(problems(Program(operators), **kwargs))  # type: ignore[arg-type]


ANSWER = op("x", "generate", "task")


def test_everything_wrong_is_listed_at_once() -> None:
    text = wrong(
        op("X", "generate", "task"),
        op("task", "custom", "task"),
        op("y", "think", "task"),
        op("y", "review", "task", "nowhere", "z", worker="q"),
        op("z", "custom"),
        op("w", "custom", "w", "task", "task", prompt="no mark"),
        workers=["a"],
        most=3,
    )
    for part in (
        "6 operators, more than the 3 allowed",
        "'X' is no name",
        "'task' is a reserved name",
        "the name 'y' is used twice",
        "'y' has the worker 'q'; choose one of a",
        "'y' has the kind 'think'; choose one of generate, review",
        "'y' reads 'nowhere', which there is not",
        "'y' reads 'z', which does not come before it",
        "'y' reads 0 of type answer; review reads exactly 1",
        "'z' reads nothing",
        "'w' reads 'w', which does not come before it",
        "'w' reads 'task' twice",
        "'w' has task in its inputs but no {task} in its prompt",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        (op("y", "review", "task"), "reads 0 of type answer"),
        (op("y", "review", "x", "x2"), "reads 2 of type answer; review reads exactly 1"),
        (op("y", "revise", "x"), "reads 0 of type critique/verdict; revise reads at least 1"),
        (op("y", "ensemble", "x"), "reads 1 of type answer; ensemble reads at least 2"),
        (op("y", "test", "x", "c"), "reads 'c', which is of type critique: test(answer, task/text*) -> verdict"),
        (op("y", "format", "x"), "reads 'x', which is of type answer: format(text) -> answer"),
        (op("y", "generate", "x"), "reads 'x', which is of type answer: generate(task/text+) -> answer"),
        (op("y", "custom", "x", prompt="{task}?"), "has {task} in its prompt but no task in its inputs"),
        (op("y", "custom", "x", prompt=" "), "is blank"),
        (op("y", "custom", "x", prompt="x" * (MAX_PROMPT + 1)), f"{MAX_PROMPT} are allowed"),
        (op("for", "custom", "x"), "'for' is no name"),
    ],
)
def test_types_are_checked(operator: Operator, reason: str) -> None:
    known = (ANSWER, op("x2", "generate", "task"), op("c", "review", "x"))
    assert wrong(*known) == ""
    assert reason in wrong(*known, operator)


def test_code_needs_a_world_that_runs_it() -> None:
    assert "this world runs no code" in wrong(op("x", "program", "task"))
    assert wrong(op("x", "program", "task"), runs_code=True) == ""


def test_a_program_without_an_answer_is_no_program() -> None:
    assert "no operator gives an answer" in wrong(op("x", "custom", "task"))
    assert "no operator gives an answer" in wrong()


def test_the_output_is_the_last_answer_and_only_what_it_needs_is_live() -> None:
    plan, draft = op("plan", "custom", "task"), op("draft", "generate", "plan")
    idle, flaws = op("idle", "generate", "task"), op("flaws", "review", "draft")
    program = Program((plan, idle, draft, flaws))
    assert program.output is draft and live(program) == (plan, draft)
    final = op("final", "revise", "draft", "flaws")
    assert live(Program((*program.operators, final))) == (plan, draft, flaws, final)


@given(st.lists(anything, max_size=4).map(tuple))
def test_what_has_no_problems_can_be_compiled_and_written(operators: tuple[Operator, ...]) -> None:
    program = Program(operators)
    if not problems(program, ("a", "b"), runs_code=True):
        assert compile_program(program, "T", GENERAL)
        assert from_python(to_python(program)) == program


@given(programs())
def test_what_is_live_is_itself_a_valid_program(program: Program) -> None:
    kept = Program(live(program))
    assert problems(kept) == () and kept.output == program.output


def test_kinds_show_their_types() -> None:
    assert [kind.signature() for kind in KINDS.values()][:4] == [
        "generate(task/text+) -> answer",
        "review(answer, task/text*) -> critique",
        "revise(answer, critique/verdict+, task/text*) -> answer",
        "ensemble(answer x2+, task/text*) -> answer",
    ]

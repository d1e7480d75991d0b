"""A program becomes the steps that its graph says, with the right words for the world."""

from __future__ import annotations

from hypothesis import given

from nextstep_envs.programs.compile import compile_program
from nextstep_envs.programs.instructions import DIALECTS, GENERAL
from nextstep_envs.programs.kinds import KINDS, TASK
from nextstep_envs.programs.program import Operator, Program, live
from nextstep_envs.types import Step
from nextstep_envs.workers.scripted import understand
from tests.envs.programs.strategies import programs


def test_edges_become_order_and_context() -> None:
    program = Program(
        (
            Operator("plan", "custom", "p", ("task",), "Plan {task}, then {task}"),
            Operator("idle", "custom", "p"),
            Operator("left", "generate", "a", ("plan",)),
            Operator("right", "generate", "b", ("plan", "task")),
            Operator("both", "ensemble", "c", ("right", "plan", "left")),
        )
    )
    assert compile_program(program, "buy {x}", GENERAL) == (
        Step(0, "Plan buy {x}, then buy {x}", "p", (), (), None, "plan"),
        Step(1, "Give the answer that is asked for.", "a", (0,), (0,), None, "left"),
        Step(2, "Give the answer that is asked for: buy {x}", "b", (0,), (0,), None, "right"),
        Step(3, "Compare the given answers and give the one that is best supported.", "c", (0, 1, 2), (0, 1, 2), None,
             "both"),
    )  # fmt: skip


@given(programs())
def test_steps_are_the_live_operators_in_order(program: Program) -> None:
    steps, operators = compile_program(program, "T", GENERAL), live(program)
    assert [step.agent for step in steps] == [operator.name for operator in operators]
    assert steps[-1].agent == program.output.name  # type: ignore[union-attr]
    for i, (step, operator) in enumerate(zip(steps, operators, strict=True)):
        assert step.index == i and step.worker_id == operator.worker and step.after == step.reads
        assert sorted(steps[j].agent for j in step.reads) == sorted(set(operator.inputs) - {TASK})
        assert all(j < i for j in step.reads)
        if not operator.prompt:
            assert step.subtask.endswith(": T") == (TASK in operator.inputs)


def test_every_dialect_has_words_for_every_kind() -> None:
    for dialect in (GENERAL, *DIALECTS.values()):
        assert set(dialect) == set(KINDS)
        for instruction in dialect.values():
            assert instruction.final and not instruction.final.endswith((".", ":"))


def test_in_the_shop_only_the_last_answer_is_bought() -> None:
    shop = DIALECTS["webshop"]
    for kind in ("generate", "revise", "ensemble", "format"):
        final, draft = shop[kind]
        assert understand(f"{final}.") in ("buy", "check"), kind
        assert understand(f"{draft}.") == "open", kind
    wanted = {"custom": "plan", "review": "plan", "test": "test"}
    assert {kind: understand(f"{shop[kind].final}: find me a lamp") for kind in wanted} == wanted

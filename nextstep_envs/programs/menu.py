"""The edits of the vector interface, numbered: every prompt is the usual one, and inputs follow from the kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nextstep_envs.programs.edits import Add, Change, Edit, Remove, free_name
from nextstep_envs.programs.kinds import ANSWER, CRITIQUE, KINDS, TASK, TEXT, Port
from nextstep_envs.programs.program import Operator, Program, gives

BACKGROUNDS = ("task", "texts", "both")  # what an operator goes by: the task, the texts written so far, or both


class Choice(NamedTuple):
    """One entry of the menu.

    Attributes:
        action: "add" (at the end, or before the output if it writes a text for it), "worker" or "inputs" (another one
            or others for a slot), or "remove" (a slot).
        slot: position of the operator that is changed.
        kind, worker, background: what it becomes, where the action sets it.
    """

    action: str
    slot: int = 0
    kind: str = ""
    worker: str = ""
    background: str = ""


def menu(workers: Sequence[str], slots: int) -> tuple[Choice, ...]:
    """Every choice: add kind x worker x background, then for each slot its workers, backgrounds and removal."""
    return (
        *(
            Choice("add", kind=kind, worker=worker, background=background)
            for kind in KINDS
            for worker in workers
            for background in (BACKGROUNDS if _background(kind) else ("",))
        ),
        *(Choice("worker", slot, worker=worker) for slot in range(slots) for worker in workers),
        *(Choice("inputs", slot, background=background) for slot in range(slots) for background in BACKGROUNDS),
        *(Choice("remove", slot) for slot in range(slots)),
    )


def edit_of(program: Program, choice: Choice) -> Edit | str:
    """The edit that a choice stands for in a program, or why there is none."""
    operators = program.operators
    if choice.action == "add":
        return _add(program, choice)
    if choice.slot >= len(operators):
        return f"there is no operator {choice.slot}; there are {len(operators)}"
    operator = operators[choice.slot]
    if choice.action == "remove":
        return Remove(operator.name)
    if choice.action == "worker":
        return Change(operator.name, worker=choice.worker)
    if not _background(operator.kind):
        return f"a {operator.kind} always reads the latest text"
    inputs = wire(operators[: choice.slot], operator.kind, choice.background)
    return inputs if isinstance(inputs, str) else Change(operator.name, inputs=inputs)


def _add(program: Program, choice: Choice) -> Add | str:
    """Add at the end; a text goes before the output, which reads it, since nothing else would."""
    output = program.output
    readers = (output,) if output is not None and KINDS[choice.kind].output == TEXT else ()
    earlier = program.operators[: program.operators.index(readers[0])] if readers else program.operators
    inputs = wire(earlier, choice.kind, choice.background)
    if isinstance(inputs, str):
        return inputs
    operator = Operator(free_name(program, choice.kind), choice.kind, choice.worker, inputs)
    return Add(operator, tuple(reader.name for reader in readers))


def wire(earlier: Sequence[Operator], kind: str, background: str) -> tuple[str, ...] | str:
    """What an operator of some kind reads that comes after some others, or why it cannot come there.

    A single answer is the latest one, several are all; critiques and verdicts are those of that answer; a format
    reads the latest text; texts of the background are all there are.
    """
    of_type = {t: [op.name for op in earlier if gives(op) == t] for t in (TEXT, ANSWER)}
    reads: list[str] = []
    for port in KINDS[kind].ports:
        if port == _background(kind):
            if background != "task" and not of_type[TEXT]:
                return "there is no text to read yet"
            reads += [TASK] if background != "texts" else []
            reads += of_type[TEXT] if background != "task" else []
        elif port.types == (ANSWER,):
            reads += of_type[ANSWER][-1:] if port.most == 1 else of_type[ANSWER]
        elif CRITIQUE in port.types and port.least:
            reads += [
                op.name for op in earlier if gives(op) in port.types and set(of_type[ANSWER][-1:]) & set(op.inputs)
            ]
        elif port.types == (TEXT,):
            reads += of_type[TEXT][-1:]
    return tuple(reads)


def _background(kind: str) -> Port | None:
    """The port of a kind that takes the task and texts, if it has one."""
    return next((port for port in KINDS[kind].ports if port.types == (TASK, TEXT)), None)

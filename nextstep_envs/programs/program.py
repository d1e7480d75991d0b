"""A workflow program: operators in order, each reading the task or what earlier ones gave."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from nextstep_envs.programs.kinds import ANSWER, KINDS, MANY, TASK, Port

TASK_MARK = "{task}"
MAX_OPERATORS = 64  # of any program; an environment sets its own, lower limit
MAX_PROMPT = 4000  # characters
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RESERVED = {TASK, "workflow", *KINDS}


@dataclass(frozen=True, slots=True)
class Operator:
    """One worker's part in a program.

    Attributes:
        name: of what it gives, for the operators that read it.
        kind: one of `KINDS`.
        worker: who does it.
        inputs: what it reads: "task", or names of earlier operators.
        prompt: its instruction, in which `{task}` stands for the task; "" for the kind's usual one.
    """

    name: str
    kind: str
    worker: str
    inputs: tuple[str, ...] = (TASK,)
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """Operators in an order in which each reads only earlier ones, so that there are no cycles."""

    operators: tuple[Operator, ...]

    @property
    def output(self) -> Operator | None:
        """The last operator that gives an answer: the program's answer is its own."""
        return next((op for op in reversed(self.operators) if gives(op) == ANSWER), None)

    def find(self, name: str) -> Operator | None:
        """The operator of that name."""
        return next((op for op in self.operators if op.name == name), None)


def gives(operator: Operator) -> str:
    """The type of what an operator gives; "" if its kind is unknown."""
    kind = KINDS.get(operator.kind)
    return kind.output if kind else ""


def live(program: Program) -> tuple[Operator, ...]:
    """The output and what it needs, in order. The others wait for a reader: they are not run."""
    if program.output is None:
        return ()
    needed = {program.output.name}
    for operator in reversed(program.operators):
        if operator.name in needed:
            needed.update(operator.inputs)
    return tuple(op for op in program.operators if op.name in needed)


def problems(
    program: Program, workers: Collection[str] | None = None, runs_code: bool = False, most: int = MAX_OPERATORS
) -> tuple[str, ...]:
    """Everything that is wrong with a program, in its order; () if it can run.

    Args:
        program: any operators, in any shape.
        workers: who is there; None leaves workers unchecked.
        runs_code: whether the world runs code, which the kind "program" needs.
        most: how many operators it may have.
    """
    return tuple(_problems(program, workers, runs_code, most))


def _problems(program: Program, workers: Collection[str] | None, runs_code: bool, most: int) -> Iterator[str]:
    if len(program.operators) > most:
        yield f"it has {len(program.operators)} operators, more than the {most} allowed"
    types = {TASK: TASK}  # of what can be read so far
    names = {op.name for op in program.operators}
    for operator in program.operators:
        name = operator.name
        if not _NAME.fullmatch(name) or keyword.iskeyword(name):
            yield f"{name!r} is no name: use up to 32 lower-case letters, digits and _, beginning with a letter"
        elif name in _RESERVED:
            yield f"{name!r} is a reserved name"
        elif name in types:
            yield f"the name {name!r} is used twice"
        if workers is not None and operator.worker not in workers:
            yield f"{name!r} has the worker {operator.worker!r}; choose one of {', '.join(workers)}"
        yield from _prompt_problems(operator)
        kind = KINDS.get(operator.kind)
        if kind is None:
            yield f"{name!r} has the kind {operator.kind!r}; choose one of {', '.join(KINDS)}"
        else:
            if kind.needs_code and not runs_code:
                yield f"{name!r} is of kind {kind.name!r}, but this world runs no code"
            yield from _input_problems(operator, kind.ports, types, names)
        types.setdefault(name, gives(operator))
    if program.output is None:
        yield "no operator gives an answer; add a generate"


def _prompt_problems(operator: Operator) -> Iterator[str]:
    if len(operator.prompt) > MAX_PROMPT:
        yield f"the prompt of {operator.name!r} has {len(operator.prompt)} characters; {MAX_PROMPT} are allowed"
    if operator.prompt and not operator.prompt.strip():
        yield f'the prompt of {operator.name!r} is blank; leave it "" for the usual one'
    if operator.prompt and (TASK_MARK in operator.prompt) != (TASK in operator.inputs):
        has, lacks = ("task in its inputs", f"{TASK_MARK} in its prompt")
        if TASK in operator.inputs:
            yield f"{operator.name!r} has {has} but no {lacks}"
        else:
            yield f"{operator.name!r} has {lacks} but no {has}"


def _input_problems(
    operator: Operator, ports: tuple[Port, ...], types: Mapping[str, str], names: Collection[str]
) -> Iterator[str]:
    name, counts = operator.name, dict.fromkeys(ports, 0)
    for i, entry in enumerate(operator.inputs):
        port = next((p for p in ports if types.get(entry) in p.types), None)
        if entry in operator.inputs[:i]:
            yield f"{name!r} reads {entry!r} twice"
        elif entry in types and types[entry] and port is None:
            yield f"{name!r} reads {entry!r}, which is of type {types[entry]}: {KINDS[operator.kind].signature()}"
        elif entry == name or (entry in names and entry not in types):
            yield f"{name!r} reads {entry!r}, which does not come before it"
        elif entry not in types:
            yield f"{name!r} reads {entry!r}, which there is not"
        if port is not None:
            counts[port] += 1
    for port, count in counts.items():
        if not port.least <= count <= port.most:
            wanted = f"at least {port.least}" if port.most == MANY else f"exactly {port.most}"
            yield f"{name!r} reads {count} of type {'/'.join(port.types)}; {operator.kind} reads {wanted}"
    if not operator.inputs and all(port.least == 0 for port in ports):
        yield f"{name!r} reads nothing"

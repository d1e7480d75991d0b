"""One edit of a program, as data and as JSON. Pure: an edit gives another program or a reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.kinds import KINDS
from nextstep_envs.programs.program import Operator, Program
from nextstep_envs.programs.serial import read_operator, read_program


@dataclass(frozen=True, slots=True)
class Add:
    """A new operator: right before the first of its `readers`, which read it from then on, or at the end."""

    operator: Operator
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Takes an operator out; nothing may read it."""

    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """Another worker, prompt or other inputs for an operator; what is None stays."""

    name: str
    worker: str | None = None
    prompt: str | None = None
    inputs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another program altogether."""

    program: Program


Edit = Add | Remove | Change | Rewrite


def apply(program: Program, edit: Edit) -> Program | str:
    """The edited program, which may be invalid (see `problems`), or why the edit means nothing here."""
    if isinstance(edit, Rewrite):
        return edit.program
    names = [op.name for op in program.operators]
    missing = [name for name in _named(edit) if name not in names]
    if missing:
        return f"there is no operator {', '.join(map(repr, missing))}; there are {', '.join(names)}"
    if isinstance(edit, Add):
        return Program(_with(program.operators, edit))
    if isinstance(edit, Remove):
        return Program(tuple(op for op in program.operators if op.name != edit.name))
    given = {"worker": edit.worker, "prompt": edit.prompt, "inputs": edit.inputs}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return Program(tuple(replace(op, **changes) if op.name == edit.name else op for op in program.operators))


def _named(edit: Add | Remove | Change) -> tuple[str, ...]:
    return edit.readers if isinstance(edit, Add) else (edit.name,)


def _with(operators: tuple[Operator, ...], edit: Add) -> tuple[Operator, ...]:
    new, at = edit.operator, len(operators)
    if edit.readers:
        at = min(i for i, op in enumerate(operators) if op.name in edit.readers)
    after = (replace(op, inputs=(*op.inputs, new.name)) if op.name in edit.readers else op for op in operators[at:])
    return (*operators[:at], new, *after)


def describe(edit: Edit) -> str:
    """The edit on one line."""
    if isinstance(edit, Add):
        new, into = edit.operator, f", read by {', '.join(edit.readers)}" if edit.readers else ""
        return f"add {new.name} = {new.kind}({', '.join(new.inputs)}) by {new.worker}{into}"
    if isinstance(edit, Remove):
        return f"remove {edit.name}"
    if isinstance(edit, Rewrite):
        return "rewrite the program"
    changed = {"worker": edit.worker, "prompt": edit.prompt, "inputs": edit.inputs and ", ".join(edit.inputs)}
    return f"set {edit.name}: " + "; ".join(f"{key} {value}" for key, value in changed.items() if value is not None)


def free_name(program: Program, kind: str) -> str:
    """A name for a new operator of a kind: the type of what it gives, and the first number that is free."""
    stem = KINDS[kind].output
    return next(name for i in count(1) if program.find(name := f"{stem}{i}") is None)


def read_edit(program: Program, value: Mapping[str, Any]) -> Edit | str:
    """The edit that a JSON object stands for, or what is wrong with it.

    `{"edit": "add", "operator": {...}, "readers": [...]}` (a name is found where none is given),
    `{"edit": "remove", "name": ...}`, `{"edit": "set", "name": ..., "worker": ..., "prompt": ..., "inputs": [...]}`,
    or `{"program": ...}`: a whole program, as an object or as the text of either form.
    """
    if "program" in value:
        return _rewrite(value)
    what = value.get("edit")
    if what == "add":
        return _add(program, value)
    name = value.get("name")
    if what in ("remove", "set") and not isinstance(name, str):
        return f'"name" must be the name of an operator: {", ".join(op.name for op in program.operators)}'
    if what == "remove":
        return _unknown(value, ("edit", "name")) or Remove(str(name))
    if what == "set":
        return _change(value)
    return '"edit" must be "add", "remove" or "set"'


def _rewrite(value: Mapping[str, Any]) -> Rewrite | str:
    try:
        return _unknown(value, ("program",)) or Rewrite(read_program(value["program"]))
    except ConfigError as error:
        return str(error)


def _add(program: Program, value: Mapping[str, Any]) -> Add | str:
    entry, readers = value.get("operator"), _names(value.get("readers", []))
    if readers is None:
        return '"readers" must be a list of names of operators'
    if isinstance(entry, Mapping) and "name" not in entry and entry.get("kind") in list(KINDS):
        entry = {**entry, "name": free_name(program, entry["kind"])}
    try:
        return _unknown(value, ("edit", "operator", "readers")) or Add(read_operator(entry, "operator"), readers)
    except ConfigError as error:
        return str(error)


def _change(value: Mapping[str, Any]) -> Change | str:
    for key in ("worker", "prompt"):
        if not isinstance(value.get(key, ""), str):
            return f'"{key}" must be a text'
    inputs = _names(value["inputs"]) if "inputs" in value else None
    if "inputs" in value and inputs is None:
        return '"inputs" must be a list of names'
    if not {"worker", "prompt", "inputs"} & set(value):
        return '"set" needs a "worker", a "prompt" or "inputs"'
    return _unknown(value, ("edit", "name", "worker", "prompt", "inputs")) or Change(
        value["name"], value.get("worker"), value.get("prompt"), inputs
    )


def _names(value: Any) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value) else None


def _unknown(value: Mapping[str, Any], known: tuple[str, ...]) -> str:
    extra = [key for key in value if key not in known]
    return f"unknown {', '.join(map(repr, extra))}; known are {', '.join(known)}" if extra else ""

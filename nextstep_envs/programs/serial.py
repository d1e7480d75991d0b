"""Programs as JSON and as readable Python, both ways. Reading parses; it never runs anything."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.kinds import KINDS, TASK
from nextstep_envs.programs.program import Operator, Program, problems

MAX_LENGTH = 100_000  # characters of a text that is read
_FIELDS = ("name", "kind", "worker", "inputs", "prompt")
_FORM = 'name = kind(input, ..., worker="...", prompt="...")'


def to_dict(program: Program) -> dict[str, Any]:
    """The program as plain data."""
    return {
        "operators": [
            {"name": op.name, "kind": op.kind, "worker": op.worker, "inputs": list(op.inputs), "prompt": op.prompt}
            for op in program.operators
        ]
    }


def to_json(program: Program) -> str:
    """The program as JSON on one line."""
    return json.dumps(to_dict(program))


def to_python(program: Program) -> str:
    """A valid program as the text of a Python function, an operator a line."""
    assert program.output is not None  # a valid program has one
    lines = ["def workflow(task):"]
    for op in program.operators:
        prompt = f", prompt={op.prompt!r}" if op.prompt else ""
        lines.append(f"    {op.name} = {op.kind}({', '.join(op.inputs)}, worker={op.worker!r}{prompt})")
    return "\n".join([*lines, f"    return {program.output.name}", ""])


def read_program(value: Any) -> Program:
    """A program from plain data, from JSON or from Python text.

    Raises:
        ConfigError: it is none of these, or no valid program; the message lists everything that is wrong with it.
    """
    if isinstance(value, Program):
        return _checked(value)
    if isinstance(value, Mapping):
        return from_dict(value)
    if not isinstance(value, str):
        raise ConfigError(f"a program must be an object or a text, not {type(value).__name__} {value!r}")
    return from_json(value) if value.lstrip().startswith("{") else from_python(value)


def from_dict(value: Mapping[str, Any]) -> Program:
    """The program that `to_dict` wrote; `ConfigError` as for `read_program`."""
    operators = value.get("operators")
    if set(value) != {"operators"} or not isinstance(operators, list | tuple):
        raise ConfigError('a program must be {"operators": [...]} and nothing else')
    return _checked(Program(tuple(read_operator(entry, f"operator {i}") for i, entry in enumerate(operators))))


def from_json(text: str) -> Program:
    """The program that `to_json` wrote; `ConfigError` as for `read_program`."""
    _check_length(text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the program is not valid JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise ConfigError('a program must be {"operators": [...]} and nothing else')
    return from_dict(value)


def read_operator(entry: Any, where: str) -> Operator:
    """An operator from plain data; `ConfigError` naming `where` and the entry that is wrong."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be an object with {', '.join(_FIELDS)}")
    for key in entry:
        if key not in _FIELDS:
            raise ConfigError(f"{where}: unknown {key!r}; known are {', '.join(_FIELDS)}")
    for key in ("name", "kind", "worker", "prompt"):
        if not isinstance(entry.get(key, "" if key == "prompt" else None), str):
            raise ConfigError(f'{where}: "{key}" must be a text')
    inputs = entry.get("inputs", [TASK])
    if not isinstance(inputs, list | tuple) or not all(isinstance(name, str) for name in inputs):
        raise ConfigError(f'{where}: "inputs" must be a list of names')
    return Operator(entry["name"], entry["kind"], entry["worker"], tuple(inputs), entry.get("prompt", ""))


def from_python(text: str) -> Program:
    """The program that `to_python` wrote. The text is parsed, never run: a line is an operator or an error.

    Raises:
        ConfigError: something else is in it; the message names the line and the construct.
    """
    _check_length(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a doubtful escape in a text is an error, not a message on the screen
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigError(f"{line}the program is not valid Python: {error}") from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        _refuse(tree.body[-1] if tree.body else None, "a program is one function, def workflow(task)")
    function = tree.body[0]
    plain = ast.parse("def workflow(task): pass").body[0]
    assert isinstance(plain, ast.FunctionDef)
    same_head = ast.dump(function.args) == ast.dump(plain.args) and function.name == plain.name
    if not same_head or function.decorator_list or function.returns or getattr(function, "type_params", []):
        _refuse(function, "the function must be def workflow(task)")
    *lines, end = function.body
    program = Program(tuple(map(_operator, lines)))
    if not isinstance(end, ast.Return) or not isinstance(end.value, ast.Name):
        _refuse(end, "the last line must be return name")
    _checked(program)
    output = program.output
    if output is None or end.value.id != output.name:
        _refuse(end, f"what is returned must be the last answer, {output.name if output else 'which there is not'}")
    return program


def _operator(line: ast.stmt) -> Operator:
    if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
        _refuse(line, f"only {_FORM} is allowed")
    call = line.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        _refuse(line.value, f"only {_FORM} is allowed")
    if call.func.id not in KINDS:
        _refuse(call.func, f"{call.func.id} is no operator; known are {', '.join(KINDS)}")
    inputs = tuple(
        node.id if isinstance(node, ast.Name) else _refuse(node, "an input must be a name") for node in call.args
    )
    texts: dict[str, str] = {}
    for argument in call.keywords:
        if argument.arg not in ("worker", "prompt") or argument.arg in texts:
            _refuse(argument.value, f"the arguments are worker and prompt, once each, not {argument.arg or '**'}")
        if not isinstance(argument.value, ast.Constant) or not isinstance(argument.value.value, str):
            _refuse(argument.value, f"{argument.arg} must be a plain text")
        texts[argument.arg] = argument.value.value
    if "worker" not in texts:
        _refuse(call, "worker is missing")
    return Operator(line.targets[0].id, call.func.id, texts["worker"], inputs, texts.get("prompt", ""))


def _refuse(node: ast.AST | None, why: str) -> NoReturn:
    line = getattr(node, "lineno", 1)
    found = f" (found {type(node).__name__})" if node is not None else ""
    raise ConfigError(f"line {line}: {why}{found}")


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"the program has {len(text)} characters; {MAX_LENGTH} are allowed")


def _checked(program: Program) -> Program:
    """The program, unless something is wrong with it that holds in every world and for all workers."""
    wrong = problems(program, runs_code=True)
    if wrong:
        raise ConfigError(f"the program is invalid: {'; '.join(wrong)}")
    return program

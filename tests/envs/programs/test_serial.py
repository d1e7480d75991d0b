"""Programs survive writing and reading exactly; reading runs nothing and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.program import Operator, Program
from nextstep_envs.programs.serial import from_dict, from_json, from_python, read_program, to_dict, to_json, to_python
from tests.envs.programs.strategies import programs

READABLE = """\
def workflow(task):
    plan = custom(task, worker='planning', prompt='List what {task} asks for.')
    answer = generate(plan, worker='tool_use')
    return answer
"""
PROGRAM = Program(
    (
        Operator("plan", "custom", "planning", ("task",), "List what {task} asks for."),
        Operator("answer", "generate", "tool_use", ("plan",)),
    )
)


@given(programs())
def test_every_form_gives_the_same_program_back(program: Program) -> None:
    assert from_json(to_json(program)) == program
    assert from_python(to_python(program)) == program
    assert from_dict(json.loads(json.dumps(to_dict(program)))) == program
    assert read_program(to_json(program)) == read_program(to_python(program)) == read_program(program) == program


def test_python_is_readable() -> None:
    assert to_python(PROGRAM) == READABLE
    assert from_python(
        '# a plan first\ndef workflow(task):\n  a = generate(task, worker="w",)  # buys\n  return a'
    ) == Program((Operator("a", "generate", "w"),))


def body(*lines: str) -> str:
    return "def workflow(task):\n" + "".join(f"    {line}\n" for line in lines)


LINE = "a = generate(task, worker='w')"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (body("import os", LINE, "return a"), r"line 2: only name = kind.* \(found Import\)"),
        (body("open(task)", LINE, "return a"), r"line 2: .*\(found Expr\)"),
        (body(LINE, "b = eval(task, worker='w')", "return a"), "line 3: eval is no operator"),
        (body("a = os.system(task, worker='w')", "return a"), r"line 2: only name = kind.*\(found Call\)"),
        (body("a = generate(open('/'), worker='w')", "return a"), r"line 2: an input must be a name \(found Call\)"),
        (body("a = generate(*task, worker='w')", "return a"), r"an input must be a name \(found Starred\)"),
        (body("a = generate(task, **{'worker': 'w'})", "return a"), r"worker and prompt, once each, not \*\*"),
        (body("a = generate(task, worker=f'{task}')", "return a"), r"worker must be a plain text \(found JoinedStr\)"),
        (body("a = generate(task, worker='w' + 'x')", "return a"), r"worker must be a plain text \(found BinOp\)"),
        (body("a = generate(task, worker=b'w')", "return a"), r"worker must be a plain text"),
        (body("a = generate(task)", "return a"), "worker is missing"),
        (body("a = generate(task, worker='w', temperature='1')", "return a"), "not temperature"),
        (body("a = b = generate(task, worker='w')", "return a"), r"\(found Assign\)"),
        (body("a: str = generate(task, worker='w')", "return a"), r"\(found AnnAssign\)"),
        (body("a = lambda: 1", "return a"), r"\(found Lambda\)"),
        (body("while True: pass", LINE, "return a"), r"\(found While\)"),
        (body("a = generate(task, worker='w') if task else 1", "return a"), r"\(found IfExp\)"),
        (body(LINE), r"line 2: the last line must be return name \(found Assign\)"),
        (body(LINE, "return generate(a, worker='w')"), "the last line must be return name"),
        (body(LINE, "return task"), "what is returned must be the last answer, a"),
        (body(LINE, "b = generate(task, worker='w')", "return a"), "the last answer, b"),
        (body("a = review(task, worker='w')", "return a"), "invalid: 'a' reads 0 of type answer"),
        (body(LINE, LINE, "return a"), "the name 'a' is used twice"),
        ("def workflow(task, x=open('/')):\n    return task", "the function must be def workflow"),
        ("def other(task):\n    return task", "the function must be def workflow"),
        ("@print\n" + body(LINE, "return a"), "the function must be def workflow"),
        ("async " + body(LINE, "return a"), "a program is one function"),
        (body(LINE, "return a") + "print(1)\n", r"line 4: a program is one function.*\(found Expr\)"),
        ("", "a program is one function"),
        ("def workflow(task):\n    a = (", "line 2: the program is not valid Python"),
        (body("a = generate(task, worker='\\d')", "return a"), "line 2: the program is not valid Python"),
        ("\0", "not valid Python"),
        ("\ud800", "not valid Python"),
        ("-" * 90_000 + "1", "the program"),
        ("x = " + "(" * 5_000, "not valid Python"),
        ("#" * 100_001, "100001 characters"),
    ],
)  # fmt: skip
def test_other_python_is_refused_by_line_and_construct(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        from_python(text)


def test_reading_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    write = f"__import__('pathlib').Path({str(trap)!r}).write_text('x')"
    for text in (
        write,
        f"def workflow(task, x={write}):\n    return task",
        body(f"a = generate(task, worker={write})", "return a"),
        body(f"a = generate({write}, worker='w')", "return a"),
        body(LINE, f"return {write}"),
        f"@{write}\n" + body(LINE, "return a"),
        json.dumps({"operators": [{"name": "a", "kind": write, "worker": write}]}),
        json.dumps({"operators": write}),
    ):
        with pytest.raises(ConfigError):
            read_program(text)
    kept = from_python(body(f"a = generate(task, worker={write!r}, prompt={write + '{task}'!r})", "return a"))
    assert kept.operators[0].worker == write  # a text stays a text
    assert not trap.exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "a program must be"),
        ({"operators": [], "more": 1}, "and nothing else"),
        ({"operators": []}, "no operator gives an answer"),
        ({"operators": [1]}, "operator 0 must be an object"),
        ({"operators": [{"name": "a", "kind": "generate"}]}, 'operator 0: "worker" must be a text'),
        ({"operators": [{"name": "a", "kind": "generate", "worker": 1}]}, '"worker" must be a text'),
        ({"operators": [{"name": "a", "kind": "generate", "worker": "w", "inputs": "task"}]}, "a list of names"),
        ({"operators": [{"name": "a", "kind": "generate", "worker": "w", "role": "x"}]}, "unknown 'role'"),
        ([], "must be an object or a text, not list"),
        (None, "must be an object or a text, not NoneType"),
        ("{", "not valid JSON"),
        ('{"operators": ' + "[" * 90_000, "not valid JSON"),
    ],
)  # fmt: skip
def test_other_data_is_refused_by_entry(value: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_program(value)


@given(st.one_of(st.text(), st.text().map(lambda text: body(LINE, text, "return a")), st.from_regex(r"[{\[].*")))
def test_any_text_is_a_program_or_a_typed_error(text: str) -> None:
    try:
        program = read_program(text)
    except ConfigError:
        return
    assert from_python(to_python(program)) == program

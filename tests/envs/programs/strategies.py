"""Programs to test with: any valid one, and operators that may be anything."""

from __future__ import annotations

import keyword

from hypothesis import assume
from hypothesis import strategies as st

from nextstep_envs.programs.kinds import KINDS, TASK
from nextstep_envs.programs.program import TASK_MARK, Operator, Program, gives, problems

WORKERS = ("a", "b")
names = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True).filter(
    lambda name: name not in {TASK, "workflow", *KINDS} and not keyword.iskeyword(name)
)
texts = st.text(st.characters(), min_size=1, max_size=60)  # quotes, line ends, surrogates and all
anything = st.builds(
    Operator,
    name=st.one_of(st.sampled_from(["x", "y", "task", "if", "X", ""]), st.text(max_size=5)),
    kind=st.one_of(st.sampled_from(sorted(KINDS)), st.just("think")),
    worker=st.sampled_from(["a", "b", "c"]),
    inputs=st.lists(st.sampled_from(["task", "x", "y", "z"]), max_size=4).map(tuple),
    prompt=st.sampled_from(["", "do it", "do {task}", "  "]),
)


@st.composite
def programs(draw: st.DrawFn, most: int = 7) -> Program:
    """A valid program, of kinds that run in any world, with prompts of all sorts."""
    operators: list[Operator] = []
    for name in draw(st.lists(names, min_size=1, max_size=most, unique=True)):
        kind = draw(st.sampled_from(sorted(KINDS)))
        inputs: list[str] = []
        for port in KINDS[kind].ports:
            there = [op.name for op in operators if gives(op) in port.types] + [TASK] * (TASK in port.types)
            if len(there) < port.least:
                kind = ""
                break
            inputs += draw(
                st.lists(st.sampled_from(there), min_size=port.least, max_size=min(port.most, len(there)), unique=True)
                if there
                else st.just([])
            )
        if not kind or not inputs or KINDS[kind].needs_code:
            continue
        prompt = draw(st.one_of(st.just(""), texts.filter(str.strip)))
        if prompt:
            prompt = prompt.replace(TASK_MARK, "") + (TASK_MARK if TASK in inputs else "")
        if not prompt.strip():
            prompt = ""
        operators.append(
            Operator(name, kind, draw(st.sampled_from(WORKERS)), tuple(draw(st.permutations(inputs))), prompt)
        )
    program = Program(tuple(operators))
    assume(program.output is not None)
    assert problems(program, WORKERS) == ()
    return program

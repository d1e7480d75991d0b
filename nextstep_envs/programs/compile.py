"""From a program and a task to the steps that workers take."""

from __future__ import annotations

from nextstep_envs.programs.instructions import Dialect, instruction
from nextstep_envs.programs.kinds import TASK
from nextstep_envs.programs.program import TASK_MARK, Program, live
from nextstep_envs.types import Step


def compile_program(program: Program, prompt: str, dialect: Dialect) -> tuple[Step, ...]:
    """The steps of a valid program on one task, the output's last.

    An operator's step comes after those of the operators it reads, and sees their outputs; it acts on a fork of the
    world as the last of them left it. Operators that the output does not need become no step. A step's `agent` is
    the name of its operator.

    Args:
        program: valid: `problems(program) == ()`.
        prompt: of the task.
        dialect: the usual instructions of the world.
    """
    operators = live(program)
    index = {operator.name: i for i, operator in enumerate(operators)}
    steps = []
    for i, operator in enumerate(operators):
        reads = tuple(sorted(index[name] for name in operator.inputs if name != TASK))
        subtask = instruction(operator, operator is program.output, dialect).replace(TASK_MARK, prompt)
        steps.append(Step(i, subtask, operator.worker, reads, reads, agent=operator.name))
    return tuple(steps)

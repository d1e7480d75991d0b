"""The usual instruction of each kind of operator, world by world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nextstep_envs.programs.kinds import TASK
from nextstep_envs.programs.program import TASK_MARK, Operator


class Instruction(NamedTuple):
    """What a worker is told; the task follows it after a colon if the operator reads the task.

    Attributes:
        final: where its answer is the program's answer. A world may need it handed in: a shop wants it bought.
        draft: where others work on with what it gives; by default the same.
    """

    final: str
    draft: str = ""


Dialect = Mapping[str, Instruction]

GENERAL: Dialect = {
    "generate": Instruction("Give the answer that is asked for"),
    "review": Instruction("Review the given answer and say what is wrong with it"),
    "revise": Instruction("Correct the given answer where it was found to be wrong"),
    "ensemble": Instruction("Compare the given answers and give the one that is best supported"),
    "test": Instruction("Test the given answer and say whether it passes"),
    "program": Instruction("Write a program that computes the answer, run it and give its result"),
    "custom": Instruction("List the requirements"),
    "format": Instruction("Give the answer that is in the given text, and nothing else"),
}

_WEBSHOP: Dialect = {
    **GENERAL,
    "generate": Instruction(
        "Shop for and buy the product that is asked for", "Search and open the product that is asked for"
    ),
    "review": Instruction("List the requirements that the open product has to meet"),
    "revise": Instruction(
        "Check the open product against the requirements, repair what is wrong and buy",
        "Search and open a product without the faults that were found",
    ),
    "ensemble": Instruction(
        "Check which of the given products fits best and buy it", "Search and open the given product that fits best"
    ),
    "test": Instruction("Test the open product and say what it lacks"),
    "format": Instruction(
        "Buy the product that the given text describes", "Search and open the product that the given text describes"
    ),
}

DIALECTS: Mapping[str, Dialect] = {"webshop": _WEBSHOP}  # by name of the world; GENERAL in all others


def instruction(operator: Operator, final: bool, dialect: Dialect) -> str:
    """The instruction of an operator, `{task}` not yet replaced."""
    if operator.prompt:
        return operator.prompt
    usual = dialect[operator.kind]
    text = usual.final if final or not usual.draft else usual.draft
    return f"{text}: {TASK_MARK}" if TASK in operator.inputs else f"{text}."

"""The instructions that the vector interface can give a worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """One instruction.

    Attributes:
        name: what it is called.
        text: `{task}` stands for the task's prompt; without it, a worker knows only its context.
        expects: texts that the world should show when it has been followed.
    """

    name: str
    text: str
    expects: tuple[str, ...] = ()


_BOUGHT = ("Thank you for shopping",)

TEMPLATES: tuple[Template, ...] = (
    Template("plan", "List the requirements of this request: {task}"),
    Template("shop", "Shop for and buy: {task}", _BOUGHT),
    Template("carry", "Buy the product that the given requirements describe.", _BOUGHT),
    Template("open", "Search and open the product that the given requirements describe.", ("Buy Now",)),
    Template("check", "Check the open product against the given requirements, repair what is wrong and buy.", _BOUGHT),
)

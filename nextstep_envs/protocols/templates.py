"""The instructions that the vector interface can give a worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """One instruction. `{task}` in `text` stands for the task's prompt; without it, a worker knows only its context."""

    name: str
    text: str


TEMPLATES: tuple[Template, ...] = (
    Template("plan", "List the requirements of this request: {task}"),
    Template("shop", "Shop for and buy: {task}"),
    Template("carry", "Buy the product that the given requirements describe."),
    Template("open", "Search and open the product that the given requirements describe."),
    Template("check", "Check the open product against the given requirements, repair what is wrong and buy."),
)

"""A product as the shop knows it, after loading."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """One loaded product.

    Attributes:
        asin: at most 10 characters.
        title, description: text, possibly "".
        bullets: feature lines.
        category: one of five broad ones; `product_category`: levels joined by " › ".
        query: lower-cased search phrase of the scrape.
        prices: one or two numbers; [100.0] where the data has none.
        price_tag: as shown on pages.
        options: (name, values) in file order, names and values lower-cased; repeats kept.
        attributes: from the instruction file; ("DUMMY_ATTR",) where it has no entry.
        instruction, instruction_attributes: the synthetic instruction, "" and () where there is none.
        nouns: lower-cased NOUN/PROPN tokens of the title, in order, repeats kept; None where unknown.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    category: str
    product_category: str
    query: str
    prices: tuple[float, ...]
    price_tag: str
    options: tuple[tuple[str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]
    instruction: str = ""
    instruction_attributes: tuple[str, ...] = ()
    nouns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What the shopper wants: the answer to a task, never shown to an agent.

    Attributes:
        asin: the product the instruction was written for.
        instruction: the task text, options and price included.
        attributes: goal attributes.
        options: (name, value) pairs for synthetic goals, plain values for human goals.
        price_upper: 1000000 where there is no limit.
        weight: relative chance to be drawn.
        query, product_category, title, nouns: of the goal product.
    """

    asin: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...] | tuple[str, ...]
    price_upper: float
    weight: float
    query: str
    product_category: str
    title: str
    nouns: tuple[str, ...]

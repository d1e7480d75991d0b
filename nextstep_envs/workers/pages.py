"""Reads WebShop pages in their text_rich form, as a worker sees them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple


class Row(NamedTuple):
    """One product on a results page. `title` is lower-cased; `price` is the lowest shown."""

    asin: str
    title: str
    price: float


class Item(NamedTuple):
    """An item page: lower-cased title, lowest price, the options' values, and those already chosen."""

    title: str
    price: float
    values: frozenset[str]
    chosen: frozenset[str]


_ROW = re.compile(r"\[(?:clicked )?button\] (\S{1,10}) \[(?:clicked )?button_\]\n((?:(?!\[)[^\n]*\n)*)")
_VALUE = re.compile(r"^  \[(clicked )?button\] (.*) \[(?:clicked )?button_\]$", re.MULTILINE)
_AMOUNT = re.compile(r"\$(\d+(?:\.\d+)?)")
_CHOSEN = re.compile(r"^You have clicked (.*)\.$", re.MULTILINE)
_TOTAL = "(Total results: "


def is_item(page: str) -> bool:
    """Whether a page shows one product and its Buy Now button."""
    return "[button] Buy Now [button_]" in page


@lru_cache(maxsize=4096)
def rows(page: str) -> tuple[Row, ...]:
    """The products of a results page, in rank order."""
    _, _, listing = page.partition(_TOTAL)
    found = []
    for asin, body in _ROW.findall(listing):
        lines = [line for line in body.split("\n") if line.strip()]
        price = lines.pop() if lines and lines[-1].startswith("$") else ""
        found.append(Row(asin.lower(), " ".join(lines).lower(), _price(price)))
    return tuple(found)


@lru_cache(maxsize=4096)
def item(page: str) -> Item:
    """What an item page says."""
    before, _, after = page.partition("\nPrice: ")
    values = _VALUE.findall(before)
    chosen = {value.lower() for clicked, value in values if clicked} | {v.lower() for v in _CHOSEN.findall(before)}
    title = before.rpartition("\n")[2].lower()
    price = _price(after.partition("\n")[0])
    return Item(title, price, frozenset(value.lower() for _, value in values), frozenset(chosen))


@lru_cache(maxsize=4096)
def body(page: str) -> str:
    """The lower-cased text of a Description or Features page."""
    return page.rpartition("[button_]")[2].lower()


def _price(text: str) -> float:
    amount = _AMOUNT.search(text)
    return float(amount[1]) if amount else 0.0

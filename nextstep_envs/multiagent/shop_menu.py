"""WebShop for a pipeline: kinds of calls, a menu of concrete ones in fixed slots, and what can be said of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from nextstep_envs.multiagent.workflows import Role
from nextstep_envs.workers.requirements import Requirements, parse_list, parse_request, translate
from nextstep_envs.worlds.webshop.session import BACK, BUY, ITEM_BUTTONS, NEXT, PREV, SEARCH, Session, parse_action
from nextstep_envs.worlds.webshop.world import WebShopWorld

KINDS = {  # each with how it is written
    "search": "search[words]",
    "browse": f"click[{BACK}], click[{PREV}] or click[{NEXT}]",
    "open": "click[product number]",
    "read": "click[description], click[features] or click[reviews]",
    "option": "click[option value]",
    "buy": f"click[{BUY}]",
}
PAGES = ("search", "results", "item", "tab", "done")
SEARCHES = ("whole", "named", "translated", "translated_with_options")
PRODUCTS, OPTIONS = 10, 20
_BROWSE, _READ = (BACK, PREV, NEXT), ("description", "features", "reviews")

SHOP_ROLES = (
    Role(
        "searcher_0",
        "You search the shop. Find a results page that shows products like the one the task asks for, then hand over "
        "with a note on what you searched for and what was found.",
        turns=3,
        calls=("search", "browse"),
    ),
    Role(
        "chooser_0",
        "You choose the product. Open products of the results page, read about them, and leave the one open that "
        "fits the task best; then hand over with a note on what fits and what does not.",
        turns=6,
        calls=("open", "read", "browse"),
        sees=("searcher_0",),
    ),
    Role(
        "buyer_0",
        "You buy the open product. Set the options that the task asks for, then buy it.",
        turns=4,
        calls=("option", "buy"),
        sees=("chooser_0",),
    ),
)


class Slot(NamedTuple):
    """One entry of the menu.

    Attributes:
        call: what it stands for.
        match: the share of its words (a title's, a value's) that are asked for.
        dear: whether it shows a price above the limit that is asked for.
        done: whether it was opened or chosen before.
    """

    call: str
    match: float = 0.0
    dear: bool = False
    done: bool = False


class ShopMenu:
    """The calls of a shop as slots: searches, browsing, products, sub pages, options, buying.

    Searches are derived from the texts that an agent may see, and from nothing else: "whole" is the request as it is,
    "named" the product and features in the request's words, "translated" in the shop's words for them where the
    generated catalogue's vocabulary has them, and then with the option values.

    Args:
        world: the shop.

    Attributes:
        kinds: the kinds of calls, each with how it is written.
        pages: the kinds of pages.
        roles: the built-in pipeline.
        slot_names: one for each slot.
        slot_kinds: the kind of call in each slot.
    """

    kinds = KINDS
    pages = PAGES
    roles = SHOP_ROLES
    slot_names = (
        *(f"search.{name}" for name in SEARCHES),
        *(f"browse.{name}" for name in ("back", "prev", "next")),
        *(f"open[{i}]" for i in range(PRODUCTS)),
        *(f"read.{name}" for name in _READ),
        *(f"option[{i}]" for i in range(OPTIONS)),
        "buy",
    )
    slot_kinds = tuple(re.split(r"[.\[]", name)[0] for name in slot_names)

    def __init__(self, world: WebShopWorld) -> None:
        self.world = world

    def slots(self, state: Session, texts: tuple[str, ...]) -> list[Slot | None]:
        """The menu on the open page for somebody who sees `texts`; None where a slot is empty."""
        labels = self.world.available(state)["clickables"]
        values = [v for v in labels if v not in (*ITEM_BUTTONS, SEARCH)] if state.page == "item" else []
        buttons = [label for label in labels if label not in values]
        shown = state.shown if state.page == "results" else ()
        chosen = {value for _, value in state.options}
        asked = _asked(texts)
        slots: list[Slot | None] = [Slot(f"search[{words}]") if words else None for words in asked.searches]
        slots += [Slot(f"click[{label}]") if label in buttons else None for label in _BROWSE]
        slots += _filled([self._product(asin, asked, state) for asin in shown], PRODUCTS)
        slots += [Slot(f"click[{label}]") if label in buttons else None for label in _READ]
        slots += _filled([Slot(f"click[{v}]", asked.share(v), done=v in chosen) for v in values], OPTIONS)
        return [*slots, self._buy(state, asked) if BUY in buttons else None]

    def kind(self, state: Session, call: str) -> str:
        """The kind of a call if it does something on the open page, else ""."""
        name, argument = parse_action(call)
        if name == "search":
            return "search"
        if name != "click" or argument not in self.world.available(state)["clickables"] or argument == SEARCH:
            return ""
        if state.page == "item" and argument not in ITEM_BUTTONS:
            return "option"
        if argument in _BROWSE:
            return "browse"
        if argument in _READ:
            return "read"
        return "buy" if argument == BUY else "open"

    def report(self, state: Session) -> str:
        """What can be said of the open page, for a hand-over without words of its own."""
        if state.page in ("item", "tab", "done"):
            product = self.world.shop.products[state.asin]
            chosen = ", ".join(f"{name}: {value}" for name, value in state.options) or "none"
            verb = "Bought" if state.page == "done" else "Open"
            return f"{verb}: {product.title}, {product.price_tag}. Options chosen: {chosen}."
        if state.page == "results":
            shown, products = state.shown, self.world.shop.products
            titles = "; ".join(products[asin].title for asin in shown[:3]) or "nothing"
            return f"Results page {state.number} shows {len(shown)} products, first: {titles}."
        return "The search page is open; nothing was found yet."

    def page(self, state: Session) -> str:
        """The kind of the open page."""
        return state.page

    def _product(self, asin: str, asked: _Asked, state: Session) -> Slot:
        product = self.world.shop.products[asin]
        dear = _lowest(product.price_tag) > asked.limit
        return Slot(f"click[{asin.lower()}]", asked.share(product.title), dear, asin in state.visited)

    def _buy(self, state: Session, asked: _Asked) -> Slot:
        product = self.world.shop.products[state.asin]
        return Slot(f"click[{BUY}]", asked.share(product.title), _lowest(product.price_tag) > asked.limit)


class _Asked(NamedTuple):
    """What some texts ask for: searches for it (as in `SEARCHES`, "" where there is none), its words, a price limit."""

    searches: tuple[str, ...]
    words: frozenset[str]
    limit: float

    def share(self, text: str) -> float:
        """The share of a text's words that are asked for."""
        words = _words(text)
        return len(words & self.words) / len(words) if words else 0.0


@lru_cache(maxsize=4096)
def _asked(texts: tuple[str, ...]) -> _Asked:
    """What texts ask for: the first of them that is a request or a list of requirements says it, all lend words."""
    words = frozenset().union(*map(_words, texts))
    for text in texts:
        if wanted := parse_list(text) or parse_request(text):
            break
    else:
        return _Asked(("",) * len(SEARCHES), words, float("inf"))
    known = translate(wanted, lambda word: True)
    searches = (
        text,
        " ".join([wanted.product.lay, *(term.lay for term in wanted.features)]),
        " ".join(_named(known)),
        " ".join([*_named(known), *(value for _, value in wanted.options)]),
    )
    limit = float("inf") if wanted.price is None else wanted.price
    # A call ends at its bracket and with its line; "<" begins the shop's special searches.
    clean = tuple(" ".join(re.sub(r"[\[\]<>]", " ", search).split()) for search in searches)
    return _Asked(clean, words | _words(" ".join(_named(known))), limit)


def _named(wanted: Requirements) -> list[str]:
    return [wanted.product.best, *(term.best for term in wanted.features)]


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


@lru_cache(maxsize=1 << 12)
def _lowest(price_tag: str) -> float:
    amount = re.search(r"\d+(?:\.\d+)?", price_tag)
    return float(amount[0]) if amount else 0.0


def _filled(slots: Sequence[Slot], size: int) -> list[Slot | None]:
    """Exactly `size` slots: what is too many is left out, what is missing stays empty."""
    return [*slots[:size], *[None] * (size - len(slots))]

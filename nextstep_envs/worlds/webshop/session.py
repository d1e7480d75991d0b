"""One shopping session: its frozen state and the pure transition that every action makes.

The dispatch is that of the reference environment, quirks included, except that a session ends with its purchase.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from nextstep_envs.seeding import stream
from nextstep_envs.worlds.webshop.products import Product
from nextstep_envs.worlds.webshop.shop import Shop

PAGE_SIZE = 10
BASE_URL = "http://127.0.0.1:3000"

SEARCH, BACK, PREV, NEXT, BUY = "search", "back to search", "< prev", "next >", "buy now"
TABS: Mapping[str, str] = {name.lower(): name for name in ("Description", "Features", "Reviews", "Attributes")}
ITEM_BUTTONS = (BACK, PREV, "description", "features", "reviews", BUY)
TAB_BUTTONS = (BACK, PREV)

Page = Literal["search", "results", "item", "tab", "done"]


class Session(NamedTuple):
    """Where a shopper stands.

    Attributes:
        task_id: what the shopper was asked for.
        page: the kind of the open page.
        keywords: of the last search, joined by "+" as in the page's address; "" before the first.
        number: the results page, from 1; quirks of the reference can lead below.
        results: ASINs that the last search found, in rank order.
        asin: the open (at last, the bought) product; "" where none is.
        options: chosen (name, value) pairs in the order in which the names were first clicked.
        visited: ASINs opened since the last Back to Search.
        tab: which sub page of the product is open: a value of `TABS`.
    """

    task_id: str
    page: Page = "search"
    keywords: str = ""
    number: int = 1
    results: tuple[str, ...] = ()
    asin: str = ""
    options: tuple[tuple[str, str], ...] = ()
    visited: frozenset[str] = frozenset()
    tab: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """ASINs on the open results page. Below page 1 this is the reference's slice, negative bounds and all."""
        return self.results[(self.number - 1) * PAGE_SIZE : self.number * PAGE_SIZE]


def step(shop: Shop, state: Session, action: str) -> Session:
    """The session after one action; what is no action here changes nothing.

    Actions are `search[words]`, on any page, and `click[label]`, where label is a clickable of the open page in upper
    or lower case. Nothing changes a session in which something was bought.
    """
    if state.page == "done":
        return state
    name, argument = parse_action(action)
    if name == "search":
        return _search(shop, state, argument)
    return _click(shop, state, argument) if name == "click" else state


def parse_action(action: str) -> tuple[str, str]:
    """Name and lower-cased argument of "name[argument]"; ("", "") where the text has not that form.

    In the first line, the last "]" ends the argument and the last "[" that leaves it non-empty begins it: what the
    reference's greedy pattern finds, in linear time. What follows is ignored.
    """
    line = action.partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, max(end - 1, 0))
    return (line[:start], line[start + 1 : end].lower()) if start > 0 else ("", "")


def option_of(product: Product, value: str) -> str | None:
    """The option that a click on `value` sets: of several names with that value the last on the page."""
    return next((name for name, values in reversed(product.options) if value in values), None)


def address(state: Session) -> str:
    """The url of the open page; nothing in it is percent-encoded."""
    task_id, page, keywords, number, _, asin, options, _, tab = state
    if page == "search":
        return f"{BASE_URL}/{task_id}"
    if page == "results":
        return f"{BASE_URL}/search_results/{task_id}/{keywords}/{number}"
    if page == "item":
        return f"{BASE_URL}/item_page/{task_id}/{asin}/{keywords}/{number}/{json.dumps(dict(options))}"
    if page == "tab":
        return f"{BASE_URL}/item_sub_page/{task_id}/{asin}/{keywords}/{number}/{tab}/{dict(options)}"
    return f"{BASE_URL}/done/{task_id}/{asin}/{dict(options)}"


def _search(shop: Shop, state: Session, query: str) -> Session:
    task_id = state.task_id
    # Random results are unseeded in the reference; here a task repeats those of a query.
    rng = stream(0, "random results", task_id, query) if query.startswith("<r>") else None
    return Session(task_id, "results", query.replace(" ", "+"), 1, shop.ranked(query, rng), visited=state.visited)


def _click(shop: Shop, state: Session, label: str) -> Session:
    task_id, page, keywords, number, results, asin, options, visited, _ = state
    option = None
    if page == "item":
        option = option_of(shop.products[asin], label)
        legal = (option is not None or label in ITEM_BUTTONS) and label != SEARCH
    elif page == "results":
        link = next((asin for asin in state.shown if asin.lower() == label), None)
        asin = link or ""
        legal = link is not None or label in (BACK, NEXT) or (label == PREV and number > 1)
    else:
        legal = page == "tab" and label in TAB_BUTTONS
    if not legal:
        return state
    # From here on the label decides, even where it is an option's value, and not what was clicked.
    if label == BUY:
        return Session(task_id, "done", keywords, number, results, asin, options, visited)
    if label == BACK:
        return Session(task_id)
    if label in (PREV, NEXT):
        left = _page_kind(state)
        if left == "search_results":
            number += 1 if label == NEXT else -1
            return Session(task_id, "results", keywords, number, results, visited=visited)
        if left == "item_page" and label == PREV:
            return Session(task_id, "results", keywords, number, results, visited=visited)
    if label in TABS:
        return Session(task_id, "tab", keywords, number, results, asin, options, visited, TABS[label])
    if page == "results":
        visited |= {asin}
    elif option is not None:
        options = tuple({**dict(options), option: label}.items())
    return Session(task_id, "item", keywords, number, results, asin, options, visited)


def _page_kind(state: Session) -> str:
    """The kind of page that Prev and Next take the open one for: the first name found anywhere in its url."""
    url = address(state)
    return next(kind for kind in ("search_results", "item_page", "item_sub_page") if kind in url)

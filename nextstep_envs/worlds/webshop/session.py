"""One shopping session: a frozen state, and what each action does to it.

The dispatch follows the reference environment (princeton-nlp/WebShop, commit 64fa2a5), quirks included, except that a
session ends with its purchase.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

from nextstep_envs.seeding import stream
from nextstep_envs.worlds.webshop.shop import Shop

PAGE_SIZE = 10
TABS = {"description": "Description", "features": "Features", "reviews": "Reviews"}
Page = Literal["search", "results", "item", "tab", "done"]

_ACTION = re.compile(r"(.+)\[(.+)\]")


class Session(NamedTuple):
    """Where a shopper is.

    Attributes:
        task_id: whose instruction heads the pages.
        seed: for the `<r>` search, which shows random products.
        page: which page is open.
        keywords: words of the last search; number: page of its results, from 1.
        asin: the open product; options: chosen (name, value) pairs in order of first click.
        visited: products opened since the last "Back to Search".
        tab: the open sub page of the product.
    """

    task_id: str
    seed: int = 0
    page: Page = "search"
    keywords: tuple[str, ...] = ()
    number: int = 1
    asin: str = ""
    options: tuple[tuple[str, str], ...] = ()
    visited: frozenset[str] = frozenset()
    tab: str = ""


def results(shop: Shop, session: Session) -> tuple[str, ...]:
    """ASINs that the session's search finds, in rank order."""
    query = " ".join(session.keywords)
    return shop.ranked(query, stream(session.seed, "random results") if query.startswith("<r>") else None)


def shown(shop: Shop, session: Session) -> tuple[str, ...]:
    """ASINs on the open results page."""
    start = (session.number - 1) * PAGE_SIZE
    return results(shop, session)[start : start + PAGE_SIZE] if start >= 0 else ()


def url(session: Session) -> str:
    """The address of the open page, as the reference's server writes it."""
    keywords, options = "+".join(session.keywords), dict(session.options)
    base = "http://127.0.0.1:3000/"
    if session.page == "search":
        return f"{base}{session.task_id}"
    if session.page == "results":
        return f"{base}search_results/{session.task_id}/{keywords}/{session.number}"
    where = f"{session.task_id}/{session.asin}"
    if session.page == "item":
        return f"{base}item_page/{where}/{keywords}/{session.number}/{json.dumps(options)}"
    if session.page == "tab":
        return f"{base}item_sub_page/{where}/{keywords}/{session.number}/{session.tab}/{options}"
    return f"{base}done/{where}/{options}"


def clickables(shop: Shop, session: Session) -> list[str]:
    """Lower-cased labels that can be clicked, each once, at its first position."""
    if session.page == "search":
        return ["search"]
    if session.page == "results":
        back = ["back to search", *(["< prev"] if session.number > 1 else []), "next >"]
        return list(dict.fromkeys([*back, *(asin.lower() for asin in shown(shop, session))]))
    if session.page == "item":
        values = (value for _, values in shop.products[session.asin].options for value in values)
        return list(dict.fromkeys(["back to search", "< prev", *TABS, "buy now", *values]))
    return ["back to search", "< prev"] if session.page == "tab" else []


def step(shop: Shop, session: Session, action: str) -> Session:
    """The session after one action text. What cannot be done changes nothing."""
    match = _ACTION.match(action)
    if match is None or session.page == "done":
        return session
    name, arg = match[1], match[2].lower()
    if name == "search":
        return session._replace(page="results", keywords=tuple(arg.split(" ")), number=1, asin="", options=())
    if name == "click" and arg != "search" and arg in clickables(shop, session):
        return _click(shop, session, arg)
    return session


def _click(shop: Shop, session: Session, label: str) -> Session:
    if label == "buy now":
        return session._replace(page="done")
    if label == "back to search":
        return Session(session.task_id, session.seed)
    kind = _page_type(url(session))
    if label == "next >" and kind == "search_results":
        return session._replace(page="results", number=session.number + 1, asin="", options=())
    if label == "< prev" and kind == "search_results":
        return session._replace(page="results", number=session.number - 1, asin="", options=())
    if label == "< prev" and kind == "item_sub_page":
        return session._replace(page="item", tab="")
    if label == "< prev" and kind == "item_page":
        return session._replace(page="results", asin="", options=())
    if label in TABS:
        return session._replace(page="tab", tab=TABS[label])
    if session.page == "results":
        asin = label.upper()
        return session._replace(page="item", asin=asin, options=(), visited=session.visited | {asin})
    # Equal values under two names share one label on the page; the last one in the page gets the click.
    names = [name for name, values in shop.products[session.asin].options if label in values]
    return session._replace(options=tuple({**dict(session.options), names[-1]: label}.items()))


def _page_type(address: str) -> str:
    """The reference finds the page type by substring, in this order, so keywords can confuse it."""
    for kind in ("search_results", "item_page", "item_sub_page", "done"):
        if kind in address:
            return kind
    return ""

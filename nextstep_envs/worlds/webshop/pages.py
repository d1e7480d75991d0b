"""What a shopper sees: the open page as text, byte for byte as the reference shows it, and what can be clicked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Any

from nextstep_envs.errors import check_choice
from nextstep_envs.worlds.webshop.session import (
    BACK,
    ITEM_BUTTONS,
    NEXT,
    PREV,
    SEARCH,
    TAB_BUTTONS,
    Session,
    address,
)
from nextstep_envs.worlds.webshop.shop import Shop

OBSERVATION_MODES = ("text_rich", "text", "url")
SEPARATOR = " [SEP] "
_BLANK = " \t\n\f\r"  # what the reference's HTML parser takes for white space
_HTML_SAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&'"})

Chosen = tuple[tuple[str, str], ...]


class Kind(IntEnum):
    """What a piece of text is on a page."""

    TEXT = 0
    BUTTON = 1
    OPTION = 2
    CHOSEN_OPTION = 3
    LINK = 4
    VISITED_LINK = 5


_FRAMES = (  # by kind: what stands before and after a piece in text_rich
    ("", "\n"),
    ("[button] ", " [button_]\n"),
    ("  [button] ", " [button_]\n"),
    ("  [clicked button] ", " [clicked button_]\n"),
    ("\n[button] ", " [button_]\n"),
    ("\n[clicked button] ", " [clicked button_]\n"),
)


class Pages:
    """Renders the sessions of a shop; pieces that come back often are kept, within bounds.

    Args:
        shop: whose products are shown.
        mode: "text_rich" (a piece a line, what can be clicked is marked), "text" (pieces joined by " [SEP] ") or "url"
            (the page's address). The page source is not offered.
        show_instruction: whether pages hold the instruction (the page after a purchase never does).
        reveal_score: whether the page after a purchase holds the score, as the reference's does. Otherwise the place
            of the score stays empty: an empty line, or nothing between two separators.
    """

    def __init__(
        self, shop: Shop, mode: str = "text_rich", show_instruction: bool = True, reveal_score: bool = False
    ) -> None:
        check_choice("observation_mode", mode, OBSERVATION_MODES)
        self.shop, self.mode = shop, mode
        self.show_instruction, self.reveal_score = show_instruction, reveal_score
        self._rich = mode == "text_rich"
        self._header = lru_cache(maxsize=1 << 12)(self._make_header)
        self._row = lru_cache(maxsize=1 << 13)(self._make_row)
        self._item = lru_cache(maxsize=1 << 12)(self._make_item)
        self._tab = lru_cache(maxsize=1 << 11)(self._make_tab)
        self._labels = lru_cache(maxsize=1 << 12)(self._make_labels)
        self._back, self._prev, self._next = map(self._button, ("Back to Search", "< Prev", "Next >"))

    def view(self, state: Session) -> str:
        """What the open page shows."""
        if self.mode == "url":
            return address(state)
        page = state.page
        if page == "item":
            text = self._view_item(state)
        elif page == "results":
            text = self._view_results(state)
        elif page == "search":
            text = self._view_search(state)
        elif page == "tab":
            text = self._header(state.task_id) + self._back + self._prev + self._tab(state.asin, state.tab)
        else:
            text = self._view_done(state)
        return text if self._rich else text[: -len(SEPARATOR)]

    def available(self, state: Session) -> dict[str, Any]:
        """Whether there is a search bar, and what can be clicked: each label once, lower-cased, in the page's order."""
        page = state.page
        if page == "item":
            labels = list(self._labels(state.asin))
        elif page == "results":
            labels = [BACK, PREV, NEXT] if state.number > 1 else [BACK, NEXT]
            labels += [asin.lower() for asin in state.shown]
        elif page == "search":
            labels = [SEARCH]
        else:
            labels = list(TAB_BUTTONS) if page == "tab" else []
        return {"has_search_bar": page == "search", "clickables": labels}

    # ------------------------------------------------------------ pages

    def _view_search(self, state: Session) -> str:
        texts = ("Instruction: ", self.shop.goal(state.task_id).instruction) if self.show_instruction else ()
        return self._lines(("WebShop", *texts)) + self._button("Search")

    def _view_results(self, state: Session) -> str:
        visited, row = state.visited, self._row
        return "".join(
            (
                self._header(state.task_id),
                self._back,
                self._line(f"Page {state.number} (Total results: {len(state.results)})"),
                self._prev if state.number > 1 else "",
                self._next,
                *[row(asin, asin in visited) for asin in state.shown],
            )
        )

    def _view_item(self, state: Session) -> str:
        if not self._rich:
            return self._header(state.task_id) + self._item(state.asin)[1]
        # A value counts as clicked if the url holds it in quotes, and the url holds the keywords, too.
        before = f"{state.keywords}/{state.number}/" if '"' in state.keywords else ""
        clicked, body = self._item(state.asin, state.options, before)
        return clicked + self._header(state.task_id) + body

    def _view_done(self, state: Session) -> str:
        options = dict(state.options)
        score = repr(self.shop.score(state.task_id, state.asin, options).score) if self.reveal_score else ""
        choice = json.dumps(options, sort_keys=True).translate(_HTML_SAFE)
        above = self._lines(
            (
                *("Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"),
                *("Purchased", "asin", state.asin, "options", choice, "attrs", "None", "category", "None"),
                *("query", "None", "product category", "None"),
                *("Target", "asin", "options", "attrs", "price upper", "instuction text", "category"),
                *("product category", "query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)"),
            )
        )
        # Not a line like the others: where the score is hidden, an empty one stays.
        return above + score + ("\n" if self._rich else SEPARATOR) + self._lines(("Reward Details ", "None"))

    # ------------------------------------------------------------ pieces that are kept

    def _make_header(self, task_id: str) -> str:
        return self._lines(("Instruction:", self.shop.goal(task_id).instruction)) if self.show_instruction else ""

    def _make_row(self, asin: str, visited: bool) -> str:
        product = self.shop.products[asin]
        link = self._line(asin, Kind.VISITED_LINK if visited else Kind.LINK)
        return link + self._lines((product.title, product.price_tag))

    def _make_item(self, asin: str, options: Chosen = (), before: str = "") -> tuple[str, str]:
        """The lines that name clicked options, and the page below the instruction."""
        product = self.shop.products[asin]
        url = before + json.dumps(dict(options))
        clicked = ""
        lines = [self._back, self._prev]
        for name, values in product.options:
            lines.append(self._line(name))
            for value in values:
                if f'"{value}"' in url and _visible(value):
                    clicked = f"You have clicked {value}.\n{clicked}"
                    lines.append(self._line(value, Kind.CHOSEN_OPTION))
                else:
                    lines.append(self._line(value, Kind.OPTION))
        lines.append(self._lines((product.title, f"Price: {product.price_tag}", "Rating: N.A.")))
        lines += map(self._button, ("Description", "Features", "Reviews", "Buy Now"))
        return clicked, "".join(lines)

    def _make_tab(self, asin: str, tab: str) -> str:
        product = self.shop.products[asin]
        if tab == "Description":
            return self._line(product.description)
        if tab == "Features":
            return self._lines(f" {bullet}" for bullet in product.bullets)
        if tab == "Attributes":  # has no button: an option of that name leads there
            kinds = (product.category, product.query, product.product_category)
            return self._lines((*(f" {attribute}" for attribute in product.attributes), *kinds))
        return ""  # there are no reviews

    def _make_labels(self, asin: str) -> tuple[str, ...]:
        options = self.shop.products[asin].options
        return tuple(dict.fromkeys((*ITEM_BUTTONS, *(value for _, values in options for value in values))))

    # ------------------------------------------------------------ lines

    def _line(self, text: str, kind: Kind = Kind.TEXT) -> str:
        piece = _visible(text)
        if not piece:
            return ""
        if not self._rich:
            return piece.strip() + SEPARATOR
        start, end = _FRAMES[kind]
        return f"{start}{piece}{end}"

    def _lines(self, texts: Iterable[str]) -> str:
        return "".join(map(self._line, texts))

    def _button(self, text: str) -> str:
        return self._line(text, Kind.BUTTON)


def _visible(text: str) -> str:
    """A text as the reference's HTML parser keeps it: of a blank one a space, or nothing if it holds a newline."""
    if text.strip(_BLANK):
        return text
    return " " if text and "\n" not in text else ""

"""Pages of the shop as text: byte for byte the reference's `text` and `text_rich` observations, and its `url`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from nextstep_envs.errors import check_choice
from nextstep_envs.worlds.webshop.products import Product
from nextstep_envs.worlds.webshop.session import TABS, Session, results, shown, url
from nextstep_envs.worlds.webshop.shop import Shop

OBSERVATION_MODES = ("text_rich", "text", "url")
SEPARATOR = " [SEP] "
_BLANK = " \t\n\f\r"
_CACHED_PRODUCTS = 4096


class Pages:
    """Renders sessions.

    Args:
        shop: where the session takes place.
        mode: "text_rich" (one node a line, buttons marked), "text" (nodes joined by " [SEP] ") or "url".
        show_instruction: head the pages with the task; off where the task must reach agents in another way.
        reveal_score: print the score on the done page, as the reference does.
    """

    def __init__(self, shop: Shop, mode: str, show_instruction: bool, reveal_score: bool) -> None:
        check_choice("observation_mode", mode, OBSERVATION_MODES)
        self.shop, self.mode, self.rich = shop, mode, mode == "text_rich"
        self.show_instruction, self.reveal_score = show_instruction, reveal_score
        # One renderer lives as long as its world; bounded, so that a million products do not stay in memory.
        self._entry = lru_cache(_CACHED_PRODUCTS)(self._render_entry)
        self._item = lru_cache(_CACHED_PRODUCTS)(self._render_item)

    def __call__(self, session: Session) -> str:
        """What the open page shows."""
        if self.mode == "url":
            return url(session)
        if session.page == "done":
            return self._join(self._done(session))
        if session.page == "search":
            return self._join([self._plain("WebShop"), *self._instruction(session, " "), self._button("Search")])
        head = [*self._instruction(session), self._button("Back to Search")]
        if session.page == "results":
            return self._results(session, head)
        head.append(self._button("< Prev"))
        product = self.shop.products[session.asin]
        if session.page == "tab":
            return self._join([*head, *self._tab(product, session.tab)])
        if session.options and self.rich:
            return self._clicked_item(session, head, product)
        return self._join([*head, self._item(product)])

    # Every helper returns finished pieces: lines with their "\n" in text_rich, stripped nodes in text.

    def _join(self, pieces: Sequence[str | None]) -> str:
        kept = [piece for piece in pieces if piece is not None]
        return "".join(kept) if self.rich else SEPARATOR.join(kept)

    def _plain(self, text: str) -> str | None:
        """A text node; None where the HTML parser makes none (empty, or blank with a newline)."""
        if not text.strip(_BLANK):
            if not text or "\n" in text:
                return None
            text = " "  # the parser keeps one space of a blank node
        return text + "\n" if self.rich else text.strip()

    def _button(self, label: str, indent: str = "") -> str:
        return f"{indent}[button] {label} [button_]\n" if self.rich else label.strip()

    def _instruction(self, session: Session, tail: str = "") -> list[str | None]:
        if not self.show_instruction:
            return []
        return [self._plain("Instruction:" + tail), self._plain(self.shop.goal(session.task_id).instruction)]

    def _results(self, session: Session, head: list[str | None]) -> str:
        total = len(results(self.shop, session))
        head.append(self._plain(f"Page {session.number} (Total results: {total})"))
        if session.number > 1:
            head.append(self._button("< Prev"))
        head.append(self._button("Next >"))
        entries = (self._entry(asin, asin in session.visited) for asin in shown(self.shop, session))
        return self._join([*head, *entries])

    def _render_entry(self, asin: str, visited: bool) -> str | None:
        product = self.shop.products[asin]
        mark = "clicked button" if visited else "button"
        link = f"\n[{mark}] {asin} [{mark}_]\n" if self.rich else asin
        return self._join([link, self._plain(product.title), self._plain(product.price_tag)])

    def _render_item(self, product: Product) -> str:
        options = [
            piece
            for name, values in product.options
            for piece in (self._plain(name), *(self._button(value, "  ") for value in values if value))
        ]
        return self._join([*options, *self._item_tail(product)])

    def _item_tail(self, product: Product) -> list[str | None]:
        facts = (product.title, f"Price: {product.price_tag}", "Rating: N.A.")
        return [*map(self._plain, facts), *map(self._button, (*TABS.values(), "Buy Now"))]

    def _clicked_item(self, session: Session, head: list[str | None], product: Product) -> str:
        # The reference looks for the quoted value anywhere in the address, so an escaped value never counts as clicked.
        address = url(session)
        options: list[str | None] = []
        notice = ""
        for name, values in product.options:
            options.append(self._plain(name))
            for value in values:
                if value and f'"{value}"' in address:
                    notice = f"You have clicked {value}.\n{notice}"
                    options.append(f"  [clicked button] {value} [clicked button_]\n")
                elif value:
                    options.append(self._button(value, "  "))
        return self._join([notice, *head, *options, *self._item_tail(product)])

    def _tab(self, product: Product, tab: str) -> list[str | None]:
        if tab == "Description":
            return [self._plain(product.description)]
        return [self._plain(" " + bullet) for bullet in product.bullets] if tab == "Features" else []

    def _done(self, session: Session) -> list[str | None]:
        chosen = json.dumps(dict(session.options), sort_keys=True)
        for character in "<>&'":
            chosen = chosen.replace(character, f"\\u{ord(character):04x}")
        score: list[str] = []
        if self.reveal_score:
            score = [repr(self.shop.score(session.task_id, session.asin, dict(session.options)).score)]
        bought = ["Purchased", "asin", session.asin, "options", chosen, "attrs", "None", "category", "None"]
        bought += ["query", "None", "product category", "None"]
        target = ["Target", "asin", "options", "attrs", "price upper", "instuction text", "category"]
        target += ["product category", "query", "Goal ", "None"]
        thanks = ["Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"]
        reward = ["Reward", "Your score (min 0.0, max 1.0)", *score, "Reward Details ", "None"]
        return [self._plain(text) for text in (*thanks, *bought, *target, *reward)]

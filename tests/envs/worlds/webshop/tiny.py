"""A shop of a few hand-written products that holds every oddity of the published data."""

from __future__ import annotations

from typing import Any

from nextstep_envs.worlds.webshop.data import products_from_raw
from nextstep_envs.worlds.webshop.session import Session, step
from nextstep_envs.worlds.webshop.shop import Shop


def raw(asin: str, name: str, **fields: Any) -> dict[str, Any]:
    """A product in the published schema."""
    product = {
        "asin": asin, "name": name, "full_description": "", "small_description": [], "pricing": "$5", "images": ["x"],
        "product_category": "Home › Lamps", "category": "garden", "query": "lamps", "customization_options": "",
    }  # fmt: skip
    return product | fields


def options(**names: list[str]) -> dict[str, Any]:
    """Option lists in the published schema."""
    return {name: [{"value": value, "image": None} for value in values] for name, values in names.items()}


def tiny_shop() -> Shop:
    """Three lamps that "lamp" finds in the order LAMP3, LAMP2, LAMP1, and products reached by "<c>" or "<q>" only."""
    items = [
        raw(
            "LAMP1", "lamp", small_description=["  shiny ", "", " \n", "two\nlines"],
            customization_options=options(
                Color=["Red", 'the "big" one', "Été", "O'Neil <b>", "plain"], Size=["L/XL", "red", "L/XL", ""]
            ),
        ),
        raw("LAMP2", "lamp blue", pricing="$3 - $7.5", full_description=" Line one\nline two "),
        raw("LAMP3", "lamp of brass and glass", full_description=" \t"),
        raw("NAMELESS", "", category="beauty", query="bulbs", product_category="", small_description=""),
        raw("BLANK", " ", category="beauty", query="bulbs", full_description=" \n "),
        raw(
            "LABELS", "trap", category="trap", query="traps", customization_options=options(
                what=["Buy Now", "Features", "Attributes", "Next >", "< Prev", "Search", "back to search", "other"]
            ),
        ),
    ]  # fmt: skip
    items += [raw(f"BULK{i:02}", f"thing {i}", category="bulk", query="bulk things") for i in range(23)]
    warm = {"attributes": ["warm"], "instruction": "Find me a warm lamp", "instruction_attributes": ["warm"]}
    plain = {"attributes": ["cheap"], "instruction": "Find me a cheap lamp", "instruction_attributes": ["cheap"]}
    nouns = {item["asin"]: item["name"].split() for item in items}
    return Shop(products_from_raw(items, {"LAMP1": warm, "LAMP2": plain, "LABELS": {"attributes": ["a", "b"]}}, nouns))


def walk(shop: Shop, *actions: str, task_id: str = "0") -> Session:
    """The session after some actions from the start."""
    session = Session(task_id)
    for action in actions:
        session = step(shop, session, action)
    return session

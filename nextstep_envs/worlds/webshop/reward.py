"""What a purchase is worth: the published reward with its quirks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from nextstep_envs.errors import DataError
from nextstep_envs.types import Outcome
from nextstep_envs.worlds.webshop.fuzzy import similar
from nextstep_envs.worlds.webshop.products import Goal, Product

COLORS: tuple[str, ...] = tuple(
    """alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy
    camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral
    cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray
    green grey heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve
    merlot midnight mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum
    purple rainbow red rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower
    tan taupe teal tiger turquoise violet walnut wheat white wine yellow""".split()
)
_COLOR_SET = frozenset(COLORS)


def score_purchase(product: Product, price: float, goal: Goal, chosen_options: Mapping[str, str]) -> Outcome:
    """Score a bought product against what the shopper wanted.

    With A goal attributes and O goal options: score = (att_hits + opt_hits + r_price) / (|A| + |O| + 1) * r_type,
    the quotient first. The price is the product's sampled one, whatever options were chosen.

    Args:
        product: what was bought.
        price: its sampled price.
        goal: what was wanted.
        chosen_options: option name to chosen value; only the values count.

    Returns:
        The outcome, a success if the score is exactly 1. Details: r_type, r_att, r_option and w_option (absent where
        the goal has no options), r_price, w_att, w_price, query_match, category_match, title_score.
    """
    kind = _type_reward(product, goal)
    attribute_hits = sum(_has_attribute(product, attribute) for attribute in goal.attributes)
    option_hits = count_option_hits(chosen_options.values(), goal.options)
    r_price = price <= goal.price_upper
    n_attributes, n_options = len(goal.attributes), len(goal.options)
    parts = n_attributes + n_options + 1
    score = (attribute_hits + option_hits + r_price) / parts
    score *= kind["r_type"]
    details: dict[str, Any] = {
        **kind,
        "r_att": attribute_hits / n_attributes,
        "w_att": n_attributes / parts,
        "r_price": r_price,
        "w_price": 1 / parts,
    }
    if n_options:
        details["r_option"] = option_hits / n_options
        details["w_option"] = n_options / parts
    return Outcome(score, score == 1.0, details)


def _type_reward(product: Product, goal: Goal) -> dict[str, Any]:
    if product.nouns is None:
        raise DataError(f"product {product.asin}: the nouns of its name are unknown; load it with a title_nouns table")
    query_match = product.query == goal.query
    category_match = len(levels(product.product_category) & levels(goal.product_category)) >= 2
    # Repeated nouns of the goal count in the denominator only, so even the right product can score below 1.
    title_score = len(set(product.nouns) & set(goal.nouns)) / len(goal.nouns) if goal.nouns else 0.2
    r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0:
        r_type = 0.0
    return {"r_type": r_type, "query_match": query_match, "category_match": category_match, "title_score": title_score}


@lru_cache(maxsize=1 << 14)
def levels(product_category: str) -> frozenset[str]:
    """The distinct levels of a product category."""
    return frozenset(level.strip() for level in product_category.split("›"))


def _has_attribute(product: Product, attribute: str) -> bool:
    return any(similar(own, attribute) for own in product.attributes) or any(
        attribute in text for text in _lowered(product.title, product.bullets, product.description)
    )


@lru_cache(maxsize=1 << 12)
def _lowered(title: str, bullets: tuple[str, ...], description: str) -> tuple[str, str, str]:
    return title.lower(), " ".join(bullets).lower(), description.lower()


def count_option_hits(chosen: Iterable[str], wanted: Iterable[str | tuple[str, str]]) -> int:
    """How many goal options some chosen value is similar to, colours reduced to their plain name first."""
    values = [plain_color(value) for value in chosen]
    return sum(any(similar(value, goal) for value in values) for goal in map(_goal_text, wanted)) if values else 0


def _goal_text(option: str | tuple[str, str]) -> str:
    """A goal option as it is compared: of a (name, value) pair its Python repr, unless one of the two is a colour."""
    if isinstance(option, str):
        return plain_color(option)
    return _pair_text(option)


@lru_cache(maxsize=1 << 16)
def _pair_text(pair: tuple[str, str]) -> str:
    if _COLOR_SET.isdisjoint(pair):
        return str(pair)
    return next(color for color in COLORS if color in pair)


@lru_cache(maxsize=1 << 16)
def plain_color(text: str) -> str:
    """The first colour name found anywhere in the text ("tan" in "standard"), else the text itself."""
    return next((color for color in COLORS if color in text), text)

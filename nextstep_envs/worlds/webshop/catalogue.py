"""The generated shop: a seeded catalogue in the published raw schema, any number of products.

A shopper's request uses everyday words, titles use the trade's. Of 1,000 products, each of 50 types has 16
near-duplicates that differ in attributes, options and price, and 4 accessories whose texts hold the shopper's name for
the product more often than the product's own. What a product can do stands partly in its title and description (trade
words, found by search) and mostly in its feature list (shopper's words, not indexed). So the first hit is often
wrong, and reading pays.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.webshop.vocabulary import ADJECTIVES, DOMAINS, MODELS, Domain, Kind

Raw = dict[str, Any]

ATTRIBUTES = 5  # of a product
PLAIN_SHARE = 0.8  # of feature lines that use the shopper's words
LISTED_SHARE = 0.5  # of products whose feature list is complete; else one attribute stands in the description only
RANGE_SHARE = 0.09  # of products with a price range, as in the published 1,000
INSTRUCTED_SHARE = 0.9  # of the first products (accessories aside) that have an instruction ...
INSTRUCTED_FIRST = 2000  # ... later ones have none: in the published 1.18 million, few have one
ACCESSORY_EVERY = 5

_BASE36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KINDS: tuple[tuple[Domain, Kind], ...] = tuple(
    (domain, domain.kinds[i]) for i in range(len(DOMAINS[0].kinds)) for domain in DOMAINS
)
_OPENINGS = ("Find me", "I need", "I want", "Show me")
_LEADS = (
    "Made to a high standard and checked by hand before it ships.",
    "A favourite of our customers year after year.",
    "Comes with a friendly service team and simple returns.",
    "Designed by people who use it every single week.",
)
_FITS = (
    "Fits every {}, old or new.",
    "One model for every {}, all makes, with a spare part and a cloth.",
)
_PLAIN_TAILS = ("just as you asked for", "and we mean it", "that is a promise", "tested again and again")
_TRADE_TAILS = ("per manufacturer data", "rated by the maker", "see data sheet", "as certified")


def generate(num_products: int = 1000, seed: int = 0) -> tuple[list[Raw], dict[str, Raw], dict[str, list[str]]]:
    """Generate a catalogue.

    The first n products of a larger catalogue of the same seed are the catalogue of n products.

    Args:
        num_products: how many, at least 1.
        seed: of all choices.

    Returns:
        items: entries of items_shuffle*.json.
        instructions: ASIN to its entry of items_ins_v2*.json.
        nouns: ASIN to the lower-cased nouns of its title.
    """
    if isinstance(num_products, bool) or not isinstance(num_products, int) or num_products <= 0:
        raise ConfigError(f"num_products={num_products!r} must be a whole number > 0")
    rng = random.Random(seed)
    texts = _Texts()
    items: list[Raw] = []
    instructions: dict[str, Raw] = {}
    nouns: dict[str, list[str]] = {}
    for index in range(num_products):
        item, entry, title_nouns = _product(index, rng, texts)
        asin = item["asin"]
        items.append(item)
        instructions[asin] = entry
        nouns[asin] = title_nouns
    return items, instructions, nouns


class _Texts:
    """Shares equal texts, so that a large catalogue stays small in memory."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def same(self, text: str) -> str:
        return self._known.setdefault(text, text)  # type: ignore[no-any-return]

    def values(self, values: tuple[str, ...]) -> list[dict[str, str]]:
        """An option's value list; equal lists are one object (loaders only read them)."""
        return self._known.setdefault(values, [{"value": value} for value in values])  # type: ignore[no-any-return]


class _Listing(NamedTuple):
    """What makes a product one for a shopper, or an accessory."""

    title: str
    nouns: tuple[str, ...]
    query: str
    shelf: str
    description: str
    attributes: list[tuple[str, str]]
    price_scale: float


def _wanted(domain: Domain, kind: Kind, rng: random.Random) -> _Listing:
    """A product of the kind itself: trade words in title and description, the shopper's name for it once."""
    brand, model = rng.choice(domain.brands), rng.choice(MODELS)
    attributes = rng.sample(domain.attributes, ATTRIBUTES)
    shown, second, third = (trade for _, trade in attributes[:3])
    nouns = (brand, model, kind.trade, *(word for word in shown.split() if word not in ADJECTIVES))
    return _Listing(
        f"{brand} {model} {rng.randrange(2, 100)} {kind.trade.title()}, {shown.title()}",
        nouns,
        kind.trade.removesuffix("s") + "s",
        f"{kind.shelf} › {kind.trade.title()}",
        f"{brand} {kind.trade}: {second}, {third}. Your next {kind.lay}.",
        attributes,
        1.0,
    )


def _accessory(domain: Domain, kind: Kind, rng: random.Random) -> _Listing:
    """Something sold for the kind: its texts name the kind in the shopper's words, more often than the kind's own."""
    brand, model = rng.choice(domain.brands), rng.choice(MODELS)
    return _Listing(
        f"{brand} {model} {rng.randrange(2, 100)} {kind.lay.title()} {kind.accessory.title()}",
        (brand, model, kind.lay, kind.accessory),
        f"{kind.lay} accessories",
        f"Accessories › {kind.lay.title()}",
        f"{brand} {kind.accessory}, sold on its own. {rng.choice(_FITS).format(kind.lay)}",
        rng.sample(domain.attributes, 1),
        0.4,
    )


def _product(index: int, rng: random.Random, texts: _Texts) -> tuple[Raw, Raw, list[str]]:
    domain, kind = _KINDS[index % len(_KINDS)]
    accessory = index // len(_KINDS) % ACCESSORY_EVERY == ACCESSORY_EVERY // 2
    listing = (_accessory if accessory else _wanted)(domain, kind, rng)
    complete = accessory or rng.random() < LISTED_SHARE
    listed = [pair for i, pair in enumerate(listing.attributes) if complete or i != 1]
    phrases = [lay for lay, _ in listing.attributes]
    asin = _asin(index)
    item = {
        "asin": asin,
        "name": listing.title,
        "full_description": listing.description,
        "small_description": [texts.same(line) for line in (rng.choice(_LEADS), *(_feature(p, rng) for p in listed))],
        "pricing": _pricing(kind, listing.price_scale, rng),
        "images": [],
        "product_category": texts.same(f"{domain.department} › {listing.shelf}"),
        "category": domain.name,
        "query": texts.same(listing.query),
        "customization_options": _options(domain, rng, texts),
    }
    entry: Raw = {"attributes": sorted(phrases)}
    if not accessory and index < INSTRUCTED_FIRST and rng.random() < INSTRUCTED_SHARE:
        wanted = rng.sample(phrases, rng.choice((3, 3, 4)))
        entry["instruction"] = _instruction(kind.lay, wanted, rng)
        entry["instruction_attributes"] = wanted
    return item, entry, [texts.same(word) for word in " ".join(listing.nouns).lower().split()]


def _feature(pair: tuple[str, str], rng: random.Random) -> str:
    lay, trade = pair
    if rng.random() < PLAIN_SHARE:
        return f"{lay.capitalize()}, {rng.choice(_PLAIN_TAILS)}"
    return f"{trade.capitalize()}, {rng.choice(_TRADE_TAILS)}"


def _pricing(kind: Kind, scale: float, rng: random.Random) -> str:
    low, high = kind.price
    price = scale * low * (high / low) ** rng.random()
    cents = rng.choice((0.0, 0.49, 0.95, 0.99))
    price = int(price) + cents
    if rng.random() >= RANGE_SHARE:
        return f"${price:.2f}"
    return f"${price:.2f} - ${price * rng.choice((1.2, 1.5)):.2f}"


def _options(domain: Domain, rng: random.Random, texts: _Texts) -> dict[str, list[dict[str, str]]]:
    """One or two options with two or three of their values, in the vocabulary's order."""
    chosen = rng.sample(range(len(domain.options)), rng.choice((1, 2)))
    grid = {}
    for i in sorted(chosen):
        name, values = domain.options[i]
        keep = set(rng.sample(range(len(values)), rng.choice((2, 3, 3))))
        grid[name] = texts.values(tuple(value for j, value in enumerate(values) if j in keep))
    return grid


def _instruction(noun: str, wanted: Sequence[str], rng: random.Random) -> str:
    """A request in the shopper's words: some attributes before the product's name, the rest after "with"."""
    before = rng.randrange(0, len(wanted))
    front, back = ", ".join(wanted[:before]), ", ".join(wanted[before:])
    return f"{rng.choice(_OPENINGS)} {front}{' ' if front else ''}{noun} with {back}"


def _asin(index: int) -> str:
    """Ten characters that do not reveal the order of products (an odd factor permutes the numbers below 36^8)."""
    number = (index * 1_103_515_245_131 + 271_828_182_845) % 36**8
    digits = []
    for _ in range(8):
        number, digit = divmod(number, 36)
        digits.append(_BASE36[digit])
    return "B0" + "".join(reversed(digits))

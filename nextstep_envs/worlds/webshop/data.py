"""From raw entries of the published WebShop schema to products."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.worlds.webshop.products import Product

DUMMY_ATTRIBUTES = ("DUMMY_ATTR",)
DEFAULT_PRICE = 100.0

_NOT_PRICE = re.compile(r"[^\d.]")


def products_from_raw(
    items: Sequence[Mapping[str, Any]],
    instructions: Mapping[str, Mapping[str, Any]],
    nouns: Mapping[str, Sequence[str]] | None = None,
    num_products: int | None = None,
) -> tuple[Product, ...]:
    """Turn raw entries of the published schema into products.

    The first `num_products` entries are read (None: all). Entries whose ASIN is 'nan', longer than 10 characters or
    seen before are left out.

    Args:
        items: the list of items_shuffle*.json.
        instructions: ASIN to {"attributes", "instruction"?, "instruction_attributes"?}.
        nouns: ASIN to the lower-cased nouns of its name; None or no entry: `Product.nouns` is None.
        num_products: how many entries to read.

    Raises:
        DataError: an entry is malformed; the message names it.
        ConfigError: `num_products` is not a whole number > 0.
    """
    check_num_products(num_products)
    pool: dict[Any, Any] = {}
    products: list[Product] = []
    seen: set[str] = set()
    count = len(items) if num_products is None else min(num_products, len(items))
    for index in range(count):
        item = items[index]
        if not isinstance(item, Mapping):
            raise DataError(f"product {index}: expected an object, got {type(item).__name__}")
        asin = text_of(item, "asin", f"product {index}")
        if asin == "nan" or len(asin) > 10 or asin in seen:
            continue
        seen.add(asin)
        products.append(_product(item, asin, f"product {index} ({asin})", instructions, nouns, pool))
    return tuple(products)


def check_num_products(num_products: int | None) -> None:
    """Raise `ConfigError` unless `num_products` is None or a whole number > 0."""
    if num_products is None:
        return
    if isinstance(num_products, bool) or not isinstance(num_products, int) or num_products <= 0:
        raise ConfigError(f"num_products={num_products!r} must be a whole number > 0, or None for all products")


def parse_prices(pricing: str | None) -> tuple[tuple[float, ...], str]:
    """The one or two prices in a text such as "$16.99 - $26.99", and their tag on pages.

    Raises:
        ValueError: a piece is no number, such as "1.2.3".
    """
    pieces = [_NOT_PRICE.sub("", piece) for piece in (pricing or "").split("$")]
    prices = tuple(float(piece) for piece in pieces if piece)[:2]
    if not prices:
        prices = (DEFAULT_PRICE,)
    return prices, " to ".join(f"${price}" for price in prices)


def _product(
    item: Mapping[str, Any],
    asin: str,
    where: str,
    instructions: Mapping[str, Mapping[str, Any]],
    nouns: Mapping[str, Sequence[str]] | None,
    pool: dict[Any, Any],
) -> Product:
    share = pool.setdefault  # equal values of different products become one object
    try:
        prices, price_tag = parse_prices(item.get("pricing"))
    except (ValueError, AttributeError):
        raise DataError(f"{where}: pricing={item['pricing']!r} must be a text such as '$9.99 - $19.99'") from None
    bullets = item.get("small_description")
    if isinstance(bullets, str):
        lines: tuple[str, ...] = (bullets,)
    else:
        lines = texts_of(item, "small_description", where)
    entry = instructions.get(asin, {})
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: its instruction entry must be an object, got {type(entry).__name__}")
    attributes = texts_of(entry, "attributes", where) if "attributes" in entry else DUMMY_ATTRIBUTES
    instruction = text_of(entry, "instruction", where) if entry.get("instruction") is not None else ""
    goal_attributes = texts_of(entry, "instruction_attributes", where) if instruction else ()
    known = texts_of(nouns, asin, f"{where}: title nouns") if nouns is not None and asin in nouns else None
    product_category = text_of(item, "product_category", where)
    category = text_of(item, "category", where)
    query = text_of(item, "query", where).lower().strip()
    return Product(
        asin=asin,
        title=text_of(item, "name", where),
        description=text_of(item, "full_description", where),
        bullets=lines,
        category=share(category, category),
        product_category=share(product_category, product_category),
        query=share(query, query),
        prices=prices,
        price_tag=price_tag,
        options=_options(item.get("customization_options"), where, pool),
        attributes=_shared(attributes, pool),
        instruction=instruction,
        instruction_attributes=_shared(goal_attributes, pool),
        nouns=None if known is None else tuple(share(noun, noun) for noun in known),
    )


def _options(raw: Any, where: str, pool: dict[Any, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not raw:
        return ()
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: customization_options must be an object or empty, got {type(raw).__name__}")
    options: dict[str, tuple[str, ...]] = {}
    for name, values in raw.items():
        if values is None:
            continue
        if not isinstance(values, list | tuple):
            raise DataError(f"{where}: option {name!r} must be a list of {{'value': text}}, got {reprlib.repr(values)}")
        texts = []
        for value in values:
            if not isinstance(value, Mapping) or not isinstance(value.get("value"), str):
                raise DataError(f"{where}: option {name!r} has {reprlib.repr(value)}; expected {{'value': text}}")
            texts.append(value["value"].strip().replace("/", " | ").lower())
        options[name.lower()] = _shared(tuple(texts), pool)
    pairs = tuple((pool.setdefault(name, name), values) for name, values in options.items())
    return pool.setdefault(pairs, pairs)  # type: ignore[no-any-return]


def _shared(texts: tuple[str, ...], pool: dict[Any, Any]) -> tuple[str, ...]:
    if texts in pool:
        return pool[texts]  # type: ignore[no-any-return]
    return pool.setdefault(texts, tuple(pool.setdefault(text, text) for text in texts))  # type: ignore[no-any-return]


def text_of(entry: Mapping[str, Any], key: str, where: str) -> str:
    """The text under a key; `DataError` naming `where` if there is none."""
    value = entry.get(key)
    if not isinstance(value, str):
        _wrong(entry, key, where, "a text")
    return value


def texts_of(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The texts listed under a key; `DataError` naming `where` if there are none."""
    value = entry.get(key)
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        _wrong(entry, key, where, "a list of texts")
    return tuple(value)


def _wrong(entry: Mapping[str, Any], key: str, where: str, expected: str) -> NoReturn:
    if key not in entry:
        raise DataError(f"{where}: {key!r} is missing; expected {expected}")
    raise DataError(f"{where}: {key}={reprlib.repr(entry[key])} must be {expected}")

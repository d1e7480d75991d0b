"""From the published WebShop files (or the same schema in memory) to products."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from nextstep_envs.errors import ConfigError, DataError, MissingExtraError
from nextstep_envs.worlds.webshop.products import Product

DUMMY_ATTRIBUTES = ("DUMMY_ATTR",)
DEFAULT_PRICE = 100.0

_PRODUCT_KEYS = frozenset(
    (
        "asin",
        "name",
        "full_description",
        "small_description",
        "pricing",
        "product_category",
        "category",
        "query",
        "customization_options",
    )
)
_NOT_PRICE = re.compile(r"[^\d.]")


class DataFiles(NamedTuple):
    """The files of one data folder that belong together.

    Attributes:
        items: items_shuffle*.json[.gz], the products.
        instructions: items_ins_v2*.json[.gz], attributes and synthetic instructions by ASIN.
        human: items_human_ins*.json[.gz], human instructions by ASIN; None where absent.
        nouns: title_nouns*.json[.gz], nouns of the product name by ASIN; None where absent.
    """

    items: Path
    instructions: Path
    human: Path | None
    nouns: Path | None


def find_files(data_dir: str | Path) -> DataFiles:
    """Choose the files of a data folder.

    Of several variants the published small set (suffix "_1000") is taken, as the reference does; to choose another
    one, give the path of its products file (items_shuffle*.json[.gz]) as `data_dir`.

    Raises:
        DataError: a file is missing, or it is not clear which one is meant.
    """
    path = Path(data_dir).expanduser()
    if path.is_file():
        suffix = _suffix(path, "items_shuffle")
        if suffix is None:
            raise DataError(f"data_dir={str(path)!r} is a file; give a folder, or a file named items_shuffle*.json[.gz]")
        folder, items = path.parent, path
    elif path.is_dir():
        folder = path
        variants = _variants(folder, "items_shuffle")
        suffix = "_1000" if "_1000" in variants else _only(folder, "items_shuffle", variants)
        items = _plain_or_gz(folder, "items_shuffle", variants[suffix])
    else:
        raise DataError(
            f"data_dir={str(path)!r} does not exist; give a folder with items_shuffle_1000.json[.gz] and "
            "items_ins_v2_1000.json[.gz], or data_dir=None for the generated catalogue"
        )
    instructions = _variants(folder, "items_ins_v2")
    if suffix not in instructions:
        found = ", ".join(sorted(p.name for group in instructions.values() for p in group)) or "none"
        raise DataError(
            f"{folder}: no items_ins_v2{suffix}.json[.gz] beside {items.name} (items_ins_v2 files found: {found}); "
            "put the instruction file of the same set there"
        )
    return DataFiles(
        items,
        _plain_or_gz(folder, "items_ins_v2", instructions[suffix]),
        _by_suffix(folder, "items_human_ins", suffix),
        _by_suffix(folder, "title_nouns", suffix),
    )


def load_products(files: DataFiles, num_products: int | None = None) -> tuple[Product, ...]:
    """Load the products, with nouns from the noun table or, where it has no entry, from spaCy (extra `[webshop]`)."""
    items = read_json(files.items, slim=True)
    if not isinstance(items, list):
        raise DataError(f"{files.items}: expected a list of products, got {type(items).__name__}")
    instructions = _read_mapping(files.instructions)
    nouns = None if files.nouns is None else _read_mapping(files.nouns)
    try:
        products = products_from_raw(items, instructions, nouns, num_products)
    except DataError as error:
        raise DataError(f"{files.items.parent} ({_names(files)}): {error}") from None
    del items, instructions
    return _with_nouns(products, files)


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
        asin = _text(item, "asin", f"product {index}")
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


def load_human_instructions(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Read items_human_ins*.json[.gz]: ASIN to its human instructions, each checked for what goals need."""
    data = _read_mapping(path)
    for asin, entries in data.items():
        if not isinstance(entries, list):
            raise DataError(f"{path}: entry {asin!r}: expected a list of instructions, got {type(entries).__name__}")
        for i, entry in enumerate(entries):
            where = f"{path}: entry {asin!r}, instruction {i}"
            if not isinstance(entry, Mapping):
                raise DataError(f"{where}: expected an object, got {type(entry).__name__}")
            _text(entry, "instruction", where)
            _texts(entry, "instruction_attributes", where)
            _texts(entry, "instruction_options", where)
    return data


def read_json(path: Path, slim: bool = False) -> Any:
    """Read a JSON file, plain or .gz; `slim` drops at once what products do not use (it matters for 1.18M products).

    Raises:
        DataError: the file cannot be read or is not JSON; the message names it.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return json.loads(data, object_hook=_slim if slim else None)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not readable as {'gzipped ' if path.suffix == '.gz' else ''}JSON: {error}") from error


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


# ---------------------------------------------------------------- one product


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
        lines = _texts(item, "small_description", where)
    entry = instructions.get(asin, {})
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: its instruction entry must be an object, got {type(entry).__name__}")
    attributes = _texts(entry, "attributes", where) if "attributes" in entry else DUMMY_ATTRIBUTES
    instruction = _text(entry, "instruction", where) if entry.get("instruction") is not None else ""
    goal_attributes = _texts(entry, "instruction_attributes", where) if instruction else ()
    if instruction and not goal_attributes:
        raise DataError(f"{where}: has an instruction but no instruction_attributes; add them or drop the instruction")
    known = None if nouns is None else nouns.get(asin)
    product_category = _text(item, "product_category", where)
    category = _text(item, "category", where)
    query = _text(item, "query", where).lower().strip()
    return Product(
        asin=asin,
        title=_text(item, "name", where),
        description=_text(item, "full_description", where),
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
            raise DataError(f"{where}: option {name!r} must be a list of {{'value': text}}, got {type(values).__name__}")
        texts = []
        for value in values:
            if not isinstance(value, Mapping) or not isinstance(value.get("value"), str):
                raise DataError(f"{where}: option {name!r} has {value!r}; expected {{'value': text}}")
            texts.append(value["value"].strip().replace("/", " | ").lower())
        options[name.lower()] = _shared(tuple(texts), pool)
    pairs = tuple((pool.setdefault(name, name), values) for name, values in options.items())
    return pool.setdefault(pairs, pairs)  # type: ignore[no-any-return]


def _shared(texts: tuple[str, ...], pool: dict[Any, Any]) -> tuple[str, ...]:
    if texts in pool:
        return pool[texts]  # type: ignore[no-any-return]
    return pool.setdefault(texts, tuple(pool.setdefault(text, text) for text in texts))  # type: ignore[no-any-return]


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        _wrong(entry, key, where, "a text")
    return value


def _texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key)
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        _wrong(entry, key, where, "a list of texts")
    return tuple(value)


def _wrong(entry: Mapping[str, Any], key: str, where: str, expected: str) -> NoReturn:
    if key not in entry:
        raise DataError(f"{where}: {key!r} is missing; expected {expected}")
    raise DataError(f"{where}: {key}={entry[key]!r} must be {expected}")


# ---------------------------------------------------------------- nouns


def _with_nouns(products: tuple[Product, ...], files: DataFiles) -> tuple[Product, ...]:
    missing = [i for i, product in enumerate(products) if product.nouns is None]
    if not missing:
        return products
    nouns = title_nouns((products[i].title for i in missing), files, len(missing))
    filled = list(products)
    for i, found in zip(missing, nouns, strict=True):
        filled[i] = replace(filled[i], nouns=found)
    return tuple(filled)


def title_nouns(titles: Iterable[str], files: DataFiles, count: int) -> list[tuple[str, ...]]:
    """Lower-cased NOUN/PROPN tokens of each title, by spaCy's en_core_web_sm."""
    table = files.nouns.name if files.nouns else f"title_nouns*.json[.gz] in {files.items.parent}"
    purpose = f"{count} product names have no entry in {table}, and finding their nouns"
    try:
        import spacy  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise MissingExtraError("spacy", "webshop", purpose) from None
    try:
        pipeline = spacy.load("en_core_web_sm", disable=["parser", "ner", "lemmatizer"])
    except OSError:
        raise MissingExtraError("en_core_web_sm", "webshop", purpose) from None
    return [tuple(t.text.lower() for t in doc if t.pos_ in ("NOUN", "PROPN")) for doc in pipeline.pipe(titles)]


# ---------------------------------------------------------------- files


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    if "asin" in entry and "name" in entry:
        return {key: value for key, value in entry.items() if key in _PRODUCT_KEYS}
    if isinstance(entry.get("value"), str):
        return {"value": entry["value"]}
    return entry


def _read_mapping(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object keyed by ASIN, got {type(data).__name__}")
    return data


def _suffix(path: Path, stem: str) -> str | None:
    found = re.fullmatch(re.escape(stem) + r"(.*)\.json(\.gz)?", path.name)
    return found[1] if found else None


def _variants(folder: Path, stem: str) -> dict[str, list[Path]]:
    """Files of one kind by suffix; more than one path where a file is there both plain and as .gz."""
    variants: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"{stem}*.json*")):
        suffix = _suffix(path, stem)
        if suffix is not None and path.is_file():
            variants.setdefault(suffix, []).append(path)
    return variants


def _only(folder: Path, stem: str, variants: Mapping[str, list[Path]]) -> str:
    if not variants:
        raise DataError(f"{folder}: no {stem}*.json[.gz]; expected {stem}_1000.json[.gz] or {stem}.json[.gz]")
    if len(variants) > 1:
        names = ", ".join(path.name for group in variants.values() for path in group)
        raise DataError(f"{folder}: several {stem} files ({names}); give the path of one of them as data_dir")
    return next(iter(variants))


def _plain_or_gz(folder: Path, stem: str, paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise DataError(f"{folder}: both {paths[0].name} and {paths[1].name}; remove one of the two {stem} files")
    return paths[0]


def _by_suffix(folder: Path, stem: str, suffix: str) -> Path | None:
    """The file of the same suffix, else the one without, else the only one there is (all are keyed by ASIN)."""
    variants = _variants(folder, stem)
    if not variants:
        return None
    for choice in (suffix, ""):
        if choice in variants:
            return _plain_or_gz(folder, stem, variants[choice])
    return _plain_or_gz(folder, stem, variants[_only(folder, stem, variants)])


def _names(files: DataFiles) -> str:
    return ", ".join(path.name for path in files if path is not None)

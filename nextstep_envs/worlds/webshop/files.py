"""The published WebShop files on disk: which belong together, and what is in them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nextstep_envs.errors import DataError, MissingExtraError
from nextstep_envs.worlds.webshop.data import products_from_raw, text_of, texts_of
from nextstep_envs.worlds.webshop.products import Product

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
            raise DataError(f"data_dir={str(path)!r} is a file; give a folder or a file items_shuffle*.json[.gz]")
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
            text_of(entry, "instruction", where)
            texts_of(entry, "instruction_attributes", where)
            texts_of(entry, "instruction_options", where)
    return data


def read_json(path: Path, slim: bool = False) -> Any:
    """Read a JSON file, plain or .gz; `slim` drops at once what products do not use (it matters for 1.18M products).

    Raises:
        DataError: the file cannot be read or is not JSON; the message names it.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=_slim if slim else None)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not readable as {'gzipped ' if path.suffix == '.gz' else ''}JSON: {error}") from error


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

"""Loading: from the published schema, in memory or on disk, to products."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError, DataError, MissingExtraError
from nextstep_envs.worlds.webshop.data import parse_prices, products_from_raw
from nextstep_envs.worlds.webshop.files import find_files, load_products
from nextstep_envs.worlds.webshop.products import Product
from tests.envs.worlds.webshop.tiny import raw


def one(**fields: Any) -> Product:
    return products_from_raw([raw("B1", "Thing", **fields)], {})[0]


@pytest.mark.parametrize(
    ("pricing", "prices", "tag"),
    [
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
        ("$877.8", (877.8,), "$877.8"),
        ("$1,847.00", (1847.0,), "$1847.0"),
        ("$19.99 - $27.99", (19.99, 27.99), "$19.99 to $27.99"),
        ("$1$2$3", (1.0, 2.0), "$1.0 to $2.0"),
        ("USD 5", (5.0,), "$5.0"),
        ("ask us", (100.0,), "$100.0"),
    ],
)
def test_prices(pricing: str | None, prices: tuple[float, ...], tag: str) -> None:
    assert parse_prices(pricing) == (prices, tag)


def test_option_names_and_values_are_cleaned_and_keep_their_order_and_repeats() -> None:
    product = one(
        customization_options={
            "Size": [{"value": " L/XL "}, {"value": "s", "image": None}, {"value": "L/XL"}],
            "Style": None,
            "COLOR": [{"value": "Red"}],
        }
    )
    assert product.options == (("size", ("l | xl", "s", "l | xl")), ("color", ("red",)))


@pytest.mark.parametrize("empty", ["", None, {}, {"Color": None}])
def test_no_options(empty: Any) -> None:
    assert one(customization_options=empty).options == ()


def test_a_name_that_differs_only_in_case_replaces_the_earlier_values() -> None:
    product = one(customization_options={"Size": [{"value": "s"}], "hue": [], "SIZE": [{"value": "m"}]})
    assert product.options == (("size", ("m",)), ("hue", ()))


def test_a_single_text_is_one_bullet() -> None:
    assert one(small_description="soft").bullets == ("soft",)
    assert one(small_description="").bullets == ("",)
    assert one(small_description=["a", " "]).bullets == ("a", " ")


def test_query_is_stripped_and_lower_cased() -> None:
    assert one(query=" Console Tables ").query == "console tables"


def test_attributes_without_an_entry_and_with_an_empty_one() -> None:
    first, second = products_from_raw([raw("B1", "x"), raw("B2", "y")], {"B2": {"attributes": []}})
    assert (first.attributes, second.attributes) == (("DUMMY_ATTR",), ())
    assert (first.instruction, first.instruction_attributes) == ("", ())


def test_entries_with_bad_or_repeated_asins_are_left_out_and_the_count_is_of_entries() -> None:
    items = [raw("nan", "a"), raw("B1", "b"), raw("B1", "c"), raw("B1234567890", "d"), raw("B2", "e")]
    assert [p.title for p in products_from_raw(items, {})] == ["b", "e"]
    assert [p.title for p in products_from_raw(items, {}, num_products=4)] == ["b"]


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "3"])
def test_num_products_must_be_positive(number: Any) -> None:
    with pytest.raises(ConfigError, match="num_products=.*> 0"):
        products_from_raw([], {}, num_products=number)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("B1", "product 0: expected an object"),
        ({}, "product 0: 'asin' is missing"),
        (raw("B1", "x") | {"name": None}, r"product 0 \(B1\): name=None"),
        (raw("B1", "x", pricing="$1.2.3"), "pricing='\\$1.2.3'"),
        (raw("B1", "x", pricing=5), "pricing=5"),
        (raw("B1", "x", small_description=[1]), "small_description"),
        (raw("B1", "x", customization_options=["red"]), "customization_options"),
        (raw("B1", "x", customization_options={"Color": "red"}), "'Color' must be a list"),
        (raw("B1", "x", customization_options={"Color": [{"value": 1}]}), "'Color' has"),
    ],
)
def test_a_malformed_entry_is_named(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        products_from_raw([item], {})


def test_a_malformed_instruction_entry_is_named() -> None:
    with pytest.raises(DataError, match=r"product 0 \(B1\).*attributes"):
        products_from_raw([raw("B1", "x")], {"B1": {"attributes": "soft"}})
    with pytest.raises(DataError, match=r"product 0 \(B1\): title nouns"):
        products_from_raw([raw("B1", "x")], {}, {"B1": "lamp"})


# ---------------------------------------------------------------- on disk


def save(path: Path, content: Any) -> Path:
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def fill(folder: Path, suffix: str = "_1000", end: str = "") -> Path:
    save(folder / f"items_shuffle{suffix}.json{end}", [raw("B1", "red lamp"), raw("B2", "blue lamp")])
    save(folder / f"items_ins_v2{suffix}.json{end}", {"B1": {"attributes": ["warm"]}})
    save(folder / f"title_nouns{suffix}.json{end}", {"B1": ["lamp"], "B2": ["lamp"]})
    return folder


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["", "_1000", "_500"])
def test_every_spelling_of_the_files_loads(tmp_path: Path, suffix: str, end: str) -> None:
    first, second = load_products(find_files(fill(tmp_path, suffix, end)))
    assert (first.asin, first.attributes, first.nouns) == ("B1", ("warm",), ("lamp",))
    assert second.attributes == ("DUMMY_ATTR",)


def test_the_small_set_is_preferred_and_a_products_file_selects_its_own_set(tmp_path: Path) -> None:
    fill(fill(tmp_path, ""), "_1000")
    assert find_files(tmp_path).instructions.name == "items_ins_v2_1000.json"
    full = find_files(tmp_path / "items_shuffle.json")
    assert [path and path.name for path in full] == [
        "items_shuffle.json", "items_ins_v2.json", None, "title_nouns.json",
    ]  # fmt: skip


def test_several_other_sets_are_ambiguous(tmp_path: Path) -> None:
    fill(fill(tmp_path, "_a"), "_b")
    with pytest.raises(DataError, match="several items_shuffle files .*_a.json, .*_b.json"):
        find_files(tmp_path)


def test_plain_and_gz_side_by_side_are_ambiguous(tmp_path: Path) -> None:
    fill(fill(tmp_path), end=".gz")
    with pytest.raises(DataError, match="both items_shuffle_1000.json and items_shuffle_1000.json.gz"):
        find_files(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.*does not exist"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no items_shuffle\*"):
        find_files(tmp_path)
    fill(tmp_path)
    (tmp_path / "items_ins_v2_1000.json").rename(tmp_path / "items_ins_v2.json")
    with pytest.raises(DataError, match=r"no items_ins_v2_1000.json.*found: items_ins_v2.json"):
        find_files(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff", b'{"a": 1}', b"[1]"])
def test_a_malformed_products_file_is_named(tmp_path: Path, content: bytes) -> None:
    (fill(tmp_path) / "items_shuffle_1000.json").write_bytes(content)
    with pytest.raises(DataError, match="items_shuffle_1000.json"):
        load_products(find_files(tmp_path))


def test_a_damaged_gz_file_is_named(tmp_path: Path) -> None:
    path = fill(tmp_path, end=".gz") / "items_shuffle_1000.json.gz"
    for damaged in (path.read_bytes()[:-12], b"not gzip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"items_shuffle_1000.json.gz: not readable as gzipped JSON"):
            load_products(find_files(tmp_path))


def test_unknown_nouns_need_spacy_and_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)  # as if it were not installed
    save(fill(tmp_path) / "title_nouns_1000.json", {"B1": ["lamp"]})
    with pytest.raises(MissingExtraError, match=r"1 product names have no entry in title_nouns_1000.json.*webshop"):
        load_products(find_files(tmp_path))
    (tmp_path / "title_nouns_1000.json").unlink()
    with pytest.raises(MissingExtraError, match=r"title_nouns\*.json.*nextstep-envs\[webshop\]"):
        load_products(find_files(tmp_path))


def test_published_products(webshop_data: Path) -> None:
    products = load_products(find_files(webshop_data))
    assert len(products) == 1000
    assert sum(len(p.prices) == 2 for p in products) == 93
    assert sum(bool(p.instruction) for p in products) == 415
    assert sum(p.attributes == () for p in products) == 185
    assert sum(p.title == "" for p in products) == 1
    assert sum(p.bullets in (("",), ()) for p in products) == 69

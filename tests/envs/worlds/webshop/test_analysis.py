"""The analyser: word break, possessives, stop words, stems."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.worlds.webshop.analysis import analyze, tokens
from nextstep_envs.worlds.webshop.files import find_files, load_products
from nextstep_envs.worlds.webshop.search import indexed_text
from nextstep_envs.worlds.webshop.stemmer import stem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red, blue; t-shirt", ["Red", "blue", "t", "shirt"]),
        ("description:solid u.s.a. a·b", ["description:solid", "u.s.a", "a·b"]),
        ("don't ‘quoted’ rock’n’roll", ["don't", "quoted", "rock’n’roll"]),
        ("1,000 3.5 1⁄2 10:30 12'6", ["1,000", "3.5", "1⁄2", "10", "30", "12'6"]),
        ("a.1 1.a size:10 3,a", ["a", "1", "1", "a", "size", "10", "3", "a"]),
        ('52"w x 84in 4k2', ["52", "w", "x", "84in", "4k2"]),
        ("a_b _x_ __ 1_a", ["a_b", "_x_", "1_a"]),
        ("a..b a.-b .5", ["a", "b", "a", "b", "5"]),
        ("½ ❶ ² x² ①", ["x"]),
        ("★good☆ ❤️ ©2020 x™ ➤ok", ["★", "good", "❤️", "©", "2020", "x", "™", "ok"]),
        ("👍🏽👩‍💻🇺🇸🇺", ["👍🏽", "👩‍💻", "🇺🇸"]),
        ("琥珀小米 ひら カタカナー 일품", ["琥", "珀", "小", "米", "ひ", "ら", "カタカナー", "일품"]),
        ("e\u0301te\u0301 soft\u00adhyphen", ["e\u0301te\u0301", "soft\u00adhyphen"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_word_break(text: str, expected: list[str]) -> None:
    assert list(tokens(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Men's WOMEN’S kids＇s", ["men", "women", "kid"]),
        ("the cat is on that mat", ["cat", "mat"]),
        ("it's", []),
        ("day days daily", ["dai", "dai", "daili"]),
        ("X-Large", ["x", "larg"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert analyze(text) == expected


def test_lower_case_goes_character_by_character() -> None:
    assert analyze("ΟΔΟΣ İX") == ["οδοσ", "ix"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("cats", "cat"), ("feed", "feed"),
        ("agreed", "agre"), ("plastered", "plaster"), ("bled", "bled"), ("motoring", "motor"), ("sing", "sing"),
        ("conflated", "conflat"), ("troubled", "troubl"), ("sized", "size"), ("hopping", "hop"), ("tanned", "tan"),
        ("falling", "fall"), ("hissing", "hiss"), ("fizzed", "fizz"), ("failing", "fail"), ("filing", "file"),
        ("happy", "happi"), ("sky", "sky"), ("relational", "relat"), ("conditional", "condit"),
        ("rational", "ration"), ("digitizer", "digit"), ("radically", "radic"), ("differently", "differ"),
        ("analogously", "analog"), ("vietnamization", "vietnam"), ("predication", "predic"), ("operator", "oper"),
        ("feudalism", "feudal"), ("decisiveness", "decis"), ("hopefulness", "hope"), ("callousness", "callous"),
        ("formality", "formal"), ("sensitivity", "sensit"), ("sensibility", "sensibl"), ("triplicate", "triplic"),
        ("electricity", "electr"), ("goodness", "good"), ("revival", "reviv"), ("allowance", "allow"),
        ("replacement", "replac"), ("adjustment", "adjust"), ("adoption", "adopt"), ("probate", "probat"),
        ("rate", "rate"), ("cease", "ceas"), ("controlling", "control"), ("roll", "roll"), ("by", "by"),
        ("possibly", "possibl"), ("archaeology", "archaeolog"), ("8.5", "8.5"), ("naïvely", "naïv"),
    ],
)  # fmt: skip
def test_stems(word: str, expected: str) -> None:
    assert stem(word) == expected


@given(st.text(max_size=60))
def test_tokens_are_pieces_of_the_text_in_order(text: str) -> None:
    position = 0
    for token in tokens(text):
        assert token
        position = text.index(token, position) + len(token)


@given(st.text(alphabet="ab1_.,:' é漢★-", max_size=30), st.text(alphabet="ab1_.,:' é漢★-", max_size=30))
def test_a_space_always_separates(left: str, right: str) -> None:
    assert list(tokens(f"{left} {right}")) == [*tokens(left), *tokens(right)]


def test_the_longest_tokens_are_cut() -> None:
    assert list(map(len, tokens("a" * 600))) == [255, 255, 90]


def test_long_runs_of_joiners_take_linear_time() -> None:
    assert list(tokens("_" * 100_000 + "\u0301" * 100_000)) == []


def test_reference_tokens_of_every_document(webshop_data: Path) -> None:
    golden = json.loads(gzip.decompress((webshop_data / "lucene_tokens_1000.json.gz").read_bytes()))
    products = load_products(find_files(webshop_data))
    assert [p.asin for p in products if " ".join(analyze(indexed_text(p))) != golden[p.asin]] == []

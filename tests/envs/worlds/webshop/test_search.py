"""Search: the reference's ranking, ties, hidden prefixes."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.worlds.webshop.analysis import analyze
from nextstep_envs.worlds.webshop.search import SearchIndex, indexed_text, stored_length
from nextstep_envs.worlds.webshop.shop import Shop, load_shop
from tests.envs.worlds.webshop.tiny import tiny_shop


def plain_bm25(documents: dict[str, str], query: str) -> list[tuple[str, float]]:
    """The formula, written out."""
    terms = {asin: analyze(text) for asin, text in documents.items()}
    lengths = [len(t) for t in terms.values() if t]
    n, average = len(lengths), sum(lengths) / max(len(lengths), 1)
    scores = {}
    for asin, own in terms.items():
        length = int(stored_length(np.array([len(own)]))[0])
        total = 0.0
        for term, count in Counter(analyze(query)).items():
            f, holders = own.count(term), sum(term in other for other in terms.values())
            if f:
                weight = math.log(1 + (n - holders + 0.5) / (holders + 0.5))
                total += count * weight * f / (f + 0.9 * (1 - 0.4 + 0.4 * length / average))
        if total:
            scores[asin] = float(np.float32(total))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:50]


words = st.lists(st.sampled_from(["red", "lamp", "hats", "hat", "the", "soft", "x"]), max_size=60).map(" ".join)


@given(st.lists(words, min_size=1, max_size=70), words)
def test_scores_follow_the_formula(texts: list[str], query: str) -> None:
    asins = [f"B{i * 7919 % 1000:03}" for i in range(len(texts))]
    expected = plain_bm25(dict(zip(asins, texts, strict=True)), query)
    index = SearchIndex(asins, texts)
    found = index.scores(query)
    assert [asin for asin, _ in found] == [asin for asin, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert index.search(query) == tuple(asin for asin, _ in found)


def test_equal_scores_come_in_ascending_asin_and_the_cut_keeps_the_first() -> None:
    asins = [f"B{i:03}" for i in random.Random(0).sample(range(200), 200)]
    index = SearchIndex(asins, ["soft lamp"] * 200)
    assert index.search("lamp") == tuple(sorted(asins)[:50])


def test_only_documents_with_a_query_term_are_found() -> None:
    index = SearchIndex(["A", "B", "C"], ["red lamp", "blue lamp", ""])
    assert index.search("red") == ("A",)
    assert index.search("green") == index.search("the") == index.search("") == index.search(" ") == ()


def test_repeated_query_terms_count() -> None:
    index = SearchIndex(["A", "B", "C"], ["red sofa", "blue sofa", "x y"])
    once, twice = dict(index.scores("red")), dict(index.scores("red reds"))
    assert twice["A"] == pytest.approx(2 * once["A"], rel=1e-6)


def test_lossy_document_length() -> None:
    lengths = np.array([0, 1, 23, 24, 39, 40, 41, 42, 55, 56, 59, 60, 103, 120, 1000])
    assert stored_length(lengths).tolist() == [0, 1, 23, 24, 39, 40, 40, 42, 54, 56, 56, 60, 96, 120, 984]


def test_indexed_text_holds_title_description_first_bullet_and_options() -> None:
    shop = tiny_shop()
    assert indexed_text(shop.product("LAMP1")) == (
        'lamp    shiny  color: red, the "big" one, été, o\'neil <b>, plain, and size: l | xl, red, l | xl, '
    )


def test_hidden_prefixes(shop: Shop) -> None:
    bulk = [f"BULK{i:02}" for i in range(23)]
    assert shop.search("<c> bulk") == shop.search("<q> bulk things") == shop.search("<c> bulk and more") == bulk
    assert shop.search("<q> bulk") == shop.search("<c>") == shop.search("<c>  bulk") == []
    assert shop.search("<c>bulk") == shop.search(" <c> bulk")  # not the first word: an ordinary query


def test_random_prefix(shop: Shop) -> None:
    drawn = shop.search("<r>", random.Random(1))
    assert sorted(drawn) == sorted(shop.products)  # fewer than 50 products
    assert drawn == shop.search("<r> ignored", random.Random(1)) != shop.search("<r>", random.Random(2))
    assert shop.search("<r>") == shop.search("<r>")


def test_a_result_list_is_the_callers_own(shop: Shop) -> None:
    shop.search("lamp").clear()
    assert shop.search("lamp") == ["LAMP3", "LAMP2", "LAMP1"]


def test_reference_searches(webshop_data: Path) -> None:
    shop = load_shop(webshop_data)
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))["searches"]
    assert len(golden) == 30
    for search in golden:
        assert shop.search(search["query"]) == search["asins"]
        scores = [score for _, score in shop.search_scores(search["query"], len(search["scores"]))]
        assert scores == pytest.approx(search["scores"], abs=1e-4)


def test_the_index_agrees_with_the_formula_on_published_products(webshop_data: Path) -> None:
    shop = load_shop(webshop_data)
    documents = {asin: indexed_text(product) for asin, product in shop.products.items()}
    for query in ("men's sandals", "black black leather sofa 2"):
        assert shop.search(query) == [asin for asin, _ in plain_bm25(documents, query)]

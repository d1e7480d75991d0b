"""The reward of a purchase: parts, quirks and recorded cases."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.errors import DataError
from nextstep_envs.worlds.webshop.products import Goal, Product
from nextstep_envs.worlds.webshop.reward import COLORS, count_option_hits, plain_color, score_purchase
from nextstep_envs.worlds.webshop.shop import load_shop

PRODUCT = Product(
    asin="B1",
    title="Soft Wool Hat",
    description="Keeps you WARM.",
    bullets=("Hand wash", "only"),
    category="fashion",
    product_category="Clothing › Men › Hats",
    query="men's hats",
    prices=(12.0,),
    price_tag="$12.0",
    options=(("color", ("navy blue", "red")), ("size", ("small", "large"))),
    attributes=("long lasting", "machine wash"),
    nouns=("wool", "hat"),
)
GOAL = Goal(
    asin="B1",
    instruction="Find me a hat",
    attributes=("long lasting",),
    options=(("color", "navy blue"), ("size", "small")),
    price_upper=20.0,
    weight=1.0,
    query="men's hats",
    product_category="Clothing › Men › Hats",
    title="Soft Wool Hat",
    nouns=("wool", "hat"),
)
RIGHT = {"color": "navy blue", "size": "small"}


def test_the_right_purchase_is_a_success() -> None:
    outcome = score_purchase(PRODUCT, 12.0, GOAL, RIGHT)
    assert (outcome.score, outcome.success) == (1.0, True)
    assert outcome.details == {
        "r_type": 1.0, "query_match": True, "category_match": True, "title_score": 1.0,
        "r_att": 1.0, "w_att": 0.25, "r_option": 1.0, "w_option": 0.5, "r_price": True, "w_price": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("price", "options", "score"),
    [
        (20.0, RIGHT, 1.0),
        (20.01, RIGHT, 0.75),
        (12.0, {}, 0.5),
        (12.0, {"size": "small"}, 0.75),
        (12.0, {"size": "large"}, 0.5),
        (12.0, RIGHT | {"fit": "anything"}, 1.0),
        (12.0, {"other name": "navy blue", "x": "small"}, 1.0),
    ],
)
def test_price_and_options(price: float, options: dict[str, str], score: float) -> None:
    outcome = score_purchase(PRODUCT, price, GOAL, options)
    assert outcome.score == score
    assert outcome.success == (score == 1.0)


def test_a_goal_without_options_has_no_option_parts() -> None:
    outcome = score_purchase(PRODUCT, 12.0, replace(GOAL, options=()), {"size": "small"})
    assert outcome.score == 1.0
    assert "r_option" not in outcome
    assert "w_option" not in outcome
    assert outcome["w_price"] == outcome["w_att"] == 0.5


@pytest.mark.parametrize(
    ("attribute", "hit"),
    [
        ("long lasting", True),
        ("lasting", True),  # all its words are in an attribute
        ("long-lasting wear", True),  # all words of an attribute are in it
        ("machine washable", True),  # similar enough
        ("machine dry", False),
        ("wool ha", True),  # substring of the title
        ("wash only", True),  # of the bullets, joined by a space
        ("warm", True),  # of the description
        ("Warm", False),  # as it is written; the product's text is lower-cased
    ],
)
def test_attribute_hits(attribute: str, hit: bool) -> None:
    assert score_purchase(PRODUCT, 12.0, replace(GOAL, attributes=(attribute,)), {}).r_att == hit


def test_colour_list() -> None:
    assert len(COLORS) == len(set(COLORS)) == 102
    assert list(COLORS) == sorted(COLORS)


@pytest.mark.parametrize(
    ("text", "color"),
    [("standard", "tan"), ("navy blue", "blue"), ("black red", "black"), ("dark grey", "dark"), ("10", "10")],
)
def test_plain_colour_is_the_first_of_the_list_found_anywhere(text: str, color: str) -> None:
    assert plain_color(text) == color


@pytest.mark.parametrize(
    ("chosen", "goals", "hits"),
    [
        # Plain values of human goals: both sides become plain colours.
        (["light navy"], ("navy light blue",), 0),  # 'light' against 'blue'
        (["navy blue"], ("sky blue",), 1),
        (["standard size"], ("a tan one",), 1),
        # Pairs of synthetic goals: only a value that is a bare colour is replaced, and the name is one more word.
        (["navy blue"], (("color", "blue"),), 1),
        (["red"], (("color", "dark red"),), 1),
        (["dark red"], (("color", "dark red"),), 1),  # chosen becomes 'dark', which the pair contains
        (["navy blue"], (("color", "navy"),), 0),
        (["small"], (("size", "small"), ("fit", "small")), 2),
        (["color"], (("color", "teal blue"),), 1),  # the name matches too
        (["x-large"], (("size", "xx-large"),), 0),
        (["small"], (("red", "large"), ("size", "large")), 0),
        (["red"], (("red", "large"),), 1),  # an option named like a colour
        ([], (("size", "small"),), 0),
        (["!"], (("size", "!"),), 0),
        (["!"], ("!",), 0),
        (["small"], (), 0),
    ],
)
def test_option_hits(chosen: list[str], goals: tuple[str | tuple[str, str], ...], hits: int) -> None:
    assert count_option_hits(chosen, goals) == hits


@pytest.mark.parametrize(
    ("query", "category", "bought", "wanted", "r_type", "title_score"),
    [
        ("men's hats", "A › B", ("hat",), ("hat",), 1.0, 1.0),
        ("other", "A › B", ("hat",), ("hat", "wool", "cap", "x"), 1.0, 0.25),
        ("other", "A › B", ("hat",), ("hat", "wool", "cap", "x", "y"), 0.5, 0.2),
        ("men's hats", "A › B", ("hat",), ("hat", "wool", "cap", "x", "y"), 1.0, 0.2),
        ("other", "Hats › Men › C", ("hat",), ("hat", "wool", "cap", "x", "y"), 1.0, 0.2),  # two levels, any order
        ("other", "Men › Men › C", ("hat",), ("hat", "wool", "cap", "x", "y"), 0.5, 0.2),  # one distinct level
        ("men's hats", "A › B", ("hat",), ("hat", *"abcdefghij"), 0.1, 1 / 11),  # even where the query matches
        ("men's hats", "Men › Hats", ("hat",), ("cap",), 0.0, 0.0),
        ("men's hats", "A › B", (), ("cap",), 0.0, 0.0),
        ("other", "A › B", ("hat",), (), 0.5, 0.2),  # a goal without nouns
        ("men's hats", "A › B", (), (), 1.0, 0.2),
        ("men's hats", "A › B", ("hat", "hat"), ("hat", "hat"), 1.0, 0.5),  # repeats count in the goal only
    ],
)
def test_type_reward(
    query: str, category: str, bought: tuple[str, ...], wanted: tuple[str, ...], r_type: float, title_score: float
) -> None:
    product = replace(PRODUCT, query=query, product_category=category, nouns=bought)
    outcome = score_purchase(product, 12.0, replace(GOAL, nouns=wanted), RIGHT)
    assert (outcome.r_type, outcome.title_score, outcome.score) == (r_type, title_score, r_type)


def test_the_quotient_is_rounded_before_the_type_factor() -> None:
    attributes = ("long lasting", "q1", "q2", "q3", "q4", "q5")
    goal = replace(GOAL, attributes=attributes, options=(), price_upper=1.0, nouns=("hat", *"abcdefghij"))
    assert repr(score_purchase(PRODUCT, 12.0, goal, {}).score) == "0.014285714285714285"


def test_unknown_nouns_are_an_error() -> None:
    with pytest.raises(DataError, match="B1.*nouns"):
        score_purchase(replace(PRODUCT, nouns=None), 12.0, GOAL, {})


@given(st.dictionaries(st.sampled_from(["color", "size"]), st.text(max_size=8)), st.floats(0, 40))
def test_scores_lie_in_0_1_and_equal_their_parts(options: dict[str, str], price: float) -> None:
    outcome = score_purchase(PRODUCT, price, GOAL, options)
    parts = sum(outcome[f"r_{part}"] * outcome[f"w_{part}"] for part in ("att", "option", "price"))
    assert 0 <= outcome.score <= 1
    assert outcome.score == pytest.approx(parts * outcome.r_type)


def test_reference_purchases(webshop_data: Path) -> None:
    shop = load_shop(webshop_data)
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))["purchases"]
    assert len(golden) == 45
    for purchase in golden:
        outcome = shop.score(purchase["task_id"], purchase["asin"], purchase["options"])
        assert outcome.score == pytest.approx(purchase["reward"], abs=1e-9)
        assert outcome.details == pytest.approx(purchase["info"], abs=1e-9)

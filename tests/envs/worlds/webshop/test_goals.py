"""Goals: their texts, limits, order and weights."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.errors import DataError
from nextstep_envs.worlds.webshop.data import products_from_raw
from nextstep_envs.worlds.webshop.goals import NO_LIMIT, Goals, build_goals, cumulative_weights, sample_index
from nextstep_envs.worlds.webshop.products import Product
from nextstep_envs.worlds.webshop.shop import load_shop
from tests.envs.worlds.webshop.tiny import options, raw


def products(pricing: str = "$5", attributes: tuple[str, ...] = ("soft",), **names: list[str]) -> tuple[Product, ...]:
    """One product with a synthetic instruction."""
    entry = {"attributes": [], "instruction": "Find it", "instruction_attributes": list(attributes)}
    item = raw("B1", "hat", pricing=pricing, customization_options=options(**names))
    return products_from_raw([item], {"B1": entry}, {"B1": ["hat"]})


def limits(pricing: str) -> set[float]:
    return {build_goals(products(pricing), seed)[0][0].price_upper for seed in range(60)}


@pytest.mark.parametrize(
    ("pricing", "expected"),
    [
        ("$5", {20.0, 30.0, 40.0}),
        ("$10", {30.0, 40.0, 50.0}),
        ("$9.99", {20.0, 30.0, 40.0}),
        ("$960", {980.0, 990.0}),
        ("$979.99", {990.0}),
        ("$980", {NO_LIMIT}),
        ("$5000", {NO_LIMIT}),
    ],
)
def test_the_limit_is_the_larger_of_two_of_the_next_four_ladder_prices(pricing: str, expected: set[float]) -> None:
    assert limits(pricing) == expected


def test_text_of_a_synthetic_goal() -> None:
    goals, _ = build_goals(products(size=["s"], color=["red"]), 0)
    limit = goals[0].price_upper
    assert goals[0].instruction == f"Find it with color: red, and size: s, and price lower than {limit:.2f} dollars"
    assert build_goals(products("$2000"), 0)[0][0].instruction == "Find it"


def test_one_goal_for_each_combination_in_the_seed_233_order() -> None:
    goals, _ = build_goals(products(size=["s", "m", "s"], color=["red", "blue"]), 0)
    expected = [(("color", c), ("size", s)) for c in ("red", "blue") for s in ("s", "m", "s")]
    random.Random(233).shuffle(expected)
    assert [goal.options for goal in goals] == expected
    assert [goals[i].options for i in range(len(goals))] == expected
    assert [goal.options for goal in goals[1:3]] == expected[1:3]
    assert goals[-1] == list(goals)[-1]
    with pytest.raises(IndexError):
        goals[6]


def test_an_option_without_values_leaves_no_goal_but_its_draw_happens() -> None:
    empty = raw("B1", "hat", customization_options={"Size": []})
    items = [empty, raw("B2", "cap")]
    entry = {"attributes": [], "instruction": "Find it", "instruction_attributes": ["soft"]}
    nouns = {"B1": ["hat"], "B2": ["cap"]}
    goals, _ = build_goals(products_from_raw(items, {"B1": entry, "B2": entry}, nouns), 3)
    rng = random.Random(3)
    rng.sample([10.0, 20.0, 30.0, 40.0], 2)
    assert [goal.asin for goal in goals] == ["B2"]
    assert goals[0].price_upper == max(rng.sample([10.0, 20.0, 30.0, 40.0], 2))


def test_draws_follow_the_reference_order_all_range_prices_first() -> None:
    items = [raw("B1", "a", pricing="$1 - $2"), raw("B2", "b"), raw("B3", "c", pricing="$300 - $200")]
    entry = {"attributes": [], "instruction": "Find it", "instruction_attributes": ["soft"]}
    nouns = {asin: ["x"] for asin in ("B1", "B2", "B3")}
    goals, prices = build_goals(products_from_raw(items, {"B1": entry, "B3": entry}, nouns), 7)
    rng = random.Random(7)
    expected = (rng.uniform(1.0, 2.0), 5.0, rng.uniform(300.0, 200.0))
    assert prices == expected
    ladder = [10.0 * i for i in range(1, 100)]
    for asin, price in (("B1", expected[0]), ("B3", expected[2])):
        limit = max(rng.sample([p for p in ladder if p > price][:4], 2))
        assert next(goal for goal in goals if goal.asin == asin).price_upper == limit


def test_weights_are_the_mean_rarity_of_the_attributes() -> None:
    items = [raw("B1", "a", customization_options=options(size=["s", "m", "l"])), raw("B2", "b")]
    instructions = {
        "B1": {"attributes": [], "instruction": "x", "instruction_attributes": ["soft", "warm"]},
        "B2": {"attributes": [], "instruction": "y", "instruction_attributes": ["soft"]},
    }
    goals, _ = build_goals(products_from_raw(items, instructions, {"B1": ["a"], "B2": ["b"]}), 0)
    expected = {"B1": (1 / 4 + 1 / 3) / 2, "B2": 1 / 4}
    assert [goal.weight for goal in goals] == pytest.approx([expected[goal.asin] for goal in goals])
    assert list(goals.weights()) == [goal.weight for goal in goals]


def human(*entries: dict[str, Any]) -> Goals:
    items = products_from_raw([raw("B1", "hat", pricing="$2000")], {}, {"B1": ["hat"]})
    return build_goals(items, 0, {"B1": entries, "B2": [entries[0]]})[0]


def test_human_goals_have_plain_option_values_and_stripped_dots() -> None:
    entry = {"instruction": "..i want a hat. now.", "instruction_attributes": ["soft"], "instruction_options": ["red"]}
    goals = human(entry, entry | {"instruction_attributes": []}, entry | {"instruction_options": []})
    assert goals.skipped == 1
    assert {goal.instruction for goal in goals} == {"i want a hat. now"}
    assert {goal.options for goal in goals} == {("red",), ()}
    assert list(goals.weights()) == [1.0, 1.0]


def test_an_instruction_without_attributes_is_named() -> None:
    with pytest.raises(DataError, match="B1.*instruction_attributes"):
        build_goals(products(attributes=()), 0)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.integers())
def test_the_weighted_draw_never_gives_goal_0_unless_it_is_the_only_one(weights: list[float], seed: int) -> None:
    index = sample_index(cumulative_weights(weights, range(len(weights))), random.Random(seed))
    assert index == 0 if len(weights) == 1 else 1 <= index < len(weights)


def test_the_weighted_draw_is_off_by_one() -> None:
    weights = [1.0, 2.0, 3.0, 4.0]
    rng = random.Random(0)
    cumulative = cumulative_weights(weights, range(4))
    drawn = Counter(sample_index(cumulative, rng) for _ in range(20_000))
    assert {i: round(n / 20_000, 1) for i, n in drawn.items()} == {1: 0.1, 2: 0.2, 3: 0.7}


def test_published_synthetic_goals(webshop_data: Path) -> None:
    shop = load_shop(webshop_data)
    assert len(shop.goals) == 6910
    assert Counter(len(goal.options) for goal in shop.goals) == {0: 185, 1: 538, 2: 4729, 3: 1458}
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))
    for purchase in golden["purchases"]:
        assert shop.prices[purchase["asin"]] == purchase["price"]
    for episode in golden["episodes"]:
        goals = load_shop(webshop_data, goals=episode["goal_set"]).goals
        assert f" [SEP] {goals[int(episode['task_id'])].instruction} [SEP] " in episode["steps"][0]["text"]


def test_published_human_goals(webshop_data: Path) -> None:
    goals = load_shop(webshop_data, goals="human").goals
    assert len(goals) == 13
    assert goals.skipped == 0
    assert set(goals.weights()) == {1.0}


def test_the_order_does_not_depend_on_the_price_seed(webshop_data: Path) -> None:
    first, second = load_shop(webshop_data), load_shop(webshop_data, price_seed=1)
    assert [(g.asin, g.options) for g in first.goals] == [(g.asin, g.options) for g in second.goals]
    assert [g.price_upper for g in first.goals] != [g.price_upper for g in second.goals]

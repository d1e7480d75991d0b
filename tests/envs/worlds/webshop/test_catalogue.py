"""The generated catalogue: published schema, seeded, and hard for who does not read."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.types import Outcome
from nextstep_envs.worlds.webshop.catalogue import generate
from nextstep_envs.worlds.webshop.data import products_from_raw
from nextstep_envs.worlds.webshop.fuzzy import similar
from nextstep_envs.worlds.webshop.products import Goal
from nextstep_envs.worlds.webshop.reward import count_option_hits
from nextstep_envs.worlds.webshop.shop import Shop, load_shop
from nextstep_envs.worlds.webshop.vocabulary import DOMAINS

TASKS = 200


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load_shop()


def test_a_seed_fixes_every_product() -> None:
    assert generate(120, seed=3) == generate(120, seed=3)
    assert generate(120, seed=3) != generate(120, seed=4)


def test_a_larger_catalogue_begins_with_the_smaller_one() -> None:
    small, large = generate(80), generate(200)
    assert large[0][:80] == small[0]
    assert small[1].items() <= large[1].items()


@pytest.mark.parametrize("number", [0, -1, 2.5, True])
def test_a_bad_number_of_products_is_named(number: object) -> None:
    with pytest.raises(ConfigError, match=str(number)):
        generate(number)  # type: ignore[arg-type]


def test_the_loader_keeps_every_product() -> None:
    items, instructions, nouns = generate(1000)
    products = products_from_raw(items, instructions, nouns)
    assert len(products) == len({p.asin for p in products}) == 1000
    assert Counter(p.category for p in products) == dict.fromkeys((d.name for d in DOMAINS), 200)
    assert all(p.nouns and p.title and p.bullets and p.options and p.attributes for p in products)
    assert any(len(p.prices) == 2 for p in products)


def test_there_are_goals_for_every_split_and_no_product_dominates(shop: Shop) -> None:
    assert len(shop.goals) >= 2500
    assert len(shop.split("train")) >= 1000
    assert max(Counter(goal.asin for goal in shop.goals).values()) <= 20


def test_every_domain_has_many_types_of_product(shop: Shop) -> None:
    kinds = {(p.category, p.query) for p in shop.products.values() if "accessories" not in p.query}
    assert all(count >= 8 for count in Counter(category for category, _ in kinds).values())


def test_the_fuzzy_reward_confuses_no_two_attributes_of_a_domain() -> None:
    for domain in DOMAINS:
        for (first, _), (second, _) in itertools.combinations(domain.attributes, 2):
            assert not similar(first, second), (first, second)


def test_each_option_value_satisfies_itself_and_no_other_value() -> None:
    for domain in DOMAINS:
        for name, values in domain.options:
            for chosen, wanted in itertools.product(values, values):
                assert count_option_hits([chosen], [(name, wanted)]) == (chosen == wanted), (chosen, wanted)


def test_buying_the_target_with_its_options_is_a_success(shop: Shop) -> None:
    for task, goal in enumerate(itertools.islice(shop.goals, TASKS)):
        assert shop.score(task, goal.asin, dict(goal.options)).success


def first_hit(shop: Shop, task: int, goal: Goal) -> Outcome:
    return shop.score(task, shop.search(goal.instruction)[0], {})


def careful(shop: Shop, task: int, goal: Goal) -> Outcome:
    """Opens the first page of results, reads everything, and takes what fits best. It knows no trade words."""

    def fit(asin: str) -> int:
        product = shop.product(asin)
        text = " ".join((product.title, product.description, *product.bullets)).lower()
        values = {value for _, values in product.options for value in values}
        found = sum(attribute in text for attribute in goal.attributes) + sum(v in values for _, v in goal.options)
        return found + (product.prices[0] <= goal.price_upper)

    return shop.score(task, max(shop.search(goal.instruction)[:10], key=fit), dict(goal.options))


def test_the_first_hit_is_poor_and_care_pays(shop: Shop) -> None:
    tasks = list(enumerate(itertools.islice(shop.goals, TASKS)))
    naive = sum(first_hit(shop, i, goal).score for i, goal in tasks) / TASKS
    good = sum(careful(shop, i, goal).score for i, goal in tasks) / TASKS
    assert naive <= 0.45
    assert good >= 0.9


def test_large_catalogues_have_few_instructions() -> None:
    _, instructions, _ = generate(4000)
    assert 1000 < sum("instruction" in entry for entry in instructions.values()) < 2000

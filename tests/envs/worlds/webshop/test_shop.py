"""The shop as a library: loading, splits, ids, sharing."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.worlds.webshop import load_shop
from nextstep_envs.worlds.webshop.data import products_from_raw
from nextstep_envs.worlds.webshop.shop import Shop
from tests.envs.worlds.webshop.tiny import options, raw


def folder_with(folder: Path, names: int = 1, values: int = 1) -> Path:
    """A data folder with one product and `values ** names` goals."""
    choices = {f"option{i}": [f"value{j}" for j in range(values)] for i in range(names)}
    entry = {"attributes": ["soft"], "instruction": "Find it", "instruction_attributes": ["soft"]}
    human = {"instruction": "a hat.", "instruction_attributes": ["soft"], "instruction_options": ["red"]}
    (folder / "items_shuffle.json").write_text(
        json.dumps([raw("B1", "soft hat", customization_options=options(**choices))])
    )
    (folder / "items_ins_v2.json").write_text(json.dumps({"B1": entry}))
    (folder / "title_nouns.json").write_text(json.dumps({"B1": ["hat"]}))
    (folder / "items_human_ins.json").write_text(json.dumps({"B1": [human]}))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"goals": "robot"}, "goals='robot' is unknown; choose one of 'synthetic', 'human'"),
        ({"num_products": 0}, "num_products=0"),
        ({"num_products": -3}, "num_products=-3"),
        ({"price_seed": "0"}, "price_seed='0'"),
        ({"goals": "human", "data_dir": None}, "goals='human' needs data_dir"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_shop(**({"data_dir": folder_with(tmp_path)} | arguments))


def test_missing_human_file_is_named(tmp_path: Path) -> None:
    (folder_with(tmp_path) / "items_human_ins.json").unlink()
    with pytest.raises(DataError, match="items_human_ins"):
        load_shop(tmp_path, goals="human")


@pytest.mark.parametrize("content", [[], {"B1": {}}, {"B1": [1]}, {"B1": [{"instruction": "x"}]}])
def test_malformed_human_file_is_named(tmp_path: Path, content: Any) -> None:
    (folder_with(tmp_path) / "items_human_ins.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="items_human_ins.json"):
        load_shop(tmp_path, goals="human")


def test_splits_follow_the_published_ranges_only_with_more_than_1500_goals(tmp_path: Path) -> None:
    small = load_shop(folder_with(tmp_path, 2, 38))  # 1,444 goals
    assert {small.split(name) for name in ("train", "dev", "test", "all")} == {range(1444)}
    large = load_shop(folder_with(tmp_path, 2, 39))  # 1,521 goals
    assert [large.split(name) for name in ("test", "dev", "train", "all")] == [
        range(500), range(500, 1500), range(1500, 1521), range(1521),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="split='val'"):
        large.split("val")


def test_samples_stay_in_their_split_and_never_give_its_first_goal(tmp_path: Path) -> None:
    shop = load_shop(folder_with(tmp_path, 2, 39))
    rng = random.Random(0)
    for name in ("test", "dev", "train", "all"):
        drawn = {shop.sample(name, rng) for _ in range(3000)}
        numbers = shop.split(name)
        assert drawn <= set(numbers) - {numbers.start}
        assert numbers[-1] in drawn or name == "all"


@pytest.mark.parametrize("task_id", ["2", "-1", "01", "x", "", "٣", "9" * 5000, 1, -1, False, 0.0, None])
def test_unknown_task_ids(shop: Shop, task_id: Any) -> None:
    shop = Shop(list(shop.products.values())[1:2])  # one goal
    with pytest.raises(ConfigError, match="task_id=.*use '0' to '0'"):
        shop.goal(task_id)
    with pytest.raises(ConfigError, match="task_id="):
        shop.score(task_id, "LAMP2", {})


def test_unknown_asin(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="asin='nothing'"):
        shop.score("0", "nothing", {})


def test_a_shop_needs_products_goals_and_nouns() -> None:
    with pytest.raises(DataError, match="no products"):
        Shop([])
    with pytest.raises(DataError, match="nouns of 1 products"):
        Shop(products_from_raw([raw("B1", "x")], {}))
    with pytest.raises(DataError, match="none of the 1 products has a synthetic instruction"):
        Shop(products_from_raw([raw("B1", "x")], {}, {"B1": []}))


def test_the_same_files_are_loaded_once_and_changed_files_again(tmp_path: Path) -> None:
    first = load_shop(folder_with(tmp_path))
    assert load_shop(str(tmp_path)) is first
    assert load_shop(tmp_path, price_seed=1) is not first
    assert len(load_shop(folder_with(tmp_path, 1, 3)).goals) == 3


def test_copies_and_pickles_are_cheap(tmp_path: Path, shop: Shop) -> None:
    loaded = load_shop(folder_with(tmp_path))
    assert copy.deepcopy(loaded) is copy.copy(loaded) is loaded
    assert len(pickle.dumps(loaded)) < 500
    assert pickle.loads(pickle.dumps(loaded)) is loaded
    again = pickle.loads(pickle.dumps(shop))  # built in memory: the products travel
    assert again.search("lamp") == shop.search("lamp")
    assert list(again.goals) == list(shop.goals)


def test_the_generated_catalogue_is_the_default() -> None:
    shop = load_shop(num_products=60)
    assert len(shop.products) == 60
    goal = shop.goal("0")
    best = shop.score("0", goal.asin, dict(goal.options))
    assert best.r_att == 1.0
    assert shop.search(goal.title)[0] == goal.asin
    assert pickle.loads(pickle.dumps(shop)) is shop


def test_importing_the_shop_loads_nothing_heavy() -> None:
    code = "import nextstep_envs.worlds.webshop, sys; print([m for m in ('torch', 'spacy', 'bs4') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_published_shop(webshop_data: Path) -> None:
    shop = load_shop(webshop_data)
    assert (len(shop.products), len(shop.goals)) == (1000, 6910)
    assert shop.split("train") == range(1500, 6910)
    human = load_shop(webshop_data, goals="human")
    assert human.split("test") == human.split("train") == range(13)
    few = load_shop(webshop_data, num_products=100)
    assert list(few.products) == list(shop.products)[:100]

"""The shop as a `World`."""

from __future__ import annotations

import copy
import json
import pickle
import random
from pathlib import Path

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.types import Task
from nextstep_envs.worlds.base import World
from nextstep_envs.worlds.webshop.session import Session
from nextstep_envs.worlds.webshop.world import WebShopWorld
from tests.envs.worlds.webshop.tiny import options, raw


def write(folder: Path) -> Path:
    """A small data folder: one product with options and one without, so goals of both kinds."""
    instruction = {"attributes": ["soft"], "instruction": "Find it", "instruction_attributes": ["soft"]}
    items = [raw("B1", "soft hat", customization_options=options(Size=["S", "M"])), raw("B2", "soft cap")]
    (folder / "items_shuffle.json").write_text(json.dumps(items))
    (folder / "items_ins_v2.json").write_text(json.dumps({"B1": instruction, "B2": instruction}))
    (folder / "title_nouns.json").write_text(json.dumps({"B1": ["hat"], "B2": ["cap"]}))
    return folder


@pytest.fixture
def world(tmp_path: Path) -> WebShopWorld:
    return WebShopWorld(write(tmp_path))


def task_without_options(world: WebShopWorld) -> Task:
    return next(world.task(i) for i in world.ids("all") if world.shop.goal(i).asin == "B2")


def test_a_task_shows_its_instruction_and_nothing_of_its_goal(world: WebShopWorld) -> None:
    checked: World = world
    task = checked.task("1")
    assert task == Task("1", world.shop.goals[1].instruction)
    assert world.ids("all") == ("0", "1", "2") == world.ids("train")
    assert world.sample_id("test", random.Random(0)) in ("1", "2")
    state = world.begin(task, random.Random(0))
    assert state == Session("1") and task.prompt in world.view(state)


def test_beginning_draws_nothing(world: WebShopWorld) -> None:
    rng = random.Random(0)
    before = rng.getstate()
    world.begin(world.task("0"), rng)
    assert rng.getstate() == before


def test_acting_is_pure_so_states_fork(world: WebShopWorld) -> None:
    start = world.begin(world.task("0"), random.Random(0))
    found, page = world.act(start, "search[hat]")
    assert world.view(found) == page and world.view(start) != page
    bought, _ = world.act(world.act(found, "click[b1]")[0], "click[buy now]")
    assert world.done(bought) and not world.done(found)
    assert world.available(bought) == {"has_search_bar": False, "clickables": []}
    assert world.act(start, "search[hat]") == (found, page)


def test_the_outcome_has_the_same_parts_with_and_without_a_purchase(world: WebShopWorld) -> None:
    for task in (world.task(i) for i in world.ids("all")):
        state = world.act(world.begin(task, random.Random(0)), "search[soft]")[0]
        state = world.act(state, "click[b2]")[0]
        nothing = world.outcome(task, state)
        bought = world.outcome(task, world.act(state, "click[buy now]")[0])
        assert (nothing.score, nothing.success) == (0.0, False)
        assert list(nothing) == list(bought) and set(nothing.details.values()) == {0.0}
        assert {"r_type", "r_att", "r_price"} <= set(bought)
        assert ("r_option" in bought) == bool(world.shop.goal(task.task_id).options)


def test_the_right_purchase_succeeds(world: WebShopWorld) -> None:
    task = task_without_options(world)
    state = world.begin(task, random.Random(0))
    for call in ("search[cap]", "click[b2]", "click[buy now]"):
        state, page = world.act(state, call)
    outcome = world.outcome(task, state)
    assert outcome.success and outcome.score == 1.0
    assert "1.0\n" not in page.partition("Your score")[2].partition("\n")[2]  # hidden from the agent


def test_copies_share_the_shop_and_pickles_carry_only_arguments(tmp_path: Path) -> None:
    world = WebShopWorld(write(tmp_path), observation_mode="text", reveal_score=True, show_instruction=False)
    data = pickle.dumps(world)
    assert len(data) < 1000
    for other in (pickle.loads(data), copy.deepcopy(world)):
        assert other.shop is world.shop
        state = other.begin(other.task("2"), random.Random(0))
        for call in ("search[cap]", "click[b2]", "click[buy now]"):
            state, page = other.act(state, call)
            assert page == world.view(state) and "Find it" not in page
        assert "Your score (min 0.0, max 1.0) [SEP] 0." in page or "max 1.0) [SEP] 1.0" in page


@pytest.mark.parametrize("task_id", ["3", "-1", "x", "01", "", "1.0", "٣"])
def test_an_unknown_task_is_named_with_the_known_ones(world: WebShopWorld, task_id: str) -> None:
    with pytest.raises(ConfigError, match=f"'{task_id}'.*'0' to '2'"):
        world.task(task_id)


def test_an_unknown_split_is_named_with_the_known_ones(world: WebShopWorld) -> None:
    for call in (lambda: world.ids("valid"), lambda: world.sample_id("valid", random.Random(0))):
        with pytest.raises(ConfigError, match="'valid'.*'train', 'dev', 'test', 'all'"):
            call()


def test_published_splits(webshop_data: Path) -> None:
    world = WebShopWorld(webshop_data)
    assert world.ids("test") == tuple(map(str, range(500)))
    assert world.ids("dev") == tuple(map(str, range(500, 1500)))
    assert world.ids("train") == tuple(map(str, range(1500, 6910)))
    assert len(WebShopWorld(webshop_data, goals="human").ids("all")) == 13

"""Sessions and pages: the reference's observations byte for byte, and the quirks behind them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.webshop import data
from nextstep_envs.worlds.webshop.pages import Pages
from nextstep_envs.worlds.webshop.session import Session, clickables, step, url
from nextstep_envs.worlds.webshop.shop import Shop
from nextstep_envs.worlds.webshop.world import WebShopWorld


@pytest.mark.parametrize("mode", ["text", "text_rich"])
def test_golden_episodes_byte_for_byte(webshop_data: Path, mode: str) -> None:
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))
    for episode in golden["episodes"]:
        world = WebShopWorld(
            str(webshop_data), goals=episode["goal_set"], observation_mode=mode, reveal_score=True
        )
        task = world.task(episode["task_id"])
        state = world.begin(task, random.Random(0))
        for action, expected in zip([None, *episode["actions"]], episode["steps"], strict=True):
            if world.done(state):
                break
            state, page = (state, world.view(state)) if action is None else world.act(state, action)
            assert page == expected[mode], action
            assert world.available(state) == expected["available_actions"], action
        if world.done(state):
            outcome = world.outcome(task, state)
            assert outcome.score == pytest.approx(expected["reward"], abs=1e-9)
            for name, value in (episode["reward_info"] or {}).items():
                assert outcome.details.get(name) == pytest.approx(value, abs=1e-9), name


def raw(asin: str, name: str, **fields: Any) -> dict[str, Any]:
    product = {
        "asin": asin, "name": name, "full_description": "", "small_description": [], "pricing": "$5", "images": ["x"],
        "product_category": "A › B", "category": "garden", "query": "lamps", "customization_options": "",
    }  # fmt: skip
    return product | fields


def options(**values: list[str]) -> dict[str, Any]:
    return {name: [{"value": v, "image": None} for v in vs] for name, vs in values.items()}


@pytest.fixture(scope="module")
def shop() -> Shop:
    items = [
        raw("B1", "red lamp", customization_options=options(Color=["Red", 'the "big"', "Été"], Size=["red", "L/XL"])),
        raw("B2", "", small_description=["  shiny", "", "\n"], category="beauty", query="bulbs"),
        raw("B3", "blue lamp", pricing="$3 - $7.5", full_description="Line one\nline two "),
    ]
    instructions = {
        "B1": {"attributes": ["warm"], "instruction": "A warm lamp", "instruction_attributes": ["warm"]},
        "B2": {"attributes": []},
    }
    nouns = {"B1": ["lamp"], "B2": [], "B3": ["lamp"]}
    return Shop(data.products_from_raw(items, instructions, nouns, None))


def walk(shop: Shop, *actions: str) -> Session:
    session = Session("0")
    for action in actions:
        session = step(shop, session, action)
    return session


def page(shop: Shop, session: Session, mode: str = "text_rich") -> str:
    return Pages(shop, mode, show_instruction=False, reveal_score=False)(session)


OPEN = ("search[lamp]", "click[b1]")


def test_search_works_anywhere_and_forgets_the_item(shop: Shop) -> None:
    session = walk(shop, *OPEN, "click[red]", "search[Blue Lamp] trailing words")
    assert session.page == "results" and session.keywords == ("blue", "lamp")
    assert session.asin == "" and session.options == () and session.visited == {"B1"}


@pytest.mark.parametrize("action", ["buy", "", "search[]", "click[search]", "think[x]", "click[b9]", "search[a[b]c]"])
def test_what_cannot_be_done_changes_nothing(shop: Shop, action: str) -> None:
    for before in (walk(shop), walk(shop, "search[lamp]"), walk(shop, *OPEN)):
        assert step(shop, before, action) == before


def test_equal_labels_belong_to_the_last_option_on_the_page(shop: Shop) -> None:
    session = walk(shop, *OPEN, "click[RED]", "click[l | xl]")
    assert session.options == (("size", "l | xl"),)
    assert walk(shop, *OPEN, "click[red]").options == (("size", "red"),)
    shown = page(shop, walk(shop, *OPEN, "click[red]"))
    assert shown.startswith("You have clicked red.\nYou have clicked red.\n") and shown.count("[clicked button] red") == 2


def test_values_that_json_escapes_never_look_clicked(shop: Shop) -> None:
    session = walk(shop, *OPEN, 'click[the "big"]', "click[été]")
    assert dict(session.options) == {"color": "été"}
    assert "clicked" not in page(shop, session)
    assert 'click' not in page(shop, walk(shop, *OPEN, 'click[the "big"]'))


def test_quoted_keywords_make_a_value_look_clicked(shop: Shop) -> None:
    session = walk(shop, 'search["red" lamp]', "click[b1]")
    assert session.options == ()
    assert "[clicked button] red" not in page(shop, session)  # nothing chosen: the page is drawn without marks
    assert '"red"' in url(session)


def test_visited_links_are_marked_until_back_to_search(shop: Shop) -> None:
    back = walk(shop, *OPEN, "click[< prev]")
    assert "[clicked button] B1 [clicked button_]" in page(shop, back)
    again = step(shop, step(shop, back, "click[back to search]"), "search[lamp]")
    assert "clicked" not in page(shop, again)


def test_next_goes_past_the_end_and_prev_appears(shop: Shop) -> None:
    session = walk(shop, "search[lamp]", "click[next >]")
    assert "Page 2 (Total results: 2)" in page(shop, session)
    assert clickables(shop, session) == ("back to search", "< prev", "next >")
    assert step(shop, session, "click[< prev]").number == 1


def test_hidden_prefixes(shop: Shop) -> None:
    assert "Total results: 1" in page(shop, walk(shop, "search[<c> beauty]"))
    assert "Total results: 2" in page(shop, walk(shop, "search[<q> lamps]"))
    assert "Total results: 3" in page(shop, walk(shop, "search[<r>]"))


def test_blank_nodes(shop: Shop) -> None:
    session = walk(shop, "search[<c> beauty]", "click[b2]", "click[features]")
    assert page(shop, session).endswith("[button_]\n   shiny\n \n")
    assert page(shop, session, "text").endswith("< Prev [SEP] shiny [SEP] ")
    assert "\n\nPrice" not in page(shop, step(shop, session, "click[< prev]"))
    description = walk(shop, "search[<q> lamps]", "click[b3]", "click[description]")
    assert page(shop, description).endswith("Line one\nline two \n")
    assert page(shop, description, "text").endswith("Line one\nline two")


def test_sub_pages_keep_options_and_have_no_buy_now(shop: Shop) -> None:
    session = walk(shop, *OPEN, "click[l | xl]", "click[reviews]")
    assert clickables(shop, session) == ("back to search", "< prev")
    assert step(shop, session, "click[buy now]") == session
    assert step(shop, session, "click[< prev]").options == (("size", "l | xl"),)


def test_the_score_is_shown_only_on_request_and_the_session_ends(shop: Shop) -> None:
    session = walk(shop, *OPEN, "click[buy now]")
    assert session.page == "done" and clickables(shop, session) == ()
    assert step(shop, session, "search[lamp]") == session
    hidden = page(shop, session)
    shown = Pages(shop, "text_rich", show_instruction=False, reveal_score=True)(session)
    score = repr(shop.score("0", "B1", {}).score)
    assert hidden == shown.replace(f"\n{score}\nReward Details", "\nReward Details") != shown


def test_the_instruction_can_be_kept_off_every_page(shop: Shop) -> None:
    for session in (walk(shop), walk(shop, "search[lamp]"), walk(shop, *OPEN), walk(shop, *OPEN, "click[features]")):
        assert "Instruction" not in page(shop, session) and "A warm lamp" not in page(shop, session)
        assert "A warm lamp" in Pages(shop, "text", show_instruction=True, reveal_score=False)(session)


def test_addresses(shop: Shop) -> None:
    base = "http://127.0.0.1:3000/"
    assert url(walk(shop)) == f"{base}0"
    assert url(walk(shop, "search[Red Lamp]")) == f"{base}search_results/0/red+lamp/1"
    chosen = walk(shop, *OPEN, "click[l | xl]")
    assert url(chosen) == f'{base}item_page/0/B1/lamp/1/{{"size": "l | xl"}}'
    assert url(step(shop, chosen, "click[features]")).endswith("item_sub_page/0/B1/lamp/1/Features/{'size': 'l | xl'}")
    assert url(step(shop, chosen, "click[buy now]")) == f"{base}done/0/B1/{{'size': 'l | xl'}}"


def test_an_unknown_observation_mode_names_the_known_ones(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="'html'.*'text_rich'"):
        Pages(shop, "html", show_instruction=True, reveal_score=False)

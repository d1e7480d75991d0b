"""Pages byte for byte: recorded reference episodes, and quirks that these do not show."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.webshop.pages import Pages
from nextstep_envs.worlds.webshop.session import Session, step
from nextstep_envs.worlds.webshop.shop import Shop
from nextstep_envs.worlds.webshop.world import WebShopWorld
from tests.envs.worlds.webshop.tiny import walk

OPEN = ("search[lamp]", "click[lamp1]")
HEAD = "[button] Back to Search [button_]\n[button] < Prev [button_]\n"


@pytest.mark.parametrize("mode", ["text", "text_rich"])
def test_reference_episodes(webshop_data: Path, mode: str) -> None:
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))
    assert len(golden["episodes"]) == 8
    for episode in golden["episodes"]:
        world = WebShopWorld(webshop_data, goals=episode["goal_set"], observation_mode=mode, reveal_score=True)
        task = world.task(episode["task_id"])
        state = world.begin(task, random.Random(0))
        page = world.view(state)
        for action, expected in zip([None, *episode["actions"]], episode["steps"], strict=True):
            if action is not None:
                state, page = world.act(state, action)
                assert world.done(state) == expected["done"]
                assert world.outcome(task, state).score == expected["reward"]
            assert page == world.view(state) == expected[mode], action
            assert world.available(state) == expected["available_actions"], action
        if episode["reward_info"]:
            assert dict(world.outcome(task, state).details) == episode["reward_info"]


def test_reference_purchases_on_the_done_page(webshop_data: Path) -> None:
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))
    pages = Pages(WebShopWorld(webshop_data).shop, reveal_score=True)
    synthetic = [purchase for purchase in golden["purchases"] if purchase.get("goal_set", "synthetic") == "synthetic"]
    assert len(synthetic) > 20
    for bought in synthetic:
        options = tuple(bought["options"].items())
        page = pages.view(Session(bought["task_id"], "done", asin=bought["asin"], options=options))
        assert f"Your score (min 0.0, max 1.0)\n{bought['reward']!r}\nReward Details \n" in page


def rich(shop: Shop, *actions: str, **settings: Any) -> str:
    return Pages(shop, **{"show_instruction": False, **settings}).view(walk(shop, *actions))


def text(shop: Shop, *actions: str) -> str:
    return rich(shop, *actions, mode="text")


def test_search_page(shop: Shop) -> None:
    instruction = shop.goal("0").instruction
    assert rich(shop, show_instruction=True) == f"WebShop\nInstruction: \n{instruction}\n[button] Search [button_]\n"
    expected = f"WebShop [SEP] Instruction: [SEP] {instruction} [SEP] Search"
    assert rich(shop, mode="text", show_instruction=True) == expected
    assert (rich(shop), text(shop)) == ("WebShop\n[button] Search [button_]\n", "WebShop [SEP] Search")


def test_results_page(shop: Shop) -> None:
    assert rich(shop, "search[lamp]") == (
        "[button] Back to Search [button_]\nPage 1 (Total results: 3)\n[button] Next > [button_]\n"
        "\n[button] LAMP3 [button_]\nlamp of brass and glass\n$5.0\n"
        "\n[button] LAMP2 [button_]\nlamp blue\n$3.0 to $7.5\n\n[button] LAMP1 [button_]\nlamp\n$5.0\n"
    )
    assert text(shop, "search[<c> bulk]", "click[next >]", "click[next >]") == (
        "Back to Search [SEP] Page 3 (Total results: 23) [SEP] < Prev [SEP] Next > [SEP] "
        "BULK20 [SEP] thing 20 [SEP] $5.0 [SEP] BULK21 [SEP] thing 21 [SEP] $5.0 [SEP] BULK22 [SEP] thing 22 [SEP] $5.0"
    )
    assert text(shop, "search[zzz]") == "Back to Search [SEP] Page 1 (Total results: 0) [SEP] Next >"


def test_visited_links_are_marked_until_back_to_search(shop: Shop) -> None:
    link, visited = "\n\n[button] LAMP1 [button_]\n", "\n\n[clicked button] LAMP1 [clicked button_]\n"
    assert visited in rich(shop, *OPEN, "click[< prev]") and visited in rich(shop, *OPEN, "search[lamp]")
    again = rich(shop, *OPEN, "click[back to search]", "search[lamp]")
    assert link in again and "clicked" not in again


def test_item_page(shop: Shop) -> None:
    assert rich(shop, *OPEN) == (
        f"{HEAD}color\n  [button] red [button_]\n"
        '  [button] the "big" one [button_]\n  [button] été [button_]\n'
        "  [button] o'neil <b> [button_]\n  [button] plain [button_]\n"
        "size\n  [button] l | xl [button_]\n  [button] red [button_]\n  [button] l | xl [button_]\n"
        "lamp\nPrice: $5.0\nRating: N.A.\n[button] Description [button_]\n[button] Features [button_]\n"
        "[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )
    assert text(shop, "search[lamp]", "click[lamp2]") == (
        "Back to Search [SEP] < Prev [SEP] lamp blue [SEP] Price: $3.0 to $7.5 [SEP] Rating: N.A. [SEP] "
        "Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )


def test_clicked_values_are_marked_and_named_last_of_the_page_first(shop: Shop) -> None:
    page = rich(shop, *OPEN, "click[plain]", "click[l | xl]", show_instruction=True)
    named = ("l | xl", "l | xl", "plain")  # a repeated value is named twice
    assert page.startswith("".join(f"You have clicked {value}.\n" for value in named) + "Instruction:\n")
    assert page.count("  [clicked button] l | xl [clicked button_]\n") == 2
    assert "  [clicked button] plain [clicked button_]\n" in page and page.count("[clicked button]") == 3
    assert text(shop, *OPEN, "click[plain]") == text(shop, *OPEN)


def test_a_value_under_two_names_is_marked_under_both(shop: Shop) -> None:
    page = rich(shop, *OPEN, "click[red]")
    assert page.startswith("You have clicked red.\nYou have clicked red.\n[button]")
    assert page.count("[clicked button] red") == 2


def test_values_that_json_escapes_are_chosen_but_never_marked(shop: Shop) -> None:
    for value in ("été", 'the "big" one'):
        assert walk(shop, *OPEN, f"click[{value}]").options == (("color", value),)
        assert rich(shop, *OPEN, f"click[{value}]") == rich(shop, *OPEN)
    assert "[clicked button] o'neil <b> [" in rich(shop, *OPEN, "click[o'neil <b>]")


def test_quoted_keywords_mark_values_that_nobody_clicked(shop: Shop) -> None:
    page = rich(shop, 'search["plain" lamp]', "click[lamp1]")
    assert page.startswith("You have clicked plain.\n") and "  [clicked button] plain [clicked button_]\n" in page
    assert "clicked" not in rich(shop, 'search["plain lamp]', "click[lamp1]")


def test_sub_pages(shop: Shop) -> None:
    assert rich(shop, *OPEN, "click[reviews]") == rich(shop, *OPEN, "click[description]") == HEAD
    assert text(shop, *OPEN, "click[reviews]") == "Back to Search [SEP] < Prev"
    assert rich(shop, "search[lamp]", "click[lamp2]", "click[description]") == f"{HEAD} Line one\nline two \n"
    described = text(shop, "search[lamp]", "click[lamp2]", "click[description]")
    assert described == "Back to Search [SEP] < Prev [SEP] Line one\nline two"


def test_blank_text_is_one_space_or_nothing(shop: Shop) -> None:
    # Bullets "  shiny ", "", " \n" and "two\nlines", a space before each: the third holds a newline and is dropped.
    assert rich(shop, *OPEN, "click[features]") == f"{HEAD}   shiny \n \n two\nlines\n"
    assert text(shop, *OPEN, "click[features]") == "Back to Search [SEP] < Prev [SEP] shiny [SEP]  [SEP] two\nlines"
    nameless, blank = ("search[<c> beauty]", "click[nameless]"), ("search[<c> beauty]", "click[blank]")
    assert rich(shop, *nameless).startswith(f"{HEAD}Price: $5.0\n")
    assert rich(shop, *blank).startswith(f"{HEAD} \nPrice: $5.0\n")
    assert text(shop, *blank).startswith("Back to Search [SEP] < Prev [SEP]  [SEP] Price: $5.0")
    assert rich(shop, *nameless, "click[features]") == f"{HEAD} \n"
    assert text(shop, *nameless, "click[features]") == "Back to Search [SEP] < Prev [SEP] "
    assert rich(shop, *blank, "click[description]") == HEAD
    assert rich(shop, "search[glass]", "click[lamp3]", "click[description]") == f"{HEAD} \n"
    assert rich(shop, "search[<c> beauty]").endswith(
        "\n\n[button] NAMELESS [button_]\n$5.0\n\n[button] BLANK [button_]\n \n$5.0\n"
    )


def test_attributes_page_of_an_option_of_that_name(shop: Shop) -> None:
    page = rich(shop, "search[<c> trap]", "click[labels]", "click[attributes]")
    assert page == f"{HEAD} a\n b\ntrap\ntraps\nHome › Lamps\n"


def test_clickables_name_each_label_once(shop: Shop) -> None:
    pages = Pages(shop)

    def clickables(*actions: str) -> list[str]:
        available = pages.available(walk(shop, *actions))
        assert available["has_search_bar"] is (not actions)
        labels: list[str] = available["clickables"]
        return labels

    assert clickables() == ["search"]
    assert clickables("search[lamp]") == ["back to search", "next >", "lamp3", "lamp2", "lamp1"]
    assert clickables("search[lamp]", "click[next >]") == ["back to search", "< prev", "next >"]
    buttons = ["back to search", "< prev", "description", "features", "reviews", "buy now"]
    values = ["red", 'the "big" one', "été", "o'neil <b>", "plain", "l | xl", ""]
    assert clickables(*OPEN) == buttons + values
    assert clickables("search[<c> trap]", "click[labels]") == [*buttons, "attributes", "next >", "search", "other"]
    assert clickables(*OPEN, "click[features]") == ["back to search", "< prev"]
    assert clickables(*OPEN, "click[buy now]") == []
    clickables(*OPEN).clear()
    assert clickables(*OPEN) == buttons + values  # a caller's list is its own


def test_done_page_with_and_without_the_score(shop: Shop) -> None:
    bought = walk(shop, *OPEN, "click[red]", "click[o'neil <b>]", "click[buy now]")
    score = shop.score("0", "LAMP1", dict(bought.options)).score
    assert Pages(shop, reveal_score=True).view(bought) == (
        "Thank you for shopping with us!\nYour code: \nNone\n (Paste it in your MTurk interface.)\nPurchased\nasin\n"
        'LAMP1\noptions\n{"color": "o\\u0027neil \\u003cb\\u003e", "size": "red"}\nattrs\nNone\ncategory\nNone\nquery\n'
        "None\nproduct category\nNone\nTarget\nasin\noptions\nattrs\nprice upper\ninstuction text\ncategory\n"
        "product category\nquery\nGoal \nNone\nReward\nYour score (min 0.0, max 1.0)\n"
        f"{score!r}\nReward Details \nNone\n"
    )
    assert Pages(shop).view(bought).endswith("\nYour score (min 0.0, max 1.0)\n\nReward Details \nNone\n")
    hidden = Pages(shop, "text").view(bought)
    assert hidden.endswith("[SEP] Your score (min 0.0, max 1.0) [SEP]  [SEP] Reward Details [SEP] None")
    assert "[SEP] Your code: [SEP] None [SEP] (Paste it" in hidden
    assert "\noptions\n{}\nattrs\n" in rich(shop, *OPEN, "click[buy now]")


def test_the_instruction_can_be_kept_off_every_page(shop: Shop) -> None:
    instruction = shop.goal("0").instruction
    for actions in ((), ("search[lamp]",), OPEN, (*OPEN, "click[features]")):
        for mode in ("text", "text_rich"):
            shown = rich(shop, *actions, mode=mode, show_instruction=True)
            hidden = rich(shop, *actions, mode=mode)
            assert instruction in shown and "Instruction:" in shown
            assert instruction not in hidden and "Instruction" not in hidden
            assert shown.endswith(hidden.removeprefix("WebShop").lstrip("\n"))


def test_url_mode_shows_the_address(shop: Shop) -> None:
    assert rich(shop, *OPEN, mode="url") == "http://127.0.0.1:3000/item_page/0/LAMP1/lamp/1/{}"


def test_kept_pieces_do_not_leak_between_sessions(shop: Shop) -> None:
    pages = Pages(shop, show_instruction=False)
    fresh = [rich(shop, *OPEN, "click[plain]"), rich(shop, *OPEN), rich(shop, "search[lamp]")]
    for _ in range(2):
        states = (walk(shop, *OPEN, "click[plain]"), walk(shop, *OPEN), walk(shop, "search[lamp]"))
        assert [pages.view(state) for state in states] == fresh
        pages.view(step(shop, walk(shop, *OPEN), "click[< prev]"))


def test_the_page_source_is_not_offered(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="observation_mode='html'.*'text_rich', 'text', 'url'"):
        Pages(shop, "html")

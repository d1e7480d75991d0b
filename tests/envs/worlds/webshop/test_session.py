"""What each action does to a session: the reference's dispatch with its quirks."""

from __future__ import annotations

import pickle
import re
from functools import cache
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.worlds.webshop.pages import Pages
from nextstep_envs.worlds.webshop.session import Page, Session, address, parse_action, step
from nextstep_envs.worlds.webshop.shop import Shop
from tests.envs.worlds.webshop.tiny import tiny_shop, walk

FOUND = ("search[lamp]",)
OPEN = (*FOUND, "click[lamp1]")
TRAP = ("search[<c> trap]", "click[labels]")


@pytest.mark.parametrize(
    ("action", "parsed"),
    [
        ("search[Red Shoe]", ("search", "red shoe")),
        ("search[red] trailing", ("search", "red")),
        ("search[red] [b] c]", ("search[red] ", "b] c")),
        ("search[a[b]c]", ("search[a", "b]c")),
        ("search[a[]", ("search", "a[")),
        ("search[]", ("", "")),
        ("search[]]", ("search", "]")),
        ("search[ ]", ("search", " ")),
        ("[x]", ("", "")),
        ("search[two\nlines]", ("", "")),
        ("search[one]\n[two]", ("search", "one")),
        ("", ("", "")),
    ],
)
def test_actions_are_parsed_greedily_in_the_first_line(action: str, parsed: tuple[str, str]) -> None:
    assert parse_action(action) == parsed


@given(st.text(alphabet="a[]\n ", max_size=12))
def test_parsing_equals_the_greedy_pattern(action: str) -> None:
    match = re.match(r"(.+)\[(.+)\]", action)
    assert parse_action(action) == ((match[1], match[2].lower()) if match else ("", ""))


def test_parsing_takes_linear_time() -> None:
    assert parse_action("[" * 1_000_000) == ("", "")  # a greedy regular expression would need hours


@pytest.mark.parametrize(
    "action",
    ["", "buy", "search", "search[]", "click[search]", "click[Search]", "click[b9]", "think[x]", "search[a[b]c]",
     "Search[lamp]", " search[lamp]", "click[ lamp2]", "click[attributes]", "click[nothing]"],
)  # fmt: skip
def test_what_is_no_action_changes_nothing(shop: Shop, action: str) -> None:
    for before in (walk(shop), walk(shop, *FOUND), walk(shop, *OPEN), walk(shop, *OPEN, "click[features]")):
        assert step(shop, before, action) is before


def test_labels_of_other_pages_cannot_be_clicked(shop: Shop) -> None:
    for label in ("next >", "buy now", "lamp1", "red"):
        assert walk(shop, f"click[{label}]") == Session("0")
    assert walk(shop, *FOUND, "click[buy now]") == walk(shop, *FOUND, "click[< prev]") == walk(shop, *FOUND)
    assert walk(shop, *OPEN, "click[next >]") == walk(shop, *OPEN, "click[lamp2]") == walk(shop, *OPEN)
    tab = (*OPEN, "click[reviews]")
    for label in ("buy now", "features", "red", "next >"):
        assert walk(shop, *tab, f"click[{label}]") == walk(shop, *tab)


def test_labels_are_clicked_in_upper_or_lower_case(shop: Shop) -> None:
    assert walk(shop, *FOUND, "click[LAMP1]") == walk(shop, *FOUND, "click[lamp1]") == walk(shop, *OPEN)
    assert walk(shop, *OPEN, "click[RED]") == walk(shop, *OPEN, "click[red]") != walk(shop, *OPEN)


def test_search_works_on_any_page_and_forgets_the_item_but_not_the_visits(shop: Shop) -> None:
    for before in (OPEN, (*OPEN, "click[red]"), (*OPEN, "click[red]", "click[reviews]")):
        session = walk(shop, *before, "search[Blue Lamp] and more")
        assert session.page == "results" and session.keywords == "blue+lamp" and session.number == 1
        assert session.results[0] == "LAMP2"
        assert (session.asin, session.options, session.visited, session.tab) == ("", (), {"LAMP1"}, "")


def test_back_to_search_forgets_everything(shop: Shop) -> None:
    for actions in (FOUND, OPEN, (*OPEN, "click[red]"), (*OPEN, "click[features]")):
        assert walk(shop, *actions, "click[Back to Search]") == Session("0")


def test_options_keep_the_order_of_their_first_click(shop: Shop) -> None:
    session = walk(shop, *OPEN, "click[l | xl]", "click[plain]", "click[red]")
    assert session.options == (("size", "red"), ("color", "plain"))


def test_a_value_of_two_names_belongs_to_the_last_on_the_page(shop: Shop) -> None:
    assert walk(shop, *OPEN, "click[red]").options == (("size", "red"),)


def test_prev_leads_from_sub_page_to_item_to_results(shop: Shop) -> None:
    item = (*FOUND, "click[next >]", "click[< prev]", "click[lamp1]", "click[plain]")
    session = walk(shop, *item, "click[description]")
    assert (session.page, session.tab, session.options) == ("tab", "Description", (("color", "plain"),))
    session = step(shop, session, "click[< Prev]")
    assert session == walk(shop, *item)
    session = step(shop, session, "click[< Prev]")
    assert (session.page, session.number, session.asin, session.options) == ("results", 1, "", ())
    assert session.visited == {"LAMP1"}


def test_next_goes_past_the_end(shop: Shop) -> None:
    session = walk(shop, "search[<c> bulk]", *["click[next >]"] * 4)
    assert session.number == 5 and session.shown == ()
    assert len(walk(shop, "search[<c> bulk]", "click[next >]", "click[next >]").shown) == 3


def test_prev_and_next_look_for_the_page_name_anywhere_in_the_url(shop: Shop) -> None:
    mistaken = walk(shop, "search[<q> bulk things search_results]", "search[lamp search_results]", "click[lamp1]")
    session = step(shop, mistaken, "click[< prev]")  # taken for a results page: one page back
    assert (session.page, session.number, session.shown) == ("results", 0, ())
    session = walk(shop, "search[lamp item_page]", "click[lamp1]", "click[features]", "click[< prev]")
    assert session.page == "results"  # the sub page was taken for the item page
    assert walk(shop, *OPEN, "click[features]", "click[< prev]").page == "item"


def test_pages_below_the_first_are_slices_with_negative_bounds() -> None:
    results = tuple(f"B{i}" for i in range(25))
    assert Session("0", "results", "x", 0, results).shown == ()
    assert Session("0", "results", "x", -1, results).shown == results[-20:-10]


def test_an_option_named_like_a_button_acts_like_it(shop: Shop) -> None:
    assert walk(shop, *TRAP, "click[buy now]").page == "done"
    assert walk(shop, *TRAP, "click[features]").tab == "Features"
    assert walk(shop, *TRAP, "click[attributes]").tab == "Attributes"
    assert walk(shop, *TRAP, "click[back to search]").page == "search"
    assert walk(shop, *TRAP, "click[< prev]").page == "results"
    assert walk(shop, *TRAP, "click[search]") == walk(shop, *TRAP)
    assert walk(shop, *TRAP, "click[next >]").options == (("what", "next >"),)  # there is no next page


def test_a_purchase_ends_the_session(shop: Shop) -> None:
    bought = walk(shop, *OPEN, "click[red]", "click[Buy Now]")
    assert bought.page == "done" and bought.asin == "LAMP1" and bought.options == (("size", "red"),)
    for action in ("search[lamp]", "click[back to search]", "click[< prev]"):
        assert step(shop, bought, action) is bought


def test_hidden_first_words_of_a_search(shop: Shop) -> None:
    assert walk(shop, "search[<c> Beauty]").results == ("NAMELESS", "BLANK")
    assert len(walk(shop, "search[<q> bulk things]").results) == 23
    drawn = walk(shop, "search[<r>]").results
    assert set(drawn) == set(shop.products)  # fewer than 50
    assert walk(shop, "search[<r>]").results == drawn != walk(shop, "search[<r>]", task_id="1").results


def test_no_hit_is_an_empty_page(shop: Shop) -> None:
    for query in ("zzzz", "the", " "):
        assert walk(shop, f"search[{query}]").page == "results" and walk(shop, f"search[{query}]").results == ()
    assert address(walk(shop, "search[ ]")).endswith("/search_results/0/+/1")


def test_addresses(shop: Shop) -> None:
    base = "http://127.0.0.1:3000/"
    assert address(walk(shop)) == f"{base}0"
    assert address(walk(shop, "search[Red é/ Lamp]", "click[next >]")) == f"{base}search_results/0/red+é/+lamp/2"
    item = walk(shop, *OPEN, "click[l | xl]", "click[été]")
    assert address(item) == f'{base}item_page/0/LAMP1/lamp/1/{{"size": "l | xl", "color": "\\u00e9t\\u00e9"}}'
    chosen = "{'size': 'l | xl', 'color': 'été'}"
    assert address(step(shop, item, "click[features]")) == f"{base}item_sub_page/0/LAMP1/lamp/1/Features/{chosen}"
    assert address(step(shop, item, "click[buy now]")) == f"{base}done/0/LAMP1/{chosen}"


LABELS = ("back to search", "< prev", "next >", "buy now", "features", "attributes", "red", "plain", "été", "l | xl",
          "lamp1", "lamp2", "labels", "other", "nameless", "blank")  # fmt: skip
ACTIONS = st.sampled_from(
    ("search[lamp]", 'search[lamp "red" item_page]', "search[<c> trap]", "search[<c> beauty]", "search[<r>]", "x")
) | st.sampled_from(LABELS).map("click[{}]".format)


@cache
def _shop_and_pages() -> tuple[Shop, Pages]:
    shop = tiny_shop()
    return shop, Pages(shop)


@given(st.lists(ACTIONS, max_size=12))
def test_only_what_is_available_changes_a_session(actions: list[str]) -> None:
    shop, pages, state = *_shop_and_pages(), Session("0")
    for action in actions:
        available = pages.available(state)
        after = step(shop, state, action)
        name, label = parse_action(action)
        if name != "search":
            assert after is state or label in available["clickables"]
        assert after.page in get_args(Page) and pickle.loads(pickle.dumps(after)) == after
        assert hash(after) is not None and step(shop, state, action) == after
        assert isinstance(pages.view(after), str)
        state = after

"""Token-set similarity, against values of the pinned library."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextstep_envs.worlds.webshop.fuzzy import clean, similar, token_set_ratio


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("gluten free", "free of gluten", 100),
        ("long lasting", "long-lasting wear", 100),
        ("dry skin", "dry hair", 62),
        ("black-black", "black_style", 62),
        ("black-black", "black_style_black", 45),
        ("cotton", "cottons", 92),
        ("é", "è", 0),
        ("naïve", "nave", 100),
        ("x-large", "xx-large", 93),
        ("hand wash", "machine wash", 67),
        ("blue | white", "white blue", 100),
        ("", "a", 0),
        ("!!!", "!!!", 0),
        ("茶 色", "茶色", 40),
        ("machine washable", "machine wash", 86),
        ("abcdefg", "abcdefx", 86),
        ("slim fit", "slimfit", 53),
        ("natural ingredients", "natural ingredient", 97),
        ("x" * 250, "x" * 249 + "y", 100),
    ],
)
def test_token_set_ratio(x: str, y: str, expected: int) -> None:
    assert token_set_ratio(x, y) == expected
    assert similar(x, y) == (expected > 85)


def test_cleaning_drops_characters_128_to_255_and_keeps_the_underscore() -> None:
    assert clean("  Café®-x_Y ♥ Ω ") == "caf x_y   ω"


@given(st.text(alphabet="abc d-é_茶A", max_size=24), st.text(alphabet="abc d-é_茶A", max_size=24))
@example("abcdefghijklmnopqrst", "abcdefghijklmnopqrst x")
def test_the_verdict_is_that_of_the_ratio(x: str, y: str) -> None:
    assert similar(x, y) == (token_set_ratio(x, y) > 85)


@given(st.text(alphabet="abcdefgh ", min_size=8, max_size=60), st.integers(0, 59), st.sampled_from("abz "))
def test_the_verdict_near_the_border(text: str, position: int, char: str) -> None:
    changed = text[:position] + char + text[position + 2 :]
    assert similar(text, changed) == (token_set_ratio(text, changed) > 85)

"""Thinking is told from answering."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.providers.thinking import split_thinking


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("Hi.", "Hi.", ""),
        ("  Hi. \n", "  Hi. \n", ""),
        ("<think>\nHm.\n</think>\n\nHi.", "Hi.", "Hm."),
        ("<think></think>Hi.", "Hi.", ""),
        ("<think>Hm", "", "Hm"),
        ("Hi. <think>Hm", "Hi.", "Hm"),
        ("Hm.</think>Hi.", "Hi.", "Hm."),
        ("a</think>b<think>c</think>d<think>e", "bd", "a\nc\ne"),
        ("<think>a<think>b</think>c", "c", "a<think>b"),
    ],
)
def test_thinking_is_split_from_the_answer(text: str, answer: str, thinking: str) -> None:
    assert split_thinking(text) == (answer, thinking)


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "a", "b", " ", "\n"]), max_size=12).map("".join)


@given(PIECES)
def test_no_opened_thinking_is_ever_in_an_answer(text: str) -> None:
    answer, thinking = split_thinking(text)
    assert "<think>" not in answer
    assert all((answer + thinking).count(letter) == text.count(letter) for letter in "ab")  # nothing is lost

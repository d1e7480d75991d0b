"""One rule reads every model's answer, whatever it writes around it, and never guesses."""

from __future__ import annotations

import pytest

from nextstep_envs.recorded.extraction import letter, number, plain_number

SIX = "".join(f"The answer is ({x}).\n" for x in "AHEIBC")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So the answer is (C).", "C"),
        ("the answer is C", "C"),
        ("The answer is **(C)**.", "C"),
        (r"The answer is $\boxed{C}$", "C"),
        (r"The answer is \boxed{\text{C}}.", "C"),
        ("The answer is (B). Wait: the answer is (C).", "B"),
        ("Question: what next? The answer is (C).", None),
        ("The answer is (C).\n\nQuestion: what next? The answer is (A).", "C"),
        ("Answer: A\nNo. Answer: B", "B"),
        (r"We get \boxed{A}, then \boxed{B}", "B"),
        ("The answer is (J).", None),  # no such option
        ("The answer is January.", None),
        ("The answer is $C(9,3) = 84$. The answer is (B).", "B"),
        ("I think that A is nice", None),  # words are no answers
        ("", None),
    ],
)
def test_a_letter_is_what_the_text_states(text: str, expected: str | None) -> None:
    assert letter(text, 5) == expected


def test_a_gemini_output_that_answers_its_examples_too_counts_by_its_last_line() -> None:
    assert letter(SIX, 10, gemini=True) == "C" and letter(SIX, 10) == "A"
    assert letter("The answer is (B). The answer is (C).", 10, gemini=True) == "B"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("That makes 5.\n#### 1,234", "1234"),
        ("#### $20.00", "20"),
        ("#### 24 2/3", "24"),
        ("#### 5 hours and 20 minutes (320 minutes)", "5"),
        ("#### (520 * 450) / 468 = 487.57 (rounded)", "487.57"),
        ("She makes $18 every day.", "18"),
        ("He has <<26-1", "1"),  # a difference, not a negative number
        ("3 and 4\nA: 7", "7"),
        ("3 and 4\nA: -129025", "-129025"),
        ("3 and 4\nA: none", None),
        ("nothing", None),
        ("It costs .5", "0.5"),
    ],
)
def test_a_number_is_what_the_solution_ends_with(text: str, expected: str | None) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("1,200.50", "1200.5"), ("3.0", "3"), ("x", None), ("nan", None)])
def test_equal_numbers_are_equal_texts(text: str, expected: str | None) -> None:
    assert plain_number(text) == expected

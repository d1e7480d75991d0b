"""The answer in a model's text, by one rule for all models; nothing is ever drawn where nothing is found."""

from __future__ import annotations

import re

_OPEN = r"[:\s]*(?:\*\*|\$*\\boxed\{)?\s*(?:\\text\{)?\(?\**"
_LETTER = r"([A-J])(?![A-Za-z])"
_ANSWER_IS = re.compile(r"answer is" + _OPEN + _LETTER)
_ANSWER = re.compile(r"[aA]nswer:\s*(?:\*\*)?\(?" + _LETTER)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?\(?" + _LETTER)
_NUMBER = re.compile(r"(?<![\d.])-?(?:\d[\d,]*\.?\d*|\.\d+)")
_LINE = re.compile(r"^A:(.*)$", re.M)
_HASHES = re.compile(r"####(.*)")
EXAMPLES = 5  # a Gemini output with as many "answer is" answers the examples of its prompt too, and its own last


def letter(text: str, n_options: int, gemini: bool = False) -> str | None:
    """The option that a text on a multiple-choice question chooses; None where it chooses none.

    Cut at "Question:" (some models go on with a question of their own); the first "answer is (X)", also bold or boxed
    (the last one where a Gemini output holds five or more); else the last "Answer: X"; else the last boxed letter.
    """
    text = text.partition("Question:")[0]
    said = _ANSWER_IS.findall(text)
    if said:
        found = said[-1] if gemini and len(said) >= EXAMPLES else said[0]
    else:
        last = _ANSWER.findall(text) or _BOXED.findall(text)
        found = last[-1] if last else None
    return found if found is not None and ord(found) - ord("A") < n_options else None


def number(text: str) -> str | None:
    """The number that a solution ends with: the first after "####", else the first after "A:", else the last of all.

    Where "####" is followed by an equation, its right side counts.
    """
    for tail in reversed(_HASHES.findall(text)):
        if found := _numbers(tail.rpartition("=")[2]):
            return found[0]
    lines = _LINE.findall(text)
    if lines:
        found = _numbers(lines[-1])
        return found[0] if found else None
    found = _numbers(text)
    return found[-1] if found else None


def plain_number(text: str) -> str | None:
    """A number in its shortest form ("1,200.50" is "1200.5"), so that equal ones are equal texts; None: no number."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return str(int(value)) if value.is_integer() else repr(value)


def _numbers(text: str) -> list[str]:
    # "26-1" is a difference: its second number is 1.
    return [plain for found in _NUMBER.findall(text) if (plain := plain_number(found)) is not None]

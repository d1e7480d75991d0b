"""What a text shows without any ground truth: facts about questions, and about what workers wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.recorded.answers import LETTERS, NONE, Answers

Facts = npt.NDArray[np.float32]
QUESTION_FACTS = (
    "length", "sentences", "word_length", "numbers", "digits", "formulas", "capitals", "blank", "negated", "statements",
    "options", "option_length", "longest_option", "option_spread", "numeric_options", "none_of",
)  # fmt: skip
ANSWER_FACTS = (
    "silent", "length", "numbers", "said_of_question", "said_of_option", "said_of_others", "lead_of_option", "literal",
    "others_literal", "option_rank", "number_found", "hedges",
)  # fmt: skip
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")
_COMMON = frozenset("the a an of to and is in that it for as on are be by with this or from at which was not".split())
_NEGATED = re.compile(r"\b(?:not|except|false|incorrect|least)\b")
_HEDGES = re.compile(r"none of|closest|approximately|cannot|unclear|assum|mistake|however|not sure")


def question_facts(answers: Answers) -> Facts:
    """Facts about every question, float32 [Q, `QUESTION_FACTS`]; counts are logarithms."""
    pairs = zip(answers.texts, answers.options, strict=True)
    return np.array([_of_question(text, options) for text, options in pairs], np.float32)


def answer_facts(answers: Answers) -> Facts:
    """Facts about every recorded answer, float32 [Q, W, `ANSWER_FACTS`]; zeros where there is none.

    What a worker wrote is compared with the question and with the options: does the reasoning speak of the option that
    was chosen, or of others as well; does it arrive at its number?
    """
    facts = np.zeros((*answers.code.shape, len(ANSWER_FACTS)), np.float32)
    for row, (text, options) in enumerate(zip(answers.texts, answers.options, strict=True)):
        asked, choices = _words(text), [(_words(option), option.lower().strip(" .")) for option in options]
        ranks = np.argsort(np.argsort([len(option) for option in options])) if options else np.zeros(0)
        numbers = [_numbers(option) for option in options]
        for column in np.flatnonzero(answers.available[row]).tolist():
            code = int(answers.code[row, column])
            chosen = LETTERS.index(answers.labels[row][code]) if code != NONE and options else NONE
            written, tokens = answers.text[row, column].lower(), int(answers.tokens[row, column])
            said, found = _words(written), _numbers(written.partition("answer is")[0])
            common = len(said & asked) / max(1, len(said))
            general = [float(code == NONE), np.log1p(tokens), np.log1p(len(found)), common]
            about = [0.0] * 7
            if chosen != NONE:
                shares = [len(words & said) / max(1, len(words)) for words, _ in choices]
                own = shares.pop(chosen)
                others = max(shares, default=0.0)
                spoken = [plain in written for _, plain in choices]
                literal = float(spoken.pop(chosen))
                wanted = numbers[chosen][-1:]
                arrives = float(bool(wanted) and bool(found) and _close(found[-1], wanted[0]))
                rank = ranks[chosen] / max(1, len(options) - 1)
                about = [own, others, own - others, literal, np.log1p(sum(spoken)), rank, arrives]
            facts[row, column] = [*general, *about, np.log1p(len(_HEDGES.findall(written)))]
    return facts


def _of_question(text: str, options: Sequence[str]) -> list[Any]:
    words, sizes = text.split(), [len(option) for option in options] or [0]
    lower = text.lower()
    return [
        np.log1p(len(text)),
        np.log1p(len(re.findall(r"[.!?]\s", text))),
        sum(map(len, words)) / max(1, len(words)),
        np.log1p(len(_NUMBER.findall(text))),
        sum(map(str.isdigit, text)) / max(1, len(text)),
        np.log1p(text.count("$") + text.count("\\")),
        sum(map(str.isupper, text)) / max(1, len(text)),
        float("_" in text),
        float(bool(_NEGATED.search(lower))),
        float("statement" in lower),
        len(options),
        np.log1p(np.mean(sizes)),
        np.log1p(max(sizes)),
        np.log1p(np.std(sizes)),
        sum(bool(re.match(r"[\s$(\\-]*[\d.,]+", option)) for option in options) / max(1, len(options)),
        float(any("none of" in option.lower() for option in options)),
    ]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _COMMON


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 0.01 * abs(b)

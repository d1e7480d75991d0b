"""MMLU-Pro (arXiv 2406.01574) as a `World`: questions of 14 subjects with up to ten options."""

from __future__ import annotations

from nextstep_envs.recorded.answers import LETTERS
from nextstep_envs.worlds.qa.world import QuestionWorld, answer_tool


class MMLUPro(QuestionWorld):
    """Choose the right option.

    An answer is a letter. Without `data_dir` the questions are generated sums in words; see `QuestionWorld` for the
    arguments.
    """

    name = "mmlu_pro"
    _tool = answer_tool("the letter of an option", '{"type": "string"}')

    def read(self, text: str) -> str | None:
        """The letter of an option."""
        letter = text.strip("()*. ").upper()
        return letter if len(letter) == 1 and letter in LETTERS else None

"""GSM8K (arXiv 2110.14168) as a `World`: problems of grade-school mathematics whose answer is a number."""

from __future__ import annotations

from collections.abc import Sequence

from nextstep_envs.recorded.extraction import plain_number
from nextstep_envs.recorded.pool import PoolArg
from nextstep_envs.worlds.qa.world import QuestionWorld, answer_tool


class GSM8K(QuestionWorld):
    """Find the number.

    An answer is a number; "1,200" and "$1200.00" are the same. Without `data_dir` the problems are generated sums in
    words; see `QuestionWorld` for the arguments.
    """

    name = "gsm8k"
    _tool = answer_tool("a number", '{"type": ["string", "number"]}')

    def __init__(
        self,
        data_dir: str | None = None,
        pool: PoolArg = "all",
        answer: str = "vote",
        splits: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
        held_out_categories: Sequence[str] = (),
        held_out_models: Sequence[str] = (),
        skills: str = "pool",
    ) -> None:
        super().__init__(data_dir, pool, answer, splits, folds, fold, held_out_categories, held_out_models, skills)

    def read(self, text: str) -> str | None:
        """The number in its shortest form."""
        return plain_number(text.strip("$ ."))

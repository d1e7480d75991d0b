"""What all worlds of questions share: workers answer, and the answers are counted."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.recorded.answers import Answers, skill_levels
from nextstep_envs.recorded.load import load_answers
from nextstep_envs.recorded.pool import PoolArg
from nextstep_envs.recorded.splits import SplitSettings, askable, divide
from nextstep_envs.requests import ToolSpec, WorldTool
from nextstep_envs.types import Budget, Outcome, Task
from nextstep_envs.worlds.qa.votes import RULES, UNSTATED, Vote, decide

SPLITS = ("train", "dev", "test", "all")
SKILLS = ("pool", "train")
NOTED = "Your answer is noted."
NOT_UNDERSTOOD = "That is no answer to this question."
_CALL = re.compile(r"answer\[([^\];]*)(?:;\s*([01](?:\.\d+)?))?\]")

Votes = tuple[Vote, ...]


class QuestionWorld(ABC):
    """A question at a time; its state is the answers given so far.

    A call is `answer[X]`, or `answer[X; 0.8]` with a confidence; each counts as one vote, anything else as none. The
    outcome is 1 where the final answer is right, else 0; without any answer it is wrong.

    Args:
        data_dir: a folder with recorded answers (see docs/recorded.md); None: the generated data set.
        pool: the recorded models: "open" (public weights), "all", a YAML file or its content.
        answer: how the final answer comes about: "vote", "weighted" (by confidence) or "last". Ties go to the
            answer that was given last.
        splits: which questions are in which split: "file" or "hash" (see `recorded.splits.SplitSettings`).
        folds: parts for cross-fitting; None: none.
        fold: the part that is held out.
        held_out_categories: categories that training does not see.
        held_out_models: models that training cannot ask.
        skills: where the skills of models by category come from: "pool" (its file; what it does not say, from
            training questions) or "train" (this environment's own training questions only).

    Attributes:
        answers: the data set.
        can_ask: bool [Q, W], whom can be asked about what.
    """

    name = ""
    _tool: WorldTool

    def __init__(
        self,
        data_dir: str | None = None,
        pool: PoolArg = "open",
        answer: str = "vote",
        splits: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
        held_out_categories: Sequence[str] = (),
        held_out_models: Sequence[str] = (),
        skills: str = "pool",
    ) -> None:
        check_choice("answer", answer, RULES)
        check_choice("skills", skills, SKILLS)
        for name, value in (("held_out_categories", held_out_categories), ("held_out_models", held_out_models)):
            if isinstance(value, str):
                raise ConfigError(f"{name}={value!r} must be a sequence of names, such as [{value!r}]")
        settings = SplitSettings(splits, folds, fold, tuple(held_out_categories), tuple(held_out_models))
        self.answers: Answers = load_answers(self.name, data_dir, pool)
        self.rule = answer
        self.split_of = divide(self.answers, settings)
        self.can_ask = askable(self.answers, self.split_of, settings.held_out_models)
        self.skills = skill_levels(self.answers, self.split_of, skills)
        self._arguments = (
            data_dir, pool, answer, splits, folds, fold, held_out_categories, held_out_models, skills
        )  # fmt: skip

    @property
    def data_source(self) -> str:
        """Whose answers these are: "recorded" (real models') or "generated" (made-up workers')."""
        return self.answers.source

    @cached_property
    def budget(self) -> Budget:
        """What an episode may consume by default: the limits of the pool."""
        return Budget(**self.answers.pool.budget)  # type: ignore[arg-type]  # its values are checked with the budget

    @abstractmethod
    def read(self, text: str) -> str | None:
        """An answer in its normal form; None where the text is none."""

    def ids(self, split: str) -> Sequence[str]:
        """Ids of the questions of a split.

        Raises:
            ConfigError: there is no such split, or it holds no question.
        """
        check_choice("split", split, SPLITS)
        found = self._ids[split]
        if not found:
            counts = ", ".join(f"{name} {n}" for name, n in sorted(Counter(self.split_of.tolist()).items()) if name)
            raise ConfigError(
                f"split={split!r} holds no question of {self.answers.description}; there are: {counts}. "
                "splits='hash' divides them into train, dev and test"
            )
        return found

    @cached_property
    def _ids(self) -> Mapping[str, tuple[str, ...]]:
        ids = self.answers.ids
        by_split = {name: tuple(id for id, s in zip(ids, self.split_of, strict=True) if s == name) for name in SPLITS}
        return by_split | {"all": ids}

    def sample_id(self, split: str, rng: random.Random) -> str:
        """Draw a question of the split, each as likely as the others."""
        ids = self._ids[split]
        return ids[rng.randrange(len(ids))]

    def task(self, task_id: str) -> Task:
        """The question with its options."""
        return Task(task_id, self.answers.prompts[self.row(task_id)])

    def row(self, task_id: str) -> int:
        """Where the question is in the data set; `ConfigError` if there is none of that id."""
        row = self.answers.row.get(task_id)
        if row is None:
            raise ConfigError(f"task_id={task_id!r} is unknown; there are {len(self.answers.ids)} questions, see ids()")
        return row

    def begin(self, task: Task, rng: random.Random) -> Votes:
        """Nobody has answered; nothing is drawn."""
        return ()

    def act(self, state: Votes, call: str) -> tuple[Votes, str]:
        """The answers after one more."""
        vote = self.vote(call)
        return (state, NOT_UNDERSTOOD) if vote is None else ((*state, vote), NOTED)

    def vote(self, call: str) -> Vote | None:
        """What a call says; None where it is no answer."""
        found = _CALL.fullmatch(call.strip())
        label = self.read(found[1].strip()) if found else None
        if found is None or label is None:
            return None
        return Vote(label, UNSTATED if found[2] is None else round(float(found[2]) * 1000))

    def view(self, state: Votes) -> str:
        """Nothing: who answers sees the question in its subtask, and no other answer."""
        return ""

    def available(self, state: Votes) -> Mapping[str, Any]:
        """The form of a call."""
        return {"calls": [self._tool.form]}

    def tools(self) -> tuple[WorldTool, ...]:
        """To answer."""
        return (self._tool,)

    def done(self, state: Votes) -> bool:
        """Never: another worker can always be asked."""
        return False

    def outcome(self, task: Task, state: Votes) -> Outcome:
        """Whether the final answer is right; details: answer, reference, votes."""
        return self.judge(self.answers.row[task.task_id], decide(state, self.rule), len(state))

    def judge(self, row: int, label: str, votes: int) -> Outcome:
        """The outcome of a final answer to the question of a row."""
        reference = self.answers.reference[row]
        right = label == reference
        return Outcome(float(right), right, {"answer": label, "reference": reference, "votes": votes})

    # A data set follows from its arguments and is shared: pickles and copies carry only these.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


def answer_tool(what: str, schema: str) -> WorldTool:
    """The tool with which a chat worker answers."""
    said = f'{{"type": "object", "properties": {{"answer": {schema}}}, "required": ["answer"]}}'
    return WorldTool(ToolSpec("answer", f"Give your final answer, once: {what}.", said), "answer[{answer}]")


def answer_call(label: str, weight: int) -> str:
    """The call that gives an answer with a confidence in thousandths."""
    return f"answer[{label}; {weight / 1000:.3f}]"

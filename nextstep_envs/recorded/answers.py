"""Recorded answers in memory: numpy columns, one row for each question, one column for each model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import DataError
from nextstep_envs.recorded.hashing import hash_texts
from nextstep_envs.recorded.pool import Pool, PoolModel
from nextstep_envs.types import NANO

LETTERS = "ABCDEFGHIJ"
NONE = -1  # the code of no answer
PREFIX_CHARS = 160
CHUNK = 256  # prompts hashed at a time, so that little memory is needed
_WORD = re.compile(r"\w+")


class Question(NamedTuple):
    """One question; `split` is "" where its file names none, `where` is file and row."""

    id: str
    category: str
    text: str
    options: tuple[str, ...]
    reference: str
    split: str
    where: str

    @property
    def prompt(self) -> str:
        """What is asked: the text, and a line for each option."""
        lines = (f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False))
        return "\n".join((self.text, *lines))


@dataclass(frozen=True, eq=False)
class Answers:
    """A data set: Q questions, W models.

    Attributes:
        dataset: "mmlu_pro" or "gsm8k".
        source: "recorded" or "generated": whether real models gave these answers.
        description: where they come from, for people.
        pool: the models, in the order of columns, and the default budget.
        categories: C names; `category` [Q] are positions in it.
        ids, texts, options, prompts: [Q]; a prompt is text and options.
        reference: the right answers [Q]; `reference_code` [Q] is `NONE` where no model gave that answer.
        labels: for each question the different answers that models gave; `code` [Q, W] are positions in it.
        available: bool [Q, W], whether the model has a row.
        tokens: int64 [Q, W], completion tokens billed, all samples of an answer counted.
        text: [Q, W], what the model wrote ("" where it has no row).
        split: [Q], "" where the files name none. key: [Q], equal for questions that must not be parted.
        origin: a function and arguments that load the same again, for pickles.
        made: what others have derived from it and would like to find again.
    """

    dataset: str
    source: str
    description: str
    pool: Pool
    categories: tuple[str, ...]
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]
    category: npt.NDArray[np.int64]
    reference: tuple[str, ...]
    reference_code: npt.NDArray[np.int64]
    labels: tuple[tuple[str, ...], ...]
    code: npt.NDArray[np.int64]
    available: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int64]
    text: npt.NDArray[Any]
    split: npt.NDArray[Any]
    key: npt.NDArray[np.uint64]
    origin: tuple[Callable[..., Answers], tuple[Any, ...]]
    row: dict[str, int] = field(repr=False, default_factory=dict)
    row_of_prompt: dict[str, int] = field(repr=False, default_factory=dict)
    _hashes: dict[int, npt.NDArray[np.float32]] = field(repr=False, default_factory=dict)
    _words: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = field(repr=False, default_factory=dict)
    made: dict[Any, Any] = field(repr=False, default_factory=dict)

    @property
    def models(self) -> tuple[PoolModel, ...]:
        """The models, in the order of columns."""
        return self.pool.models

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Bool [Q, W]: whether the model answered rightly. Ground truth: for scorers, never for observations."""
        right: npt.NDArray[np.bool_] = (self.code == self.reference_code[:, None]) & (self.code != NONE)
        return right

    @property
    def usd(self) -> npt.NDArray[np.float64]:
        """What each answer costs in US dollars, float64 [Q, W]; prices and lengths, no ground truth."""
        prompt, inward, outward = np.array(
            [(model.prompt_tokens, model.usd_per_m_input, model.usd_per_m_output) for model in self.models]
        ).T
        nano: npt.NDArray[np.float64] = np.rint(1000 * (prompt * inward + self.tokens * outward))
        return nano / NANO

    def question_hashes(self, buckets: int) -> npt.NDArray[np.float32]:
        """Hashed words and pairs of words of every question, float32 [Q, buckets]; made at the first call."""
        if buckets not in self._hashes:
            parts = [self.prompts[i : i + CHUNK] for i in range(0, len(self.prompts), CHUNK)]
            table = np.concatenate([hash_texts(part, buckets, pairs=True) for part in parts])
            table.flags.writeable = False
            self._hashes[buckets] = table
        return self._hashes[buckets]

    def text_hashes(
        self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], buckets: int
    ) -> npt.NDArray[np.float32]:
        """Hashed words of n texts, float32 [n, buckets]; each is made when it is first asked for."""
        if buckets not in self._words:
            shape = self.code.shape
            self._words[buckets] = np.zeros((*shape, buckets), np.float32), np.zeros(shape, bool)
        table, made = self._words[buckets]
        new = ~made[rows, columns]
        if new.any():
            at = rows[new], columns[new]
            table[at], made[at] = hash_texts(self.text[at].tolist(), buckets), True
        return table[rows, columns]

    # A data set is large and follows from its arguments.
    def __reduce__(self) -> tuple[Any, ...]:
        return self.origin


class Builder:
    """Collects the rows of files into columns, and refuses what contradicts itself.

    Args:
        pool: its models are the columns; rows of others are left out.
        categories: every category there can be.
        questions: in the order of rows. Repeated prompts are left out, and their answers with them.
    """

    def __init__(self, pool: Pool, categories: Sequence[str], questions: Sequence[Question]) -> None:
        self.pool, self.categories = pool, tuple(categories)
        self.questions = _distinct(questions)
        self._repeated = {question.id for question in questions} - {question.id for question in self.questions}
        self.row = {question.id: i for i, question in enumerate(self.questions)}
        self.column = {model.name: i for i, model in enumerate(pool.models)}
        self._samples = [model.samples_per_answer for model in pool.models]
        shape = len(self.questions), len(pool.models)
        self._labels: list[dict[str, int]] = [{} for _ in self.questions]
        self._code = np.full(shape, NONE, np.int64)
        self._available = np.zeros(shape, bool)
        self._tokens = np.zeros(shape, np.int64)
        self._text = np.full(shape, "", dtype=object)

    def put(self, question: str, model: str, label: str | None, tokens: int, text: str) -> str:
        """Add one answer; returns what is wrong with it, or ""."""
        column, row = self.column.get(model), self.row.get(question)
        if column is None:
            return ""
        if row is None:
            return "" if question in self._repeated else f"there is no question {question!r}"
        if self._available[row, column]:
            return f"{model!r} answers question {question!r} a second time"
        if label is not None:
            labels = self._labels[row]
            self._code[row, column] = labels.setdefault(label, len(labels))
        self._available[row, column] = True
        self._tokens[row, column] = tokens * self._samples[column]
        self._text[row, column] = text
        return ""

    def build(
        self, dataset: str, source: str, description: str, origin: tuple[Callable[..., Answers], tuple[Any, ...]]
    ) -> Answers:
        """The data set.

        Raises:
            DataError: a model of a pool of one's own, or every model, has no answer at all; an unknown category.
        """
        self._drop_absent(description)
        number = {name: i for i, name in enumerate(self.categories)}
        for question in self.questions:
            if question.category not in number:
                raise DataError(
                    f"{question.where}: category {question.category!r} is unknown; known: {', '.join(number)}"
                )
        category = np.array([number[question.category] for question in self.questions])
        references = tuple(question.reference for question in self.questions)
        pairs = zip(self._labels, references, strict=True)
        reference_code = np.array([labels.get(reference, NONE) for labels, reference in pairs])
        split = np.array([question.split for question in self.questions], dtype=object)
        texts = tuple(question.text for question in self.questions)
        options = tuple(question.options for question in self.questions)
        prompts = tuple(question.prompt for question in self.questions)
        return Answers(
            dataset, source, description, self.pool, self.categories, tuple(self.row), texts, options, prompts,
            category, references, reference_code, tuple(tuple(labels) for labels in self._labels), self._code,
            self._available, self._tokens, self._text, split,
            np.array([split_key(text) for text in texts], np.uint64), origin,
            self.row, {prompt: i for i, prompt in enumerate(prompts)},
        )  # fmt: skip

    def _drop_absent(self, description: str) -> None:
        """Leave out the models without any answer, where the pool can do without."""
        some = np.asarray(self._available.any(0))
        absent = [name for name, there in zip(self.column, some, strict=True) if not there]
        if not absent:
            return
        if not self.pool.named or len(absent) == len(some):
            raise DataError(f"{description}: there are no answers of {', '.join(absent)}, of whom the pool consists")
        models = tuple(model for model in self.pool.models if model.name not in absent)
        self.pool = replace(self.pool, models=models)
        self._code, self._available = self._code[:, some], self._available[:, some]
        self._tokens, self._text = self._tokens[:, some], self._text[:, some]


def split_key(text: str) -> int:
    """A number that questions share whose first 160 normalised characters agree: near relatives stay together."""
    normal = " ".join(_WORD.findall(text.casefold()))[:PREFIX_CHARS]
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "little")


def _distinct(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Those whose normalised prompt is new; `DataError` for an id that stands for two of them."""
    kept: dict[bytes, Question] = {}
    ids: set[str] = set()
    for question in questions:
        normal = " ".join(question.prompt.casefold().split())
        first = kept.setdefault(hashlib.blake2b(normal.encode(), digest_size=16).digest(), question)
        if first is question:
            if question.id in ids:
                raise DataError(f"{question.where}: there is another question with the id {question.id!r}")
            ids.add(question.id)
    return tuple(kept.values())


def skill_levels(answers: Answers, split: npt.NDArray[Any], source: str) -> npt.NDArray[np.float64]:
    """How good each model is in each category, float [C, W], rounded to thousandths.

    Args:
        answers: the data set.
        split: of every question, object [Q].
        source: "pool": what the pool says, and where it says nothing as for "train": (right + 1) / (all + 2) over the
            training questions of the category.
    """
    train = answers.available & (split == "train")[:, None]
    skills = np.empty((len(answers.categories), len(answers.models)))
    for c in range(len(answers.categories)):
        here = train & (answers.category == c)[:, None]
        skills[c] = ((answers.correct & here).sum(0) + 1) / (here.sum(0) + 2)
    for w, model in enumerate(answers.models if source == "pool" else ()):
        for name, level in model.skills:
            if name in answers.categories:
                skills[answers.categories.index(name), w] = level
    rounded: npt.NDArray[np.float64] = np.round(skills, 3)
    return rounded

"""The compact form of recorded answers: JSON Lines whose answers have been extracted and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextstep_envs.errors import DataError
from nextstep_envs.recorded.answers import LETTERS, Builder, Question
from nextstep_envs.recorded.extraction import plain_number
from nextstep_envs.recorded.files import check_fields, check_texts, read_lines
from nextstep_envs.recorded.pool import Pool

QUESTIONS, ANSWERS, GSM8K = "questions.jsonl.gz", "answers.jsonl.gz", "gsm8k_answers.jsonl.gz"
SPLITS = ("train", "dev", "test")
_QUESTION = frozenset(("question_id", "category", "question", "options", "answer_index", "src", "split"))
_ANSWER = frozenset(("question_id", "model", "pred", "correct", "output_chars", "output_tokens", "text"))
_PROBLEM = frozenset(("id", "question", "answer", "split", "answers"))
_SOLUTION = frozenset(("model", "pred", "correct", "correct_upstream", "output_chars", "output_tokens", "text"))


def read_mmlu_pro(folder: Path, pool: Pool, categories: tuple[str, ...]) -> Builder:
    """`questions.jsonl.gz` and `answers.jsonl.gz`.

    Raises:
        DataError: with file and row: a field that is unknown, missing or of the wrong kind, an answer to no question or
            given twice, a model that the price list does not have, or `correct` that contradicts `pred`.
    """
    path = folder / QUESTIONS
    questions = [_question(value, f"{path}, row {n}") for n, value in read_lines(path, _QUESTION)]
    builder = Builder(pool, categories, questions)
    right = {question.id: question.reference for question in builder.questions}
    path = folder / ANSWERS
    for number, value in read_lines(path, _ANSWER):
        id, pred = str(value["question_id"]), value["pred"]
        if pred is not None and (not isinstance(pred, str) or len(pred) != 1 or pred not in LETTERS):
            raise DataError(f"{path}, row {number}: pred={pred!r} must be a letter from A to J, or null")
        _put(builder, id, value, pred, pred is not None and pred == right.get(id), f"{path}, row {number}")
    return builder


def read_gsm8k(folder: Path, pool: Pool, categories: tuple[str, ...]) -> Builder:
    """`gsm8k_answers.jsonl.gz`; errors as for `read_mmlu_pro`."""
    path = folder / GSM8K
    problems = list(read_lines(path, _PROBLEM))
    builder = Builder(pool, categories, [_problem(value, categories[0], f"{path}, row {n}") for n, value in problems])
    right = {question.id: question.reference for question in builder.questions}
    for number, problem in problems:
        for i, value in enumerate(problem["answers"]):
            where = f"{path}, row {number}, answers[{i}]"
            check_fields(value, _SOLUTION, where)
            pred = None if value["pred"] is None else plain_number(str(value["pred"]))
            if pred is None and value["pred"] is not None:
                raise DataError(f"{where}: pred={value['pred']!r} must be a number, or null")
            id = problem["id"]
            _put(builder, id, value, pred, pred is not None and pred == right.get(id), where)
    return builder


def _put(builder: Builder, id: str, value: dict[str, Any], pred: str | None, correct: bool, where: str) -> None:
    tokens, text, model = value["output_tokens"], value["text"], value["model"]
    if type(tokens) is not int or tokens < 0 or not isinstance(text, str):
        raise DataError(f"{where}: output_tokens={tokens!r} must be a whole number >= 0, and text a string")
    if builder.pool.named and model not in builder.pool.known:
        raise DataError(f"{where}: no price is known for the model {model!r}; add it to the pool or to models.json")
    if wrong := builder.put(id, model, pred, tokens, text):
        raise DataError(f"{where}: {wrong}")
    if value["correct"] is not correct and id in builder.row:
        raise DataError(f"{where}: correct={value['correct']!r}, but pred={value['pred']!r} says {correct}")


def _question(value: dict[str, Any], where: str) -> Question:
    check_texts(value, ("question", "category"), where)
    options, index = value["options"], value["answer_index"]
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{where}: options must be a list of 2 to {len(LETTERS)} texts")
    if type(index) is not int or not 0 <= index < len(options):
        raise DataError(f"{where}: answer_index={index!r} must be from 0 to {len(options) - 1}")
    id, split = str(value["question_id"]), _split(value["split"], where)
    texts = tuple(map(str, options))
    return Question(id, value["category"], value["question"], texts, LETTERS[index], split, where)


def _problem(value: dict[str, Any], category: str, where: str) -> Question:
    check_texts(value, ("id", "question"), where)
    answer = plain_number(str(value["answer"]))
    if answer is None or not isinstance(value["answers"], list):
        raise DataError(f"{where}: answer={value['answer']!r} must be a number, and answers a list")
    return Question(value["id"], category, value["question"], (), answer, _split(value["split"], where), where)


def _split(value: Any, where: str) -> str:
    if value not in SPLITS:
        raise DataError(f"{where}: split={value!r} must be one of {', '.join(SPLITS)}")
    return str(value)

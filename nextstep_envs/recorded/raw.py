"""The files as their authors published them: MMLU-Pro's outputs, RouteLLM's GSM8K responses, GSM8K's example solutions.

Answers are extracted anew (`extraction`): what was published as a prediction may be a random draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nextstep_envs.errors import DataError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.recorded.answers import LETTERS, Builder, Question
from nextstep_envs.recorded.extraction import letter, number
from nextstep_envs.recorded.files import check_fields, check_texts, read_lines, read_table, read_zipped_list
from nextstep_envs.recorded.pool import Pool

ROUTELLM, SOLUTIONS, PROBLEMS = "gsm8k_responses.csv", "example_model_solutions.jsonl", "test.jsonl"
_ARCHIVE = re.compile(r"model_outputs_(.+)_5shots\.zip")
_ROW = frozenset(("question_id", "question", "options", "answer", "answer_index", "category", "src"))
_ROW_TOO = frozenset(("cot_content", "pred", "generated_text", "model_outputs"))
_SOLUTION = frozenset(("is_correct", "solution"))
_ROUTELLM_NAMES = {"mixtral-8x7b-instruct-v0.1": "mixtral-8x7b-instruct-v0.1@gsm8k"}
_SOLUTION_NAMES = {
    "6b_finetuning": "gpt3-6b-finetuned",
    "6b_verification": "gpt3-6b-verifier",
    "175b_finetuning": "gpt3-175b-finetuned",
    "175b_verification": "gpt3-175b-verifier",
}


class _Output(NamedTuple):
    model: str
    text: str
    where: str


def archives(folder: Path) -> dict[str, Path]:
    """MMLU-Pro's archives in a folder or its `eval_results`, by model."""
    paths = (*folder.glob("*.zip"), *folder.glob("eval_results/*.zip"))
    return {found[1]: path for path in sorted(paths) if (found := _ARCHIVE.fullmatch(path.name))}


def read_mmlu_pro(folder: Path, pool: Pool, categories: tuple[str, ...]) -> Builder:
    """`model_outputs_<model>_5shots.zip` of each model of the pool.

    A model has no answer to a question that its file lacks, or words or keys otherwise than the first file that has it
    (revisions of the data set). Entries that are no objects, as one published file has them, are passed over.

    Raises:
        DataError: an archive is missing or damaged; with file and row: an unknown or missing field, a bad answer.
    """
    found = archives(folder)
    questions: dict[str, Question] = {}
    outputs: dict[str, list[_Output]] = {}
    for model in pool.models:
        path = found.get(model.name)
        if path is None:  # `Builder.build` says whether the pool can do without
            continue
        for row, value in enumerate(read_zipped_list(path), start=1):
            if not isinstance(value, dict):
                continue
            where = f"{path}, row {row}"
            question, text = _question(value, where)
            first = questions.setdefault(question.id, question)
            if first._replace(where=where) == question:
                outputs.setdefault(question.id, []).append(_Output(model.name, text, where))
    builder = Builder(pool, categories, list(questions.values()))
    for id, given in outputs.items():
        n_options = len(questions[id].options)
        for model_name, text, where in given:
            pred = letter(text, n_options, gemini=model_name.startswith("gemini"))
            if wrong := builder.put(id, model_name, pred, estimate_tokens(text), text):
                raise DataError(f"{where}: {wrong}")
    return builder


def read_gsm8k(folder: Path, pool: Pool, categories: tuple[str, ...]) -> Builder:
    """GSM8K's `example_model_solutions.jsonl` and RouteLLM's `gsm8k_responses.csv`, whichever are there.

    RouteLLM's file does not say which answers are right; they are those of the former, or of GSM8K's `test.jsonl`.

    Raises:
        DataError: with file and row: an unknown or missing field, a problem without a right answer.
    """
    questions: list[Question] = []
    outputs: list[tuple[str, _Output]] = []
    source, truth, models = folder / SOLUTIONS, "ground_truth", _SOLUTION_NAMES
    if not source.is_file():
        source, truth, models = folder / PROBLEMS, "answer", {}
    if not source.is_file():
        raise DataError(f"{folder}: neither {SOLUTIONS} nor {PROBLEMS} is there; they hold the right answers")
    for row, value in read_lines(source, {"question", truth, *models}):
        where, id = f"{source}, row {row}", f"gsm8k-test-{row - 1:05d}"
        check_texts(value, ("question", truth), where)
        answer = number(value[truth])
        if answer is None:
            raise DataError(f"{where}: {truth} holds no number")
        questions.append(Question(id, categories[0], value["question"], (), answer, "", where))
        for name, model in models.items():
            check_fields(value[name], _SOLUTION, f"{where}, {name}")
            check_texts(value[name], ("solution",), f"{where}, {name}")
            outputs.append((id, _Output(model, value[name]["solution"], where)))
    ids = {" ".join(question.text.split()): question.id for question in questions}
    if (folder / ROUTELLM).is_file():
        outputs += [(_known(ids, prompt, output.where), output) for prompt, output in _responses(folder / ROUTELLM)]
    builder = Builder(pool, categories, questions)
    for id, (model, text, where) in outputs:
        if wrong := builder.put(id, model, number(text), estimate_tokens(text), text):
            raise DataError(f"{where}: {wrong}")
    return builder


def _responses(path: Path) -> Iterator[tuple[str, _Output]]:
    for row, value in read_table(path):
        where = f"{path}, row {row}"
        models = [name for name in value if f"{name}_response" in value]
        known = {"prompt", *models, *(f"{name}_response" for name in models)}
        check_fields(value, known, where)
        for name in models:
            yield value["prompt"], _Output(_ROUTELLM_NAMES.get(name, name), value[f"{name}_response"], where)


def _known(ids: dict[str, str], prompt: str, where: str) -> str:
    id = ids.get(" ".join(prompt.split()))
    if id is None:
        raise DataError(f"{where}: no right answer is known for the problem {prompt[:60]!r}")
    return id


def _question(value: dict[str, Any], where: str) -> tuple[Question, str]:
    check_fields(value, _ROW, where, optional=_ROW_TOO)
    check_texts(value, ("question", "category"), where)
    options, answer, index = value["options"], value["answer"], value["answer_index"]
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{where}: options must be a list of 2 to {len(LETTERS)} texts")
    if type(index) is not int or not 0 <= index < len(options) or answer != LETTERS[index]:
        raise DataError(f"{where}: answer={answer!r} and answer_index={index!r} do not name one of the options")
    text = value.get("generated_text", value.get("model_outputs"))
    if not isinstance(text, str):
        raise DataError(f"{where}: the model's text is missing: neither generated_text nor model_outputs is a string")
    options = tuple(map(str, options))
    return Question(str(value["question_id"]), value["category"], value["question"], options, answer, "", where), text

"""The files as published: answers are read anew, known oddities are passed over, everything else is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextstep_envs.errors import DataError
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.load import load_answers
from tests.envs.recorded.tiny import published, write_archive

SMALL, LARGE = "Phi-3-mini-4k-instruct", "Meta-Llama-3_1-70B-Instruct"  # priced in the packaged pool
PROBLEMS = (("How many?", "2"), ("How  much\nis it?", "1200"))


def test_archives_of_a_folder_or_its_eval_results_are_read(tmp_path: Path) -> None:
    (tmp_path / "eval_results").mkdir()
    rows = [published(1, "The answer is (B)."), "a stray entry", published(2, "I cannot say.")]
    write_archive(tmp_path, SMALL, rows)
    write_archive(tmp_path / "eval_results", LARGE, [published(1, "The answer is (A).", "model_outputs")])
    write_archive(tmp_path, "a-model-without-a-price", [])
    answers = load_answers("mmlu_pro", str(tmp_path), "open")
    assert [model.name for model in answers.models] == [SMALL, LARGE] and answers.ids == ("1", "2")
    assert answers.correct.tolist() == [[True, False], [False, False]]
    assert answers.available.tolist() == [[True, True], [True, False]]
    assert answers.tokens[0].tolist() == [5, 5]  # a token for four characters
    assert not answers.split.any()  # to be divided by hash


def test_a_published_guess_is_not_credited(tmp_path: Path) -> None:
    """The published `pred` of an output without an answer is a random letter."""
    write_archive(tmp_path, SMALL, [published(1, "I cannot say.", pred="B")])
    answers = load_answers("mmlu_pro", str(tmp_path), "open")
    assert answers.code.tolist() == [[NONE]] and not answers.correct.any()


def test_a_question_worded_otherwise_has_no_answer_of_that_model(tmp_path: Path) -> None:
    write_archive(tmp_path, SMALL, [published(1, "The answer is (B)."), published(2, "The answer is (B).")])
    revised = [published(1, "The answer is (B).", options=["first", "second"]), published(2, "The answer is (B).")]
    write_archive(tmp_path, LARGE, revised)
    assert load_answers("mmlu_pro", str(tmp_path), "open").available.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generated": "x"}, "row 2: unknown field 'generated'"),
        ({"answer": "C"}, "row 2: answer='C' and answer_index=1 do not name one of the options"),
        ({"generated_text": None}, "row 2: the model's text is missing"),
        ({"options": "B"}, "row 2: options must be a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_archive(tmp_path, SMALL, [published(1, "x"), {**published(2, "x"), **change}])
    with pytest.raises(DataError, match=f"model_outputs_{SMALL}_5shots.zip, {message}"):
        load_answers("mmlu_pro", str(tmp_path), "open")


def test_a_bad_archive_is_named(tmp_path: Path) -> None:
    path = write_archive(tmp_path, SMALL, [published(i, f"The answer is ({i}).") for i in range(50)])
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=f"model_outputs_{SMALL}_5shots.zip: truncated or damaged"):
            load_answers("mmlu_pro", str(tmp_path), "open")
    path.write_bytes(whole[:60] + b"\0" * 20 + whole[80:])
    with pytest.raises(DataError, match="truncated or damaged"):
        load_answers("mmlu_pro", str(tmp_path), "open")


def write_solutions(folder: Path, **changes: Any) -> None:
    names = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    rows = []
    for question, answer in PROBLEMS:
        solutions = {name: {"is_correct": True, "solution": f"Well.\nA: {answer}"} for name in names}
        rows.append({"question": question, "ground_truth": f"It is so.\nA: {answer}", **solutions, **changes})
    (folder / "example_model_solutions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_responses(folder: Path, prompts: list[str], extra: str = "") -> None:
    small, large = "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"
    with (folder / "gsm8k_responses.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["prompt", small, large, f"{small}_response", f"{large}_response", *([extra] if extra else [])])
        for prompt in prompts:
            out.writerow([prompt, "False", "True", "#### 7", "It costs $1,200.00", *(["x"] if extra else [])])


def test_solutions_and_responses_are_one_data_set(tmp_path: Path) -> None:
    write_solutions(tmp_path)
    write_responses(tmp_path, ["How many?", "How much is it?"])
    answers = load_answers("gsm8k", str(tmp_path), "all")
    assert len(answers.models) == 6 and answers.models[4].name == "mixtral-8x7b-instruct-v0.1@gsm8k"
    assert answers.correct.tolist() == [[True] * 4 + [False] * 2, [True] * 4 + [False, True]]
    single, hundred = answers.tokens[0, 0], answers.tokens[0, 1]  # a verifier's hundred samples are all billed
    assert hundred == 100 * single


def test_responses_take_the_right_answers_from_the_problems_where_there_are_no_solutions(tmp_path: Path) -> None:
    write_responses(tmp_path, ["How many?"])
    with pytest.raises(DataError, match="neither example_model_solutions.jsonl nor test.jsonl"):
        load_answers("gsm8k", str(tmp_path), "all")
    rows = [{"question": q, "answer": f"So it is.\n#### {a}"} for q, a in PROBLEMS]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = load_answers("gsm8k", str(tmp_path), "all")
    assert answers.reference == ("2", "1200") and np.argwhere(answers.available).tolist() == [[0, 0], [0, 1]]


def test_a_bad_solution_or_response_is_named(tmp_path: Path) -> None:
    write_solutions(tmp_path, ground_truth="nobody knows")
    with pytest.raises(DataError, match="example_model_solutions.jsonl, row 1: ground_truth holds no number"):
        load_answers("gsm8k", str(tmp_path), "all")
    write_solutions(tmp_path, **{"6b_finetuning": {"is_correct": True, "text": "2"}})
    with pytest.raises(DataError, match="row 1, 6b_finetuning: unknown field 'text'"):
        load_answers("gsm8k", str(tmp_path), "all")
    write_solutions(tmp_path)
    write_responses(tmp_path, ["How many?", "How old?"])
    with pytest.raises(DataError, match=r"responses.csv, row 2: no right answer is known for the problem 'How old\?'"):
        load_answers("gsm8k", str(tmp_path), "all")
    write_responses(tmp_path, ["How many?"], extra="score")
    with pytest.raises(DataError, match="gsm8k_responses.csv, row 1: unknown field 'score'"):
        load_answers("gsm8k", str(tmp_path), "all")
    (tmp_path / "gsm8k_responses.csv").write_text("prompt,m,m_response\nHow many?,True\n")
    with pytest.raises(DataError, match="gsm8k_responses.csv, row 1: 2 columns, but the header has 3"):
        load_answers("gsm8k", str(tmp_path), "all")

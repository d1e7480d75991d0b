"""The compact form: what is in it is loaded, and what is wrong is named with file and row."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.load import load_answers
from tests.envs.recorded import tiny


def load(folder: Path, pool: Any = "all") -> Any:
    return load_answers("mmlu_pro", str(folder), pool)


def test_answers_become_columns(folder: Path) -> None:
    answers = load(folder)
    assert answers.source == "recorded" and answers.ids == tuple("123456")
    assert [model.name for model in answers.models] == list(tiny.MODELS)
    expected = [[pred == "B" for pred in preds] for preds in tiny.PREDS.values()]
    np.testing.assert_array_equal(answers.correct, expected)
    np.testing.assert_array_equal(answers.code == NONE, [[p is None for p in preds] for preds in tiny.PREDS.values()])
    assert answers.tokens.tolist() == [[40] * 3] * 6 and answers.text[2, 0] == "cheap thinks. I cannot say."
    assert answers.prompts[0].splitlines()[1:] == ["A. first", "B. second", "C. third"]


def test_the_open_pool_has_the_models_with_public_weights(folder: Path) -> None:
    assert [model.name for model in load(folder, "open").models] == ["cheap", "dear"]


def test_all_samples_of_an_answer_are_billed(folder: Path) -> None:
    pool = {"models": [tiny.model("dear", 1.0, samples_per_answer=100)]}
    assert load(folder, pool).tokens.tolist() == [[4000]] * 6


def test_a_model_without_a_row_is_not_available(folder: Path) -> None:
    rows = [row for row in tiny.answers() if (row["question_id"], row["model"]) != (4, "dear")]
    answers = load(tiny.write_compact(folder, rows))
    assert np.argwhere(~answers.available).tolist() == [[3, 1]]


def test_a_model_without_any_row_is_left_out_of_a_named_pool_only(folder: Path) -> None:
    tiny.write_compact(folder, [row for row in tiny.answers() if row["model"] != "closed"])
    assert [model.name for model in load(folder).models] == ["cheap", "dear"]
    with pytest.raises(DataError, match="no answers of closed"):
        load(folder, {"models": [tiny.model("cheap", 1.0), tiny.model("closed", 1.0)]})


def test_a_repeated_prompt_is_left_out_with_its_answers(folder: Path) -> None:
    again = {**tiny.questions()[0], "question_id": 7, "question": "WHICH option of  question number 1 is right?"}
    tiny.write_compact(folder, [*tiny.answers(), tiny.answer(7, "cheap", "A")], [*tiny.questions(), again])
    assert load(folder).ids == tuple("123456")


def test_a_data_set_is_loaded_once_and_pickled_by_name(folder: Path) -> None:
    answers = load(folder)
    assert load(folder) is answers and pickle.loads(pickle.dumps(answers)) is answers
    assert copy.deepcopy(answers) is answers and len(pickle.dumps(answers)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prde": "A"}, r"answers.jsonl.gz, row 3: unknown field 'prde'"),
        ({"text": None}, r"answers.jsonl.gz, row 3: .*text a string"),
        ({"output_tokens": -1}, r"row 3: output_tokens=-1"),
        ({"pred": "K"}, r"row 3: pred='K' must be a letter"),
        ({"correct": False}, r"row 3: correct=False, but pred='B' says True"),
        ({"question_id": 99}, r"row 3: there is no question '99'"),
        ({"model": "dear"}, r"row 3: 'dear' answers question '1' a second time"),
        ({"model": "unheard-of"}, r"row 3: no price is known for the model 'unheard-of'"),
    ],
)
def test_a_bad_answer_is_named_with_its_row(folder: Path, change: dict[str, Any], message: str) -> None:
    rows = tiny.answers()
    rows[2] |= change
    with pytest.raises(DataError, match=message):
        load(tiny.write_compact(folder, rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_index": 3}, "row 2: answer_index=3 must be from 0 to 2"),
        ({"options": ["only"]}, "row 2: options must be a list of 2 to 10 texts"),
        ({"split": "trian"}, "row 2: split='trian' must be one of train, dev, test"),
        ({"category": "alchemy"}, "row 2: category 'alchemy' is unknown; known: biology"),
        ({"question": 5}, "row 2: question=5 must be a text"),
        ({"question_id": 1}, "row 2: there is another question with the id '1'"),
    ],
)
def test_a_bad_question_is_named_with_its_row(folder: Path, change: dict[str, Any], message: str) -> None:
    rows = tiny.questions()
    rows[1] |= change
    with pytest.raises(DataError, match=f"questions.jsonl.gz, {message}"):
        load(tiny.write_compact(folder, asked=rows))


def test_a_missing_field_is_named_with_its_row(folder: Path) -> None:
    rows = tiny.answers()
    del rows[4]["text"]
    with pytest.raises(DataError, match="answers.jsonl.gz, row 5: the field 'text' is missing"):
        load(tiny.write_compact(folder, rows))


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "answers.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="answers.jsonl.gz: truncated or damaged"):
        load(folder)


def test_a_line_that_is_no_json_is_named(folder: Path) -> None:
    import gzip

    (folder / "answers.jsonl.gz").write_bytes(gzip.compress(b'{"question_id": 1,\n'))
    with pytest.raises(DataError, match="answers.jsonl.gz, row 1: not valid JSON"):
        load(folder)


def test_a_folder_without_data_says_what_there_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recorded answers of mmlu_pro; .*model_outputs_<model>_5shots.zip"):
        load(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        load(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"usd_per_m_output": None}, r"models\[1\] \(dear\): no price: give usd_per_m_output"),
        ({"usd_per_m_input": -1}, r"models\[1\] \(dear\): usd_per_m_input=-1 must be a number >= 0"),
        ({"prompt_tokens": None}, r"models\[1\] \(dear\): no size of the prompt"),
        ({"prompt_tokens": 1.5}, r"models\[1\] \(dear\): prompt_tokens=1.5 must be a whole number"),
        ({"pirce": 3}, r"models\[1\] \(dear\): unknown field 'pirce'"),
        ({"skills": {"law": 3}}, r"models\[1\] \(dear\): skills\['law'\]=3 must be at most 1"),
    ],
)
def test_a_bad_price_list_is_named_with_its_entry(folder: Path, change: dict[str, Any], message: str) -> None:
    value = tiny.models()
    value["models"][1] |= change
    (folder / "models.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=f"models.json, {message}"):
        load(folder)
    path = folder / "pool.yaml"
    path.write_text(json.dumps({"models": value["models"]}))  # JSON is YAML
    with pytest.raises(DataError, match=f"pool.yaml, {message}"):
        load(folder, str(path))


def test_a_bad_pool_is_named(folder: Path) -> None:
    for value, message in (
        ({"models": []}, "non-empty list 'models'"),
        ({"models": [tiny.model("cheap", 1)] * 2}, "the model 'cheap' is there 2 times"),
        ({"models": [tiny.model("cheap", 1)], "limit": 3}, "unknown field 'limit'"),
        ({"models": [tiny.model("cheap", 1)], "dataset": "gsm8k"}, "dataset='gsm8k', but the world is 'mmlu_pro'"),
        ({"models": [tiny.model("cheap", 1)], "budget": {"token": 3}}, "'token'"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            load(folder, value)
    with pytest.raises(ConfigError, match="pool='opne'"):
        load(folder, "opne")
    with pytest.raises(DataError, match="there is no such file"):
        load(folder, "nowhere.yaml")

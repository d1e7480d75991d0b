"""The published recordings: accuracies and costs as documented, one extraction rule, no leak between splits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nextstep_envs.recorded.answers import NONE, skill_levels
from nextstep_envs.recorded.extraction import letter, number
from nextstep_envs.recorded.load import load_answers
from nextstep_envs.recorded.pool import read_pool
from nextstep_envs.recorded.splits import SplitSettings, divide
from nextstep_envs.worlds.qa import MMLUPro

# Accuracy in per cent on train and dev, mean cost in micro-USD, nulls in per cent.
MMLU_PRO = {
    "Llama-2-7b-hf": (16.6, 19.2, 274, 15.4),
    "Phi-3-mini-4k-instruct": (42.7, 41.4, 139, 10.6),
    "Mistral-7B-Instruct-v0.2": (29.2, 29.6, 279, 14.9),
    "mathstral-7B": (39.4, 39.6, 282, 2.7),
    "Meta-Llama-3_1-8B-Instruct": (42.3, 43.3, 299, 7.3),
    "Mixtral-8x7B-Instruct-v0.1": (42.4, 42.3, 829, 9.9),
    "Yi-34B": (44.0, 43.2, 1094, 7.1),
    "Llama-2-70b-hf": (37.5, 35.9, 1236, 10.1),
    "Qwen1.5-72B-Chat": (49.6, 49.3, 1276, 12.8),
    "Meta-Llama-3_1-70B-Instruct": (63.2, 62.4, 1266, 1.9),
    "gemini-1.5-flash-002": (63.2, 64.1, 122, 1.6),
    "gemini-1.5-pro-002": (70.6, 70.1, 1896, 0.0),
}


def test_accuracy_cost_and_nulls_are_as_documented(recorded_data: Path) -> None:
    answers = load_answers("mmlu_pro", str(recorded_data), "all")
    assert answers.code.shape == (4635, 12) and answers.available.all()
    train = answers.split == "train"
    for w, model in enumerate(answers.models):
        paid = 1e6 * answers.usd[:, w]
        right = answers.correct[:, w]
        accuracy = 100 * right[train].mean(), 100 * right[~train].mean()
        nulls = 100 * (answers.code[:, w] == NONE).mean()
        expected = MMLU_PRO[model.name]
        assert accuracy == pytest.approx(expected[:2], abs=0.051)
        assert paid.mean() == pytest.approx(expected[2], abs=0.51) and nulls == pytest.approx(expected[3], abs=0.051)


def test_the_default_pool_is_the_ten_open_models(recorded_data: Path) -> None:
    world = MMLUPro(str(recorded_data))
    assert len(world.answers.models) == 10 and all(model.open_weights for model in world.answers.models)
    assert (len(world.ids("train")), len(world.ids("dev"))) == (3850, 785)


def test_packaged_prices_are_those_of_the_data_and_skills_those_of_its_training_questions(recorded_data: Path) -> None:
    for dataset in ("mmlu_pro", "gsm8k"):
        theirs = read_pool(dataset, "all", recorded_data).models
        assert tuple(replace(model, dataset=dataset) for model in read_pool(dataset, "all", None).models) == theirs
        answers = load_answers(dataset, str(recorded_data), "all")
        split = divide(answers, SplitSettings())
        measured, packaged = (skill_levels(answers, split, source) for source in ("train", "pool"))
        np.testing.assert_allclose(packaged, measured, atol=0.0011)


def test_nothing_leaks_between_splits(recorded_data: Path) -> None:
    for dataset in ("mmlu_pro", "gsm8k"):
        answers = load_answers(dataset, str(recorded_data), "all")
        for kwargs in ({}, {"splits": "hash"}, {"folds": 5, "fold": 2}):
            split = divide(answers, SplitSettings(**kwargs))
            keys = [set(answers.key[split == name].tolist()) for name in ("train", "dev", "test")]
            assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]


def test_our_rule_reads_whole_texts_as_the_data_has_them(recorded_data: Path) -> None:
    """The data keeps the last 500 characters; texts that are whole can be read anew."""
    answers = load_answers("mmlu_pro", str(recorded_data), "all")
    agree, whole = 0, 0
    for row, options in enumerate(answers.options):
        for w, model in enumerate(answers.models):
            text, code = answers.text[row, w], answers.code[row, w]
            if len(text) < 500:
                whole += 1
                stated = None if code == NONE else answers.labels[row][code]
                agree += letter(text, len(options), model.name.startswith("gemini")) == stated
    assert whole > 40_000 and whole - agree < 15  # "(Dorset Complex)" is no option D, and the like

    problems = load_answers("gsm8k", str(recorded_data), "all")
    differ = 0
    for row in range(len(problems.ids)):
        for w in range(6):
            code = problems.code[row, w]
            if len(problems.text[row, w]) < 500:
                differ += number(problems.text[row, w]) != (None if code == NONE else problems.labels[row][code])
    assert differ == 0


def test_the_whole_data_set_fits_into_300_megabytes(recorded_data: Path) -> None:
    code = (
        "import re, sys\n"
        "from nextstep_envs.recorded.load import load_answers\n"
        "for name in ('mmlu_pro', 'gsm8k'):\n"
        "    load_answers(name, sys.argv[1], 'all').question_hashes(256)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    command = [sys.executable, "-c", code, str(recorded_data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert int(done.stdout) < 300 * 1024

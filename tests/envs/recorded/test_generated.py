"""The generated data set is what its documentation says."""

from __future__ import annotations

import numpy as np
import pytest

from nextstep_envs.recorded import generated
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.extraction import letter, number
from nextstep_envs.recorded.load import CATEGORIES, load_answers


@pytest.mark.parametrize("dataset", ["mmlu_pro", "gsm8k"])
def test_the_reference_is_the_sum_that_the_words_tell(dataset: str) -> None:
    answers = load_answers(dataset, None, "open")
    for text, options, reference in zip(answers.texts, answers.options, answers.reference, strict=True):
        value = 0
        for sentence in text.split(". "):
            n = next((int(word) for word in sentence.split() if word.isdigit()), 0)
            value = {"There": n, "How": value}.get(sentence.split()[0], value)
            if sentence.startswith("Then"):
                value = 2 * value if "doubles" in sentence else value + n if "more" in sentence else value - n
        assert value >= 0 and reference == (str(value) if not options else "ABCDEFGHIJ"[options.index(str(value))])
        assert len(set(options)) == len(options)


@pytest.mark.parametrize("dataset", ["mmlu_pro", "gsm8k"])
def test_what_a_worker_writes_is_what_it_answers(dataset: str) -> None:
    answers = load_answers(dataset, None, "open")
    for row in range(200):
        for w in range(len(answers.models)):
            text, code = answers.text[row, w], answers.code[row, w]
            stated = None if code == NONE else answers.labels[row][code]
            if dataset == "mmlu_pro":
                assert letter(text, 10) == stated
            elif stated is not None:
                assert number(text) == stated


def test_stronger_workers_are_right_more_often_and_specialists_in_their_field() -> None:
    answers = load_answers("mmlu_pro", None, "open")
    correct = dict(zip((worker.name for worker in generated.WORKERS), answers.correct.T, strict=True))
    counting = np.isin(np.array(answers.categories)[answers.category], generated.COUNTING)
    assert correct["tiny"].mean() < correct["small"].mean() < correct["medium"].mean() < correct["large"].mean()
    assert correct["small-counting"][counting].mean() > correct["small"][counting].mean() + 0.1
    assert correct["small-counting"][~counting].mean() < correct["small"][~counting].mean()


def test_wrong_workers_agree_more_than_chance() -> None:
    answers = load_answers("mmlu_pro", None, "open")
    wrong = (answers.code != NONE) & ~answers.correct
    both = wrong[:, 0] & wrong[:, 1]
    same = answers.code[both, 0] == answers.code[both, 1]
    expected = generated.COMMON_ERROR**2 + (1 - generated.COMMON_ERROR) ** 2 / 8
    assert same.mean() == pytest.approx(expected, abs=4 * same.std() / len(same) ** 0.5)


def test_it_is_the_same_in_every_process() -> None:
    first = load_answers("mmlu_pro", None, "open")
    again = generated.generate("mmlu_pro", CATEGORIES["mmlu_pro"], first.origin)
    assert again.prompts == first.prompts and (again.code == first.code).all() and (again.text == first.text).all()

"""Estimates of who is right know training questions only, and of those not the one that is asked about."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.recorded.answers import NONE, Answers
from nextstep_envs.recorded.estimates import PARTS, Table, estimates


@pytest.fixture(scope="module")
def answers() -> Answers:
    world = gym.make("NextStep/MMLUPro-Routing-v0", workers="recorded").unwrapped.setup.world  # type: ignore[attr-defined]
    found: Answers = world.answers
    return found


def fitted(answers: Answers, train: np.ndarray, wrong: np.ndarray | None = None) -> Table:
    """The estimates, where nobody is right about the questions `wrong`."""
    reference = answers.reference_code.copy()
    if wrong is not None:
        reference[wrong] = NONE
    changed = replace(answers, reference_code=reference, made={})
    return estimates(changed, train, answers.available)


def test_no_other_split_is_read(answers: Answers) -> None:
    train = np.arange(len(answers.ids)) % 2 == 0
    np.testing.assert_array_equal(fitted(answers, train), fitted(answers, train, wrong=~train))


def test_a_training_question_is_not_judged_by_its_own_answers(answers: Answers) -> None:
    train = np.ones(len(answers.ids), bool)
    part = answers.key % PARTS == 2
    before, after = fitted(answers, train), fitted(answers, train, wrong=part)
    np.testing.assert_array_equal(before[part], after[part])
    assert not np.array_equal(before[~part], after[~part])


def test_estimates_tell_who_is_right(answers: Answers) -> None:
    train = np.arange(len(answers.ids)) % 2 == 0
    table, right = fitted(answers, train)[:, 0], answers.correct
    assert ((table >= 0) & (table <= 1)).all()
    guess, truth = table[~train], right[~train]
    assert ((guess - truth) ** 2).mean() < ((right[train].mean() - truth) ** 2).mean()


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="estimates='yes'"):
        gym.make("NextStep/MMLUPro-Routing-v0", estimates="yes")

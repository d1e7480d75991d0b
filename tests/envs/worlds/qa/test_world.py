"""Worlds of questions: what counts as an answer, and when it is right."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.mathchat import GSM8K
from nextstep_envs.worlds.qa import MMLUPro
from tests.envs.recorded.tiny import write_compact


def test_a_call_gives_one_answer_or_none() -> None:
    world, state = MMLUPro(), ()
    for call, votes in (
        ("answer[b]", 1),
        ("answer[(C)]", 2),
        ("answer[K]", 2),
        ("guess[A]", 2),
        ("answer[A; 0.25]", 3),
    ):
        state, _ = world.act(state, call)
        assert len(state) == votes
    assert [(vote.label, vote.weight) for vote in state] == [("B", 500), ("C", 500), ("A", 250)]


def test_numbers_are_compared_as_numbers() -> None:
    world = GSM8K()
    task = world.task(world.ids("all")[0])
    right = world.answers.reference[0]
    for text in (right, f"${right}.00", f"{int(right):,}"):
        outcome = world.outcome(task, world.act((), f"answer[{text}]")[0])
        assert outcome.success and outcome.score == 1.0 and outcome.answer == right
    assert not world.outcome(task, world.act((), f"answer[{int(right) + 1}]")[0]).success


def test_no_answer_is_wrong() -> None:
    world = MMLUPro()
    outcome = world.outcome(world.task(world.ids("dev")[0]), ())
    assert (outcome.score, outcome.success, outcome.answer, outcome.votes) == (0.0, False, "", 0)


def test_the_task_shows_the_question_and_not_the_answer(tmp_path: Path) -> None:
    world = MMLUPro(str(write_compact(tmp_path)))
    assert world.task("3").prompt == "Which option of question number 3 is right?\nA. first\nB. second\nC. third"


def test_questions_are_drawn_from_the_split() -> None:
    world, rng = MMLUPro(), random.Random(0)
    for split in ("train", "dev", "test"):
        assert {world.sample_id(split, rng) for _ in range(12_000)} == set(world.ids(split))
    assert len(world.ids("all")) == sum(len(world.ids(split)) for split in ("train", "dev", "test"))


def test_an_empty_split_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split='test' holds no question .*dev 2, train 4.*splits='hash'"):
        MMLUPro(str(write_compact(tmp_path))).ids("test")
    with pytest.raises(ConfigError, match="split='tset'"):
        MMLUPro().ids("tset")
    with pytest.raises(ConfigError, match="task_id='nothing'"):
        MMLUPro().task("nothing")


def test_bad_arguments_are_named() -> None:
    for arguments, message in (
        ({"answer": "best"}, "answer='best'"),
        ({"skills": "dev"}, "skills='dev'"),
        ({"held_out_models": "large"}, "must be a sequence of names"),
    ):
        with pytest.raises(ConfigError, match=message):
            MMLUPro(**arguments)


def test_a_world_is_pickled_by_its_arguments(tmp_path: Path) -> None:
    world = MMLUPro(str(write_compact(tmp_path)), pool="all", answer="weighted", held_out_models=["dear"])
    again = pickle.loads(pickle.dumps(world))
    assert again.answers is world.answers and again.rule == "weighted" and (again.can_ask == world.can_ask).all()


def test_the_generated_data_says_that_it_is() -> None:
    for world in (MMLUPro(), GSM8K()):
        assert world.data_source == "generated" and "no real model" in world.answers.description

"""Worlds of questions: a tiny one that can be counted by hand, and the generated one."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from nextstep_envs.recorded.answers import NONE
from nextstep_envs.worlds.qa.world import QuestionWorld
from tests.envs.recorded.tiny import write_compact

ID = "nextstep_envs:NextStep/MMLUPro-Routing-v0"
KWARGS: dict[str, Any] = {"workers": "recorded", "estimates": True, "question_buckets": 0, "text_buckets": 4}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> QuestionWorld:
    """Six questions, "cheap" ($0.000108 a call) and "dear" ($0.00108)."""
    folder: Path = write_compact(tmp_path_factory.mktemp("tiny"))
    world: QuestionWorld = gym.make(ID, workers=f"recorded:{folder}").unwrapped.setup.world  # type: ignore[attr-defined]
    return world


@pytest.fixture(scope="session")
def made() -> Any:
    """An environment with generated answers."""
    return gym.make(ID, **KWARGS)


@pytest.fixture(scope="session")
def world(made: Any) -> QuestionWorld:
    """Its world."""
    found: QuestionWorld = made.unwrapped.setup.world
    return found


def rows_of(world: QuestionWorld, split: str) -> Any:
    """Questions of a split."""
    return np.flatnonzero(world.split_of == split)


def with_wrong(world: QuestionWorld, rows: Any) -> QuestionWorld:
    """The same, but nobody is right about some questions."""
    reference = world.answers.reference_code.copy()
    reference[rows] = NONE
    other = copy(world)
    other.answers = replace(world.answers, reference_code=reference, made={})
    return other

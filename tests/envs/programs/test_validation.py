"""Several tasks as one: drawn without repetition, named by joined ids, nothing else changed."""

from __future__ import annotations

import random

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.programs.validation import ValidationSet
from nextstep_envs.types import Task
from tests.envs.toy import Counter


class Many(Counter):
    """The toy world with ten tasks, of which "9" is never drawn."""

    def ids(self, split: str) -> tuple[str, ...]:
        return tuple(map(str, range(10)))

    def sample_id(self, split: str, rng: random.Random) -> str:
        return rng.choice(self.ids(split)[:9])

    def task(self, task_id: str) -> Task:
        if task_id not in self.ids("all"):
            raise ConfigError(f"task_id={task_id!r} is unknown")
        return super().task(task_id)


def test_different_tasks_are_drawn_by_the_worlds_own_weights() -> None:
    tasks = ValidationSet(Many(), 4)
    drawn = [tasks.sample_id("train", random.Random(seed)).split("+") for seed in range(50)]
    assert all(len(set(ids)) == 4 for ids in drawn)
    assert {task_id for ids in drawn for task_id in ids} == set("012345678")
    assert tasks.sample_id("train", random.Random(1)) == tasks.sample_id("train", random.Random(1))


def test_a_split_is_cut_into_sets() -> None:
    assert ValidationSet(Many(), 4).ids("dev") == ("0+1+2+3", "4+5+6+7")
    assert ValidationSet(Many(), 10).ids("dev") == ("0+1+2+3+4+5+6+7+8+9",)


def test_a_set_is_a_task_with_a_line_for_each_part() -> None:
    tasks = ValidationSet(Many(), 2)
    assert tasks.task("7+2") == Task("7+2", "1. count to 7\n2. count to 2")
    assert tasks.parts("7+2") == (Task("7", "count to 7"), Task("2", "count to 2"))
    assert tasks.task("3") == Task("3", "count to 3") and len(tasks.parts("1+2+3")) == 3


@pytest.mark.parametrize("task_id", ["", "x", "1+x", "1+", "1+1", "1 + 2", "no such task"])
def test_an_unknown_set_is_named(task_id: str) -> None:
    with pytest.raises(ConfigError, match="no such task as '.*'"):
        ValidationSet(Many(), 2).task(task_id)


def test_too_few_tasks_are_an_error_before_anything_is_drawn() -> None:
    with pytest.raises(ConfigError, match="has 10 tasks, fewer than the tasks=11"):
        ValidationSet(Many(), 11).ids("dev")
    with pytest.raises(ConfigError, match="gave only 9 of tasks=10"):
        ValidationSet(Many(), 10).sample_id("dev", random.Random(0))


def test_everything_else_is_the_worlds_own() -> None:
    world, tasks = Many(), ValidationSet(Many(), 2)
    task = tasks.task("3")
    state = tasks.begin(task, random.Random(5))
    assert state == world.begin(task, random.Random(5))
    after, shown = tasks.act(state, "end")
    assert (after, shown) == world.act(state, "end") and tasks.view(after) == "end"
    assert tasks.done(after) and not tasks.done(state) and tasks.available(state) == {}
    assert tasks.outcome(task, after).score == world.outcome(task, after).score and tasks.name == world.name

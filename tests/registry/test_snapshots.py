"""A snapshot takes the whole wrapper stack, and what follows a restore is the same, byte for byte."""

from __future__ import annotations

import pickle
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeReward, RecordEpisodeStatistics, TimeLimit

import nextstep_envs  # noqa: F401
import registry
from tests.conformance.cases import assert_same
from wrappers import CostPenalty, CostPenaltyVector, RecordCost, RecordCostVector, RecordTrace, WorkerPoolShift
from wrappers.jsonl import read_lines

ID = "NextStep/WebShop-Workflow-v0"


def stack() -> gym.Env[Any, Any]:
    """Wrappers of ours and of Gymnasium, all with counters."""
    env = WorkerPoolShift(gym.make(ID), size=2)
    return RecordCost(NormalizeReward(RecordEpisodeStatistics(CostPenalty(TimeLimit(env, 4), weight=0.3, form="log"))))


def play(env: gym.Env[Any, Any], rng: np.random.Generator, steps: int) -> list[Any]:
    """A random walk over episodes, from wherever the environment stands; clock readings are left out."""
    seen: list[Any] = []
    mask = env.get_wrapper_attr("action_masks")()
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(int(rng.choice(np.flatnonzero(mask))))
        info.get("episode", {}).pop("t", None)
        seen.append((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            seen.append(env.reset())
        mask = env.get_wrapper_attr("action_masks")()
    return seen


def test_the_whole_stack_continues_as_it_did_resets_included() -> None:
    env = stack()
    env.reset(seed=3)
    play(env, np.random.default_rng(0), 5)
    taken = registry.snapshot(env)
    expected = play(env, np.random.default_rng(1), 12)
    for _ in range(2):  # a snapshot can be restored again and again
        registry.restore(env, taken)
        assert_same(play(env, np.random.default_rng(1), 12), expected)


def test_a_snapshot_survives_a_file_and_fits_an_equal_stack() -> None:
    env, twin = stack(), stack()
    env.reset(seed=3)
    play(env, np.random.default_rng(0), 5)
    taken = pickle.loads(pickle.dumps(registry.snapshot(env)))
    twin.reset(seed=99)
    registry.restore(twin, taken)
    assert_same(play(twin, np.random.default_rng(1), 12), play(env, np.random.default_rng(1), 12))


def test_going_on_does_not_change_what_was_taken() -> None:
    env = stack()
    env.reset(seed=3)
    play(env, np.random.default_rng(0), 2)
    taken = registry.snapshot(env)
    before = pickle.dumps(taken)
    play(env, np.random.default_rng(1), 12)
    assert pickle.dumps(taken) == before


def test_another_sample_is_another_attempt_from_the_same_point() -> None:
    env = gym.make(ID, workers="fake", split="all")
    env.reset(seed=1)
    taken = registry.snapshot(env)
    outputs = set()
    for sample in (0, 1, 2, 1):
        registry.restore(env, taken, sample=sample)
        _, _, _, _, info = env.step(0)
        assert info["sample"] == sample
        outputs.add((sample, info["records"][0].tools))
    assert len(outputs) == 3 and len({output for _, output in outputs}) > 1


def test_a_strangers_environment_without_the_methods_is_refused() -> None:
    env = TimeLimit(gym.make("CartPole-v1"), 5)
    with pytest.raises(registry.SnapshotError, match=r"CartPoleEnv has no snapshot\(\) and restore\(\)"):
        registry.snapshot(env)


def test_a_trace_that_forks_has_both_branches(tmp_path: Path) -> None:
    env = RecordTrace(gym.make(ID), tmp_path / "trace.jsonl")
    env.reset(seed=0)
    env.step(0)
    taken = registry.snapshot(env)
    finish = int(env.action_space.n) - 1  # type: ignore[attr-defined]
    env.step(finish)
    registry.restore(env, taken)
    env.step(0)
    env.close()
    lines = list(read_lines(tmp_path / "trace.jsonl"))
    assert [[step["action"] for step in line["steps"]] for line in lines] == [[0, finish], [0, 0]]


def test_vectors_and_their_wrappers_too() -> None:
    envs = RecordCostVector(CostPenaltyVector(gym.make_vec(ID, num_envs=3), weight=0.2, form="log"))

    def walk(seed: int, steps: int) -> list[Any]:
        rng, seen = np.random.default_rng(seed), []
        masks = envs.unwrapped.action_masks()  # type: ignore[attr-defined]
        for _ in range(steps):
            seen.append(envs.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])))
            masks = seen[-1][-1]["action_mask"]
        return seen

    envs.reset(seed=5)
    walk(0, 4)
    taken = registry.snapshot(envs)
    expected = walk(1, 12)
    registry.restore(envs, taken)
    assert_same(walk(1, 12), expected)


def test_what_cannot_be_captured_is_named(tmp_path: Path) -> None:
    class Holds(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            self.held: Any = {"log": [(tmp_path / "log").open("w")]}

    env = Holds(gym.make(ID))
    env.reset(seed=0)
    with pytest.raises(registry.SnapshotError, match=r"Holds.held\['log'\]\[0\] is a TextIOWrapper"):
        registry.snapshot(env)
    env.held["log"][0].close()


def test_containers_come_back_as_they_were_and_fresh() -> None:
    class Holds(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            self.held: Any = (deque([1, [2]], maxlen=3), {3}, np.arange(2), np.random.default_rng(0))

    env = Holds(gym.make(ID))
    env.reset(seed=0)
    taken = registry.snapshot(env)
    draw = env.held[3].random()
    env.held[0].append(4), env.held[0][1].append(5), env.held[1].add(6)
    env.held[2][0] = 7
    env.extra = 1  # type: ignore[attr-defined]
    registry.restore(env, taken)
    queue, members, array, rng = env.held
    assert list(queue) == [1, [2]] and queue.maxlen == 3 and members == {3} and array.tolist() == [0, 1]
    assert rng.random() == draw and not hasattr(env, "extra")


def test_a_snapshot_of_another_stack_is_refused() -> None:
    env = gym.make(ID)
    env.reset(seed=0)
    with pytest.raises(registry.SnapshotError, match="RecordCost"):
        registry.restore(RecordCost(env), registry.snapshot(env))

"""Many tabular environments at once give what each would give alone."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.tabular import DagRetries, RetryStop, TabularCMDP, TabularVectorEnv, TierRouting
from tests.conformance.cases import assert_same
from tests.envs.tabular.cases import PROBLEMS, loop
from wrappers.cost import CostPenaltyVector

N = 5
MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


def ordered(value: Any) -> Any:
    """Entries by name, final observations and infos included: columns and rows may be filled in another order."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value)}
    if isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [ordered(entry) for entry in value]
    return value


def assert_alike(many: Any, sync: Any, steps: int, seed: int = 11) -> int:
    """Play both with the same actions, a few of them illegal; return how many episodes ended."""
    rng, ended = np.random.default_rng(seed), 0
    assert_same(ordered(many.reset(seed=seed)), ordered(sync.reset(seed=seed)))
    for _ in range(steps):
        actions = rng.integers(many.single_action_space.n, size=N)
        mine, theirs = many.step(actions), sync.step(actions)
        assert_same(ordered(mine), ordered(theirs))
        ended += int((mine[2] | mine[3]).sum())
    return ended


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_vector_is_its_parts(problem: type[TabularCMDP], mode: AutoresetMode) -> None:
    sync = SyncVectorEnv([problem] * N, autoreset_mode=mode)
    assert assert_alike(problem().vector(N, autoreset_mode=mode), sync, 60) > N


@pytest.mark.parametrize("mode", MODES)
def test_a_vector_of_a_users_own_model_is_its_parts(mode: AutoresetMode) -> None:
    timed = SyncVectorEnv([lambda: TabularCMDP(**loop())] * N, autoreset_mode=mode)
    assert assert_alike(TabularVectorEnv(TabularCMDP(**loop()), N, mode), timed, 30) > N
    endless = loop(horizon=None, gamma=0.9)
    limited = SyncVectorEnv([lambda: TimeLimit(TabularCMDP(**endless), 7)] * N, autoreset_mode=mode)
    assert assert_alike(TabularCMDP(**endless).vector(N, autoreset_mode=mode, max_episode_steps=7), limited, 30) > N


def test_options_reach_every_episode() -> None:
    many, sync = TierRouting().vector(N), SyncVectorEnv([TierRouting] * N, autoreset_mode="SameStep")
    for options in ({"task_id": "2"}, {"sample": 4}, {"task_id": "1", "sample": 2}):
        mine, theirs = many.reset(seed=0, options=dict(options)), sync.reset(seed=0, options=dict(options))
        assert_same(ordered(mine), ordered(theirs))
        assert_same(ordered(many.step(np.ones(N, int))), ordered(sync.step(np.ones(N, int))))
    with pytest.raises(ConfigError, match="'easy'"):
        many.reset(options={"task_id": "easy"})


def test_some_can_be_reset_alone() -> None:
    mode = AutoresetMode.DISABLED
    many, sync = RetryStop().vector(N, autoreset_mode=mode), SyncVectorEnv([RetryStop] * N, autoreset_mode=mode)
    rng = np.random.default_rng(0)
    assert_same(ordered(many.reset(seed=2)), ordered(sync.reset(seed=2)))
    ended = 0
    for _ in range(20):
        actions = rng.integers(3, size=N)
        mine = many.step(actions)
        assert_same(ordered(mine), ordered(sync.step(actions)))
        over = mine[2]
        if over.any():
            ended += 1
            with pytest.raises(RuntimeError, match="over"):
                many.step(actions)
            mine = many.reset(options={"reset_mask": over})
            assert_same(ordered(mine), ordered(sync.reset(options={"reset_mask": over})))
    assert ended > 3


def test_seeds_may_be_a_list_with_gaps() -> None:
    many, sync = DagRetries().vector(3), SyncVectorEnv([DagRetries] * 3, autoreset_mode="SameStep")
    for seeds in ([4, 4, 9], [None, 5, None]):
        assert_same(ordered(many.reset(seed=seeds)), ordered(sync.reset(seed=seeds)))
        for _ in range(5):
            actions = np.array([1, 1, 2])
            assert_same(ordered(many.step(actions)), ordered(sync.step(actions)))
    with pytest.raises(ConfigError, match="2 seeds"):
        many.reset(seed=[1, 2])
    first, second = DagRetries().vector(3), DagRetries().vector(3)  # without a seed nothing repeats
    first.reset(), second.reset()
    assert (first.snapshot().root != second.snapshot().root).all()


def test_a_snapshot_continues_exactly() -> None:
    many = DagRetries().vector(N, autoreset_mode=AutoresetMode.NEXT_STEP)
    many.reset(seed=0)
    for _ in range(7):
        many.step(np.ones(N, int))
    saved = pickle.loads(pickle.dumps(many.snapshot()))
    twin = pickle.loads(pickle.dumps(many))
    expected = [many.step(np.full(N, action)) for action in (1, 3, 5, 7, 0, 1, 2)]
    other = DagRetries().vector(N, autoreset_mode=AutoresetMode.NEXT_STEP)
    for again in (many, other):
        again.restore(saved)
        assert_same([again.step(np.full(N, action)) for action in (1, 3, 5, 7, 0, 1, 2)], expected)
    assert_same([twin.step(np.full(N, action)) for action in (1, 3, 5, 7, 0, 1, 2)], expected)
    many.restore(saved, sample=3)
    assert (many.step(np.ones(N, int))[-1]["sample"] == np.where(saved.over, 0, 3)).all()


def test_make_vec_takes_the_arguments_of_the_problem() -> None:
    many = gym.make_vec("NextStep/RetryStop-v0", num_envs=N, d=2.0, render_mode="ansi", max_episode_steps=2)
    assert many.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert many.cost_limits == {"spend": 2.0} and many.cost_names == ("spend",)
    many.reset(seed=0)
    assert many.render() == ("after 0 decisions: 0 failures",) * N
    assert not many.step(np.ones(N, int))[3].any()
    _, _, terminated, truncated, _ = many.step(np.ones(N, int))
    assert truncated.any() and not (truncated & terminated).any()
    many.close()


def test_vector_wrappers_fit() -> None:
    many = CostPenaltyVector(TierRouting().vector(N), weight=0.1)
    plain = TierRouting().vector(N)
    many.reset(seed=0), plain.reset(seed=0)
    for _ in range(5):
        rewards, expected = many.step(np.full(N, 2))[1], plain.step(np.full(N, 2))[1]
        np.testing.assert_allclose(rewards, expected - 0.2)


def test_masks_are_those_of_the_singles() -> None:
    many = DagRetries().vector(N)
    observations, infos = many.reset(seed=0)
    for _ in range(6):
        np.testing.assert_array_equal(many.action_masks(), observations["action_mask"].astype(bool))
        np.testing.assert_array_equal(infos["action_mask"], observations["action_mask"])
        observations, _, _, _, infos = many.step(observations["action_mask"].argmax(-1) + 1)


@pytest.mark.parametrize("actions", [[0.5] * N, ["1"] * N, [3] * N, [0, 0, 0, 0, -1], [None] * N])
def test_an_action_that_does_not_exist_is_named(actions: list[Any]) -> None:
    many = RetryStop().vector(N)
    many.reset(seed=0)
    with pytest.raises(ActionError):
        many.step(actions)
    many.step([1] * N)
    many.step(np.ones(N, np.uint64))


def test_bad_input_is_named() -> None:
    cmdp = RetryStop()
    for arguments, message in (
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": None}, "num_envs=None"),
        ({"num_envs": 2, "max_episode_steps": 0}, "max_episode_steps=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            cmdp.vector(**arguments)
    many = cmdp.vector(2)
    with pytest.raises(RuntimeError, match="reset"):
        many.step([0, 0])
    with pytest.raises(ConfigError, match="first reset"):
        many.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ConfigError, match="reset_mask"):
        many.reset(options={"reset_mask": [True, True]})
    with pytest.raises(ConfigError, match="no environment"):
        many.reset(options={"reset_mask": np.zeros(2, bool)})
    many.reset(seed=0)
    with pytest.raises(ConfigError, match="3 actions"):
        many.step([0, 0, 0])

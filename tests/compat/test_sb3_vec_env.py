"""The batched VecEnv gives Stable-Baselines3 what its own VecEnv would, and calls all workers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from nextstep_envs.errors import ConfigError
from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from tests.conformance.cases import assert_same
from wrappers import CostPenalty, CostPenaltyVector

library("stable_baselines3", "compat")

from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor  # noqa: E402

from wrappers.interfaces import SB3VecEnv, make_sb3_vec_env  # noqa: E402

N = 3
BATCHED = [env_id for env_id in [*ORCHESTRATION, tier_routing.ID] if gym.spec(env_id).vector_entry_point]


def choose(masks: Sequence[Any], rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


@pytest.mark.parametrize("env_id", BATCHED)
def test_it_equals_dummy_vec_env(env_id: str) -> None:
    batched = SB3VecEnv(CostPenaltyVector(gym.make_vec(env_id, num_envs=N), weight=0.2))
    dummy = DummyVecEnv([lambda: CostPenalty(gym.make(env_id), weight=0.2) for _ in range(N)])
    batched.seed(5), dummy.seed(5)
    rng, ended = np.random.default_rng(0), 0
    assert_same(dict(sorted(batched.reset().items())), dict(sorted(dummy.reset().items())), "reset")
    assert_same_infos(batched.reset_infos, dummy.reset_infos)
    for _ in range(STEPS // N):
        masks = batched.env_method("action_masks")
        assert_same(np.stack(masks), np.stack(dummy.env_method("action_masks")), "masks")
        actions = choose(masks, rng)
        observations, rewards, dones, infos = batched.step(actions)
        observations_there, rewards_there, dones_there, infos_there = dummy.step(actions)
        assert_same(dict(sorted(observations.items())), dict(sorted(observations_there.items())), "observations")
        np.testing.assert_allclose(rewards, rewards_there, rtol=1e-6, strict=True)
        assert_same(dones, dones_there, "dones")
        assert_same_infos(infos, infos_there)
        assert_same_infos(batched.reset_infos, dummy.reset_infos)
        ended += int(dones.sum())
    assert ended > N, "too few episodes ended to tell"


def assert_same_infos(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    """Equal, in whatever order."""
    for one, other in zip(left, right, strict=True):
        assert set(one) == set(other)
        for key in one:
            ordered = [dict(sorted(i[key].items())) if isinstance(i[key], dict) else i[key] for i in (one, other)]
            assert_same(*ordered, where=key)


def test_all_workers_are_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import nextstep_envs.vector as vector

    calls: list[int] = []
    batched = vector.batched

    def counted(episodes: Sequence[Any], perform: Any) -> Any:
        calls.append(len(episodes))
        return batched(episodes, perform)

    monkeypatch.setattr(vector, "batched", counted)
    env = make_sb3_vec_env("NextStep/WebShop-Workflow-v0", n_envs=N, seed=0, workers="fake")
    env.reset()
    for step in range(1, 4):
        env.step(choose(env.env_method("action_masks"), np.random.default_rng(step)))
        assert calls == [N] * step


def test_the_seed_is_used_once_and_episodes_differ() -> None:
    env = make_sb3_vec_env("NextStep/WebShop-Workflow-v0", n_envs=N, seed=3)
    env.reset()
    first = [info["task_id"] for info in env.reset_infos]
    env.reset()
    second = [info["task_id"] for info in env.reset_infos]
    env.seed(3)
    env.reset()
    assert [info["task_id"] for info in env.reset_infos] == first != second


def test_options_reach_the_environment_once() -> None:
    env = make_sb3_vec_env("NextStep/WebShop-Workflow-v0", n_envs=N, seed=3)
    env.set_options({"sample": 4})
    env.reset()
    assert [info["sample"] for info in env.reset_infos] == [4] * N
    env.reset()
    assert [info["sample"] for info in env.reset_infos] == [0] * N
    env.set_options([{"sample": k} for k in range(N)])
    with pytest.raises(ConfigError, match="one dict for all"):
        env.reset()


def test_a_truncated_episode_says_so() -> None:
    env = SB3VecEnv(gym.make_vec("NextStep/RetryStop-v0", num_envs=N, max_episode_steps=1))
    env.seed(0)
    env.reset()
    seen = set()
    for _ in range(10):
        _, _, dones, infos = env.step(np.ones(N, np.int64))
        seen |= {info["TimeLimit.truncated"] for info in infos}
        assert dones.all() and all("terminal_observation" in info for info in infos)
    assert seen == {True, False}  # a failed attempt would have gone on, a success ends the episode itself


def test_episode_statistics_come_from_its_own_monitor() -> None:
    env = VecMonitor(SB3VecEnv(tier_routing.make_vector(N)))
    env.seed(0)
    env.reset()
    _, rewards, _, infos = env.step(np.array([1, 2, 3]))
    assert [info["episode"]["r"] for info in infos] == pytest.approx(rewards.tolist())
    assert [info["episode"]["l"] for info in infos] == [1] * N


def test_attributes_are_those_of_the_vector_environment() -> None:
    env = SB3VecEnv(tier_routing.make_vector(N))
    assert env.get_attr("cost_names", indices=[0, 2]) == [("spend",)] * 2
    assert not env.has_attr("no_such_thing")
    assert env.env_is_wrapped(CostPenalty) == [False] * N
    env.reset()
    assert len(env.env_method("action_masks", indices=1)) == 1
    with pytest.raises(NotImplementedError, match="gym.make_vec"):
        env.set_attr("cost_names", ())


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="SAME_STEP"):
        SB3VecEnv(gym.make_vec(tier_routing.ID, num_envs=N, autoreset_mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(ConfigError, match="interface='vector'"):
        make_sb3_vec_env("NextStep/WebShop-Workflow-v0", interface="text")

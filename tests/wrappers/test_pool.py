"""WorkerPoolShift changes who is there and what they charge, and nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ConfigError
from wrappers import WorkerPoolShift

ID = "NextStep/WebShop-Workflow-v0"


def make(split: str = "train", **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make(ID, split=split, cost=["usd", "tokens"], **kwargs)


def present(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    return tuple(spec.worker_id for spec in env.unwrapped.episode.state.pool)


def test_a_dropped_worker_is_never_there_and_masked() -> None:
    env = WorkerPoolShift(make(), drop=["planning"])
    names = [spec.worker_id for spec in env.get_wrapper_attr("worker_specs")]
    others = tuple(name for name in names if name != "planning")
    for seed in range(10):
        _, info = env.reset(seed=seed)
        assert present(env) == others  # three of the other three
        slots = info["action_mask"][:-1].reshape(len(names), -1).any(axis=1)
        assert not slots[names.index("planning")] and slots.sum() == 3


def test_spaces_stay_as_they_are() -> None:
    env = make()
    shifted = WorkerPoolShift(env, drop=["planning"], size=1, price_factor=3.0)
    assert shifted.observation_space == env.observation_space and shifted.action_space == env.action_space
    observation, _ = shifted.reset(seed=0)
    assert shifted.observation_space.contains(observation)


def test_the_pool_is_drawn_by_the_seed() -> None:
    env = WorkerPoolShift(make(), size=2)
    pools = []
    for seed in range(20):
        env.reset(seed=seed)
        pools.append(present(env))
        env.reset(seed=seed)
        assert present(env) == pools[-1]
    assert all(len(pool) == 2 for pool in pools) and len(set(pools)) > 3
    env.reset(seed=0)
    later = []
    for _ in range(20):
        env.reset()
        later.append(present(env))
    assert len(set(later)) > 3  # and goes on without one


def test_prices_change_what_equal_work_costs() -> None:
    plain, dear = make("test"), WorkerPoolShift(make("test"), price_factor=2.5)
    factors = {"planning": 2.5}
    one = WorkerPoolShift(make("test"), price_factor=factors)
    checked = 0
    for env in (plain, dear, one):
        env.reset(seed=1)
    n = plain.action_space.n
    for action in range(0, n - 1, (n - 1) // 4):  # an action of each worker
        worker = None
        infos = []
        for env in (plain, dear, one):
            env.reset(seed=1)
            info = env.step(action)[-1]
            infos.append(info)
            worker = info["records"][0].step.worker_id
        usd, tokens = (np.array([info["costs"][i] for info in infos]) for i in (0, 1))
        assert tokens[0] > 0 and np.all(tokens == tokens[0])
        expected = [1.0, 2.5, factors.get(worker, 1.0)]
        np.testing.assert_allclose(usd / usd[0], expected, rtol=1e-3)  # whole 1e-9 dollars
        checked += 1
    assert checked == 4


def test_prices_show_in_the_observation() -> None:
    plain, dear = make("test"), WorkerPoolShift(make("test"), price_factor=2.0)
    left, right = (env.reset(seed=0)[0]["observation"] for env in (plain, dear))
    names = np.array(plain.get_wrapper_attr("feature_names"))
    assert list(names[left != right]) == [name for name in names if name.endswith(".log_price")]


def test_a_pool_asked_for_at_reset_is_filtered() -> None:
    env = WorkerPoolShift(make(), drop=["planning"])
    env.reset(options={"pool": ["tool_use", "planning"]})
    assert present(env) == ("tool_use",)
    with pytest.raises(ConfigError, match="'planning'"):
        env.reset(options={"pool": ["planning"]})


def test_its_spec_survives_json() -> None:
    env = WorkerPoolShift(make(), drop=("planning",), size=2, price_factor={"tool_use": 2.0})
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    env.reset(seed=4)
    again.reset(seed=4)
    assert again.unwrapped.episode.state.pool == env.unwrapped.episode.state.pool


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": ["plannning"]}, r"drop entry='plannning' is unknown; choose one of .*'planning'"),
        ({"drop": "planning"}, r"drop='planning' must be a sequence"),
        ({"drop": ["general_reasoning", "tool_use", "planning", "verification"]}, "leaves nobody"),
        ({"size": 5}, "size=5 must be from 1 to 4"),
        ({"size": 0}, "size=0"),
        ({"price_factor": -1.0}, "-1.0"),
        ({"price_factor": {"nobody": 2.0}}, "'nobody' is unknown"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorkerPoolShift(make(), **settings)

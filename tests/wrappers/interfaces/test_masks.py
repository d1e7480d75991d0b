"""Observation and mask keep their values under other libraries' names."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from nextstep_envs.errors import ConfigError
from wrappers.interfaces import RLlibObservation, TianshouObservation

ID = "NextStep/WebShop-Workflow-v0"
NAMES = {RLlibObservation: ("action_mask", "observations"), TianshouObservation: ("mask", "obs")}


@pytest.mark.parametrize("wrapper", NAMES)
def test_the_names_are_exactly_those_the_library_expects(wrapper: Any) -> None:
    env, plain = wrapper(gym.make(ID)), gym.make(ID)
    mask_name, features_name = NAMES[wrapper]
    assert set(env.observation_space) == {mask_name, features_name}
    (observation, _), (expected, info) = env.reset(seed=1), plain.reset(seed=1)
    for _ in range(20):
        assert observation in env.observation_space
        np.testing.assert_array_equal(observation[features_name], expected["observation"], strict=True)
        np.testing.assert_array_equal(observation[mask_name], expected["action_mask"])
        action = plain.action_space.sample(info["action_mask"])
        observation, _, terminated, _, _ = env.step(action)
        expected, _, _, _, info = plain.step(action)
        if terminated:
            (observation, _), (expected, info) = env.reset(), plain.reset()


def test_the_mask_has_the_type_that_the_library_computes_with() -> None:
    rllib, _ = RLlibObservation(gym.make(ID)).reset(seed=1)
    tianshou, _ = TianshouObservation(gym.make(ID)).reset(seed=1)
    assert rllib["action_mask"].dtype == np.int8
    assert tianshou["mask"].dtype == np.bool_


@pytest.mark.parametrize("wrapper", NAMES)
def test_a_wrapped_environment_is_rebuilt_from_json(wrapper: Any) -> None:
    env = wrapper(gym.make(ID))
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert set(again.observation_space) == set(NAMES[wrapper])


@pytest.mark.parametrize("wrapper", NAMES)
def test_an_observation_without_a_mask_is_refused(wrapper: Any) -> None:
    with pytest.raises(ConfigError, match="interface='vector'"):
        wrapper(gym.make(ID, interface="text"))
    with pytest.raises(ConfigError, match="no wrapper that changes observations"):
        wrapper(gym.wrappers.FlattenObservation(gym.make(ID)))

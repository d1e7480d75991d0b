"""Observation and mask under the names that RLlib and Tianshou look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from nextstep_envs.errors import ConfigError

Arrays = dict[str, npt.NDArray[Any]]


class RLlibObservation(RecordConstructorArgs, gym.ObservationWrapper[Any, Any, Any]):
    """`Dict(action_mask, observations)`: what RLlib's `ActionMaskingTorchRLModule` takes.

    RLlib passes the mask through `log`, so it stays a number: 1 legal, 0 not.

    Args:
        env: an environment with `interface="vector"`.

    Raises:
        ConfigError: the observation is not `Dict(observation=Box, action_mask=Box)`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        mask, features = _masked_spaces(env)
        self.observation_space = spaces.Dict(action_mask=mask, observations=features)

    def observation(self, observation: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """The same arrays under RLlib's names."""
        return {"action_mask": observation["action_mask"], "observations": observation["observation"]}


class TianshouObservation(RecordConstructorArgs, gym.ObservationWrapper[Any, Any, Any]):
    """`Dict(mask, obs)`: what Tianshou's DQN family, random policy and multi-agent manager take.

    The mask is bool, `True` for legal. Tianshou's PPO and A2C hand it to the network, which may apply it.
    `info["records"]` is left out: Tianshou stacks the infos of all steps into arrays and keeps them in its buffers, and
    records differ in number from step to step.

    Args:
        env: an environment with `interface="vector"`.

    Raises:
        ConfigError: the observation is not `Dict(observation=Box, action_mask=Box)`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        mask, features = _masked_spaces(env)
        self.observation_space = spaces.Dict(mask=spaces.MultiBinary(mask.shape[0]), obs=features)

    def observation(self, observation: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """The same arrays under Tianshou's names, the mask as bool."""
        return {"mask": observation["action_mask"].astype(np.bool_), "obs": observation["observation"]}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, _without_records(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, _without_records(info)


def _without_records(info: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != "records"}


def _masked_spaces(env: gym.Env[Any, Any]) -> tuple[spaces.Box, spaces.Box]:
    """The spaces of mask and features, or `ConfigError` where the observation has no mask in it."""
    space = env.observation_space
    if isinstance(space, spaces.Dict) and set(space) == {"observation", "action_mask"}:
        mask, features = space["action_mask"], space["observation"]
        if isinstance(mask, spaces.Box) and isinstance(features, spaces.Box):
            return mask, features
    raise ConfigError(
        f"observation_space={space} has no mask: make the environment with interface='vector', "
        "and put no wrapper that changes observations inside this one"
    )

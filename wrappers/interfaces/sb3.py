"""Stable-Baselines3's `VecEnv` over a vector environment, so that all workers are called as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from nextstep_envs.errors import ConfigError, MissingExtraError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise MissingExtraError("stable-baselines3", "compat", "SB3VecEnv") from error

Indices = int | Iterable[int] | None
Infos = list[dict[str, Any]]


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment in Stable-Baselines3's form.

    `DummyVecEnv` steps its environments one after the other, so their workers wait for each other; this one hands all
    actions to the vector environment at once. What the algorithms see is the same: `infos[i]` describes the step just
    taken, and where it ended an episode it has `terminal_observation`, `TimeLimit.truncated` and every key of that last
    step, while the observation is already the next episode's (whose info is in `reset_infos[i]`). Episode statistics
    are `VecMonitor`'s business. Rewards become float32, as in `DummyVecEnv`.

    MaskablePPO finds the masks by `env_method("action_masks")`.

    A step that failed for want of a worker has `infos[i]["mask_sample"]` and counts as truncated: the algorithms here
    have no way to drop a sample, and bootstrap it from its value.

    Args:
        vector_env: a vector environment with same-step autoreset and vector observations: `gym.make_vec(id, ...)` of an
            id of ours, possibly with vector wrappers around it such as `CostPenaltyVector`.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed.
        ConfigError: the vector environment resets in another way, or its observations are texts.
    """

    def __init__(self, vector_env: VectorEnv[Any, Any, Any]) -> None:
        mode = vector_env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ConfigError(f"autoreset_mode={mode} loses steps here; make the vector environment with SAME_STEP")
        space = vector_env.single_observation_space
        if not isinstance(
            space, spaces.Dict | spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
        ):
            raise ConfigError(f"Stable-Baselines3 cannot read observation space {space}; use interface='vector'")
        self.vector_env = vector_env
        self._actions: npt.NDArray[Any] | None = None
        super().__init__(vector_env.num_envs, space, vector_env.single_action_space)

    def reset(self) -> Any:
        """Start all episodes, with the seeds of `seed()` and the options of `set_options()` where they were called."""
        if any(options != self._options[0] for options in self._options):
            raise ConfigError(f"options={self._options} differ: give one dict for all sub-environments")
        seeds: Any = list(self._seeds)  # Gymnasium declares one seed, and its vector environments take a list as well
        observations, infos = self.vector_env.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Remember the actions, one per sub-environment."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.bool_], Infos]:
        """Take the step in all sub-environments together."""
        observations, rewards, terminated, truncated, columns = self.vector_env.step(self._actions)
        final_observations = columns.pop("final_obs", None)
        final = _rows(columns.pop("final_info", {}), self.num_envs)
        infos = _rows(columns, self.num_envs)
        for i in np.flatnonzero(terminated | truncated):
            self.reset_infos[i] = infos[i]
            infos[i] = {**final[i], "terminal_observation": final_observations[i]}
        for i, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return observations, rewards.astype(np.float32), terminated | truncated, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of the vector environment, once per sub-environment."""
        value = getattr(self.vector_env.unwrapped, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Not possible: the sub-environments are one object."""
        raise NotImplementedError(f"{attr_name!r} cannot be set here; give it to gym.make_vec as an argument")

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the vector environment that returns a row for each sub-environment; the rows asked for."""
        rows = getattr(self.vector_env.unwrapped, method_name)(*args, **kwargs)
        return [rows[i] for i in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """False: no wrapper is around a single sub-environment."""
        return [False for _ in self._get_indices(indices)]


def make_sb3_vec_env(id: str, n_envs: int = 1, seed: int | None = None, **kwargs: Any) -> SB3VecEnv:
    """A batched `VecEnv` of an id that has a vector form.

    Args:
        id: for example "NextStep/WebShop-Workflow-v0".
        n_envs: how many sub-environments.
        seed: sub-environment i starts with seed + i; None for chance of its own.
        **kwargs: of the environment.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed.
        gymnasium.error.Error: the id is unknown or has no vector form.
    """
    env = SB3VecEnv(gym.make_vec(id, num_envs=n_envs, vectorization_mode="vector_entry_point", **kwargs))
    if seed is not None:
        env.seed(seed)
    return env


def _rows(columns: Mapping[str, Any], num_envs: int) -> Infos:
    """Infos by column (`info[key][i]`, with `info["_key"][i]` saying whether there is a value) as one dict each."""
    rows: Infos = [{} for _ in range(num_envs)]
    for key, column in columns.items():
        if key.startswith("_"):
            continue
        if isinstance(column, Mapping):
            values: Any = _rows(column, num_envs)
        else:
            values = column.tolist() if column.ndim == 1 else column
        for i in np.flatnonzero(columns.get(f"_{key}", np.ones(num_envs, np.bool_))):
            rows[i][key] = values[i]
    return rows

"""One episode after another with what it has brought so far: what the adapters for language models share."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ActionError, ConfigError
from wrappers.cost import CostPenalty

FINISH = '{"finish": true}'  # ends an episode of any protocol


def spec_of(env: str | EnvSpec) -> EnvSpec:
    """The spec of an id, which may have the form "module:id" that `gym.make` takes.

    Raises:
        gymnasium.error.Error: there is no such id.
    """
    if isinstance(env, EnvSpec):
        return env
    module, _, name = env.rpartition(":")
    if module:
        importlib.import_module(module)
    return gym.spec(name)


def make_env(env: str | EnvSpec, cost_weight: float, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment of an id or of a spec, wrappers included, with a price on its cost.

    Raises:
        gymnasium.error.Error: there is no such id.
        ConfigError: an argument of the environment, or `cost_weight`, is wrong.
    """
    made = gym.make(env, **kwargs)
    return CostPenalty(made, cost_weight) if cost_weight else made


def make_text_env(env: str | EnvSpec, cost_weight: float, **kwargs: Any) -> gym.Env[Any, Any]:
    """The same with `interface="text"`.

    Raises:
        ConfigError: as for `make_env`, or the environment does not speak.
    """
    spec = spec_of(env)
    if "world" not in spec.kwargs:
        raise ConfigError(f"{spec.id!r} has no text interface; choose an id with a world, such as WebShop")
    return make_env(env, cost_weight, **{**kwargs, "interface": "text"})


class Session:
    """An environment that is played, and the sums of the current episode.

    Attributes:
        env: the environment.
        info: of the last step.
        reward: what the episode has earned so far.
        gain: what the last step earned.
        cost: what it has cost so far, the sum of `info["cost"]`.
        cost_terms: the same for each entry of `info["cost_terms"]`.
        steps: decisions taken.
        over: whether it has ended. Before the first reset there is nothing to play: True.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.info: dict[str, Any] = {}
        self._clear()
        self.over = True

    @property
    def masked(self) -> bool:
        """Whether the episode fell to an outage or an error: it says nothing about who played it, and has no reward."""
        return self._broken or bool(self.info.get("mask_sample", False))

    @property
    def invalid(self) -> bool:
        """Whether the last action meant nothing; the bare world has no such actions."""
        return bool(self.info.get("invalid_action", False))

    def reset(self, seed: int | None, task_id: str | None = None, sample: int = 0) -> Any:
        """Start an episode and return its first observation."""
        named = {} if task_id is None else {"task_id": task_id}
        observation, self.info = self.env.reset(seed=seed, options={"sample": sample, **named})
        self._clear()
        return observation

    def step(self, action: Any) -> Any:
        """Take a decision and return the next observation.

        Raises:
            RuntimeError: the episode is over.
            ActionError: the action is of a wrong type; the episode goes on.
        """
        if self.over:
            raise RuntimeError("the episode is over: nothing more can be done")
        try:
            observation, reward, terminated, truncated, self.info = self.env.step(action)
        except ActionError:
            raise
        except Exception:
            self._broken = self.over = True  # libraries show errors to the model and go on
            raise
        self.gain = float(reward)
        self.reward += self.gain
        self.cost += self.info["cost"]
        for name, value in self.info["cost_terms"].items():
            self.cost_terms[name] = self.cost_terms.get(name, 0.0) + value
        self.steps += 1
        self.over = terminated or truncated
        return observation

    def leave(self) -> None:
        """End an episode whose player has stopped: orchestrated work is judged as it stands."""
        if not self.over and isinstance(self.env.unwrapped, OrchestrationEnv):
            self.step(FINISH)
        self.over = True

    def _clear(self) -> None:
        self.reward = self.gain = self.cost = 0.0
        self.cost_terms: dict[str, float] = {}
        self.steps = 0
        self.over = self._broken = False

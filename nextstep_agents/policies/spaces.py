"""How observations and actions of any environment become vectors for an MLP, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nextstep_envs.errors import ConfigError

Vector = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AgentSpaces:
    """One agent's observation and action spaces.

    An observation `Dict(observation=..., action_mask=...)` is a vector with a mask, as everywhere in this project; any
    other space is flattened by Gymnasium. Actions are `Discrete` or `Box`.
    """

    observation: spaces.Space[Any]
    action: spaces.Space[Any]

    def __post_init__(self) -> None:
        if not self.inner.is_np_flattenable:
            raise ConfigError(
                f"observation space {self.observation} is no vector; for an id with two interfaces take "
                "interface='vector', for others wrap the environment"
            )
        if not isinstance(self.action, spaces.Discrete | spaces.Box):
            raise ConfigError(
                f"action space {self.action} is neither Discrete nor Box; wrap the environment to make it so"
            )
        if isinstance(self.action, spaces.Box) and not np.issubdtype(self.action.dtype, np.floating):
            raise ConfigError(f"action space {self.action} holds no floating point numbers; wrap the environment")

    @property
    def masked(self) -> bool:
        """Whether observations say which actions are legal."""
        space = self.observation
        return isinstance(space, spaces.Dict) and "action_mask" in space.spaces and "observation" in space.spaces

    @property
    def inner(self) -> spaces.Space[Any]:
        """What the observation holds beside the mask."""
        return self.observation["observation"] if self.masked else self.observation  # type: ignore[index]

    @property
    def size(self) -> int:
        """Length of the observation vector."""
        return int(gym.spaces.utils.flatdim(self.inner))

    @property
    def discrete(self) -> bool:
        """Whether actions are numbered choices."""
        return isinstance(self.action, spaces.Discrete)

    @property
    def outputs(self) -> int:
        """Choices, or dimensions of a continuous action."""
        return int(self.action.n) if isinstance(self.action, spaces.Discrete) else int(np.prod(self.action.shape or ()))

    @property
    def bounded(self) -> bool:
        """Whether observations stay within [-1, 1], so that they need no normalising."""
        box = self.inner
        if isinstance(box, spaces.Box):
            return bool((box.low >= -1).all() and (box.high <= 1).all())
        return isinstance(box, spaces.Discrete | spaces.MultiBinary | spaces.MultiDiscrete)

    def vector(self, observation: Any) -> Vector:
        """The observation as a vector [size]."""
        inside = observation["observation"] if self.masked else observation
        if isinstance(self.inner, spaces.Box):
            return np.asarray(inside, np.float32).reshape(-1)
        return np.asarray(gym.spaces.utils.flatten(self.inner, inside), np.float32)

    def mask(self, observation: Any) -> Flags:
        """Legal actions, bool [outputs]; all where the observation does not say, [1] where actions are continuous."""
        if not self.masked or not self.discrete:
            return np.ones(self.outputs if self.discrete else 1, bool)
        return np.asarray(observation["action_mask"]).astype(bool)

    def vectors(self, observations: Any) -> tuple[Vector, Flags]:
        """As `vector` and `mask`, for the batched observations of a vector environment: [n, size], [n, outputs]."""
        inside = observations["observation"] if self.masked else observations
        n = len(inside) if not isinstance(inside, dict) else len(next(iter(inside.values())))
        if isinstance(self.inner, spaces.Box):
            flat = np.asarray(inside, np.float32).reshape(n, -1)
        else:
            rows = gym.vector.utils.iterate(gym.vector.utils.batch_space(self.inner, n), inside)
            flat = np.stack([np.asarray(gym.spaces.utils.flatten(self.inner, row), np.float32) for row in rows])
        if self.masked and self.discrete:
            return flat, np.asarray(observations["action_mask"]).astype(bool)
        return flat, np.ones((n, self.outputs if self.discrete else 1), bool)

    def to_env(self, action: Any) -> Any:
        """An action of the policy as the environment takes it: a number, or a vector scaled to the box and clipped."""
        if isinstance(self.action, spaces.Discrete):
            return int(action) + int(self.action.start)
        box = self.action
        assert isinstance(box, spaces.Box)
        flat, low, high = np.asarray(action, np.float64).reshape(-1), box.low.reshape(-1), box.high.reshape(-1)
        finite = np.isfinite(low) & np.isfinite(high)
        scaled = np.where(finite, np.where(finite, low, 0) + (flat + 1) / 2 * np.where(finite, high - low, 0), flat)
        return np.clip(scaled, low, high).reshape(box.shape).astype(box.dtype)

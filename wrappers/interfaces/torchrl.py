"""PettingZoo environments as TorchRL's `PettingZooWrapper` takes them: infos of numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import BaseParallelWrapper, BaseWrapper

NUMBERS = ("cost", "costs", "invalid_action", "sample")
"""The entries of an agent's info that are numbers of one shape in every step.

The mask is not among them: TorchRL takes it from the observation, and trips over a second one.
"""


class TorchRLParallel(BaseParallelWrapper[Any, Any, Any]):
    """A parallel environment for `torchrl.envs.PettingZooWrapper`, which makes a tensor of every entry of an info.

    Each agent's info keeps `cost`, `costs`, `invalid_action` and `sample`, and loses its texts, mappings and records.

    Args:
        env: a parallel environment of ours, from `registry.make_parallel`.
    """

    def __init__(self, env: ParallelEnv[Any, Any, Any]) -> None:
        super().__init__(env)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[Any, Any]]:
        """Start an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return observations, _numbers(infos)

    def step(self, actions: dict[Any, Any]) -> tuple[Any, Any, Any, Any, dict[Any, Any]]:
        """Take a step."""
        *rest, infos = self.env.step(actions)
        return (*rest, _numbers(infos))


class TorchRLAEC(BaseWrapper[Any, Any, Any]):
    """The same for an environment whose agents take turns; give `PettingZooWrapper` also `use_mask=True`.

    Args:
        env: an AEC environment of ours, from `registry.make_aec`.
    """

    def __init__(self, env: AECEnv[Any, Any, Any]) -> None:
        super().__init__(env)

    @property
    def infos(self) -> dict[Any, dict[str, Any]]:
        """The numbers of every agent's info."""
        return _numbers(self.env.infos)


def _numbers(infos: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {agent: {key: info[key] for key in NUMBERS if key in info} for agent, info in infos.items()}

"""The asyncio shell: an environment whose `step` is awaited, so that thousands of episodes go on side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from nextstep_envs.drivers import concurrent
from nextstep_envs.env import check_action
from nextstep_envs.infos import reset_info, step_info
from nextstep_envs.machine import Machine
from nextstep_envs.setup import Setup, check_options


class ConcurrentEnv:
    """One episode after the other, each step awaited; equal, seed for seed, to `OrchestrationEnv`.

    Make one for each episode that is to go on at the same time, all of one setup and in one event loop. It is cheap: it
    holds an episode and nothing else.

    Args:
        setup: what the episodes share, `env.unwrapped.setup` of an `OrchestrationEnv`. Whoever made that environment
            closes it.
        slots: bounds the requests under way of all environments that share it.
    """

    def __init__(self, setup: Setup, slots: asyncio.Semaphore) -> None:
        self.setup, self.slots = setup, slots
        self.episode: Machine = setup.episode()

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; options: task_id, sample, pool."""
        rng, _ = seeding.np_random(seed)
        self.setup.begin(self.episode, rng, check_options(self.setup, options))
        mask = self._mask()
        return self._observe(mask), reset_info(self.setup, self.episode.state, mask)

    async def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one decision and wait until its steps have ended.

        Raises:
            asyncio.CancelledError: it was cancelled. The episode is of no use any more; `abandon` tells its bill.
        """
        self.episode.act(check_action(action, self.setup.text))
        provider = self.setup.crew.provider
        if provider and self.episode.poll():
            await concurrent(self.episode, provider.answer, self.slots)
        return self._ended()

    def abandon(self) -> dict[str, Any]:
        """The info of a step that was cancelled: what it had used until then, masked as an outage."""
        return self._ended()[-1]

    def _ended(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = self.episode.transition(self.setup.scored)
        mask = self._mask()
        info = step_info(self.setup, self.episode.state, result, mask)
        return self._observe(mask), result.reward, result.terminated, result.truncated, info

    def _mask(self) -> npt.NDArray[np.int8]:
        return self.setup.rules.mask(self.episode.state).copy()

    def _observe(self, mask: npt.NDArray[np.int8]) -> Any:
        rules, state = self.setup.rules, self.episode.state
        return rules.message(state) if self.setup.text else {"observation": rules.features(state), "action_mask": mask}

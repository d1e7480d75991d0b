"""Steps many environments at once: their workers' requests are answered side by side, whatever wraps them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym

from nextstep_envs.drivers import concurrent
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.providers.base import Provider
from nextstep_envs.providers.loop import BackgroundLoop

Turn = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]
UNDER_WAY = 1024  # requests at once; providers have bounds of their own


class Together:
    """Environments that are stepped together, with the results of stepping them one after the other.

    First every episode takes its decision, then the concurrent driver answers the requests of all, and then each
    environment is stepped, wrappers and all, in order: it finds nothing left to wait for. Where nobody waits
    (scripted workers, other environments) that last part is all there is.

    Environments of equal specs are answered by the provider of the first, so that its limits, its connections and its
    models in memory are those of all. Wrappers must hand on the action as it is. Below one that is known not to
    (`gymnasium.ActionWrapper`), an environment waits in its own `step`.

    Args:
        envs: the environments; whoever made them closes them.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        self.envs = envs
        self._loop = BackgroundLoop()
        self._waiting: dict[int, tuple[OrchestrationEnv[Any], Provider]] = {}
        for row, env in enumerate(envs):
            inner = env.unwrapped
            if isinstance(inner, OrchestrationEnv) and inner.setup.crew.provider and not _changes_actions(env):
                twins = (found for other, found in self._waiting.values() if inner.spec and other.spec == inner.spec)
                self._waiting[row] = inner, next(twins, inner.setup.crew.provider)

    def step(self, rows: Sequence[int], actions: Sequence[Any]) -> list[Turn]:
        """Step some of the environments.

        Args:
            rows: which.
            actions: one for each of them.
        """
        begun = []
        for row, action in zip(rows, actions, strict=True):
            if row in self._waiting:
                inner, provider = self._waiting[row]
                inner.begin(action)
                if inner.episode.poll():
                    begun.append((inner, provider))
        if begun:
            self._loop.run(_answer_all(begun))
        return [self.envs[row].step(action) for row, action in zip(rows, actions, strict=True)]

    def close(self) -> None:
        """End the event loop that requests wait in, and the connections that belong to it."""
        self._loop.close()


async def _answer_all(begun: Sequence[tuple[OrchestrationEnv[Any], Provider]]) -> None:
    slots = asyncio.Semaphore(UNDER_WAY)
    try:
        async with asyncio.TaskGroup() as group:
            for env, provider in begun:
                group.create_task(concurrent(env.episode, provider.answer, slots))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None  # one error is what a caller expects of one call


def _changes_actions(env: gym.Env[Any, Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.ActionWrapper):
            return True
        env = env.env
    return False

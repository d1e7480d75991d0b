"""What a rollout plays on: an environment id opened once, its tasks in the run's order, and a session per episode."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium as gym

import registry
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.traffic import count_traffic
from nextstep_envs.bare import BareEnv
from nextstep_envs.concurrent import ConcurrentEnv
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.metrics import Metrics
from nextstep_envs.seeding import derive, stream

Turn = tuple[Any, float, bool, bool, dict[str, Any]]


class Attempt(NamedTuple):
    """Where one episode begins; equal seed and task mean equal task, pool and world, `sample` is the noise."""

    seed: int
    sample: int
    task_id: str | None

    @property
    def options(self) -> dict[str, Any]:
        """Of the reset."""
        named = {} if self.task_id is None else {"task_id": self.task_id}
        return {**named, "sample": self.sample}


class Session(Protocol):
    """One episode at a time, whose steps are awaited."""

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        ...

    async def step(self, action: Any) -> Turn:
        """Take one decision."""
        ...

    def abandon(self) -> dict[str, Any]:
        """The info of a step that was cancelled."""
        ...


class InstantSession:
    """A Gymnasium environment that waits for nothing: bare worlds and tabular ones."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        return self.env.reset(seed=seed, options=dict(options or {}))

    async def step(self, action: Any) -> Turn:
        """Take one decision."""
        await asyncio.sleep(0)  # other episodes, and Ctrl-C, have their turn
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated, truncated, info

    def abandon(self) -> dict[str, Any]:
        """A step is never cut off in the middle: it had not begun, and cost nothing."""
        return {"records": ()}


@dataclass(frozen=True)
class Stage:
    """An opened environment.

    Attributes:
        env: opened once, for what all episodes share; `close` it.
        make: builds another one (only for those that wait for nothing).
        task_ids: of the split, in the environment's order; () where tasks have no list.
        text: whether actions are texts.
        protocol: "workflow", "dag" ...; "" where nothing is orchestrated.
    """

    env: gym.Env[Any, Any]
    spec: gym.envs.registration.EnvSpec
    kwargs: Mapping[str, Any]
    task_ids: Sequence[str]
    text: bool
    protocol: str

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the entries of `info["costs"]`."""
        names: tuple[str, ...] = self.env.get_wrapper_attr("cost_names")
        return names

    def session(self, slots: asyncio.Semaphore) -> Session:
        """A place for one episode at a time."""
        inner = self.env.unwrapped
        if isinstance(inner, OrchestrationEnv):
            return ConcurrentEnv(inner.setup, slots)
        return InstantSession(gym.make(self.spec, **self.kwargs))

    def traffic(self) -> dict[str, Metrics]:
        """What the gateways of the workers have counted, by provider."""
        inner = self.env.unwrapped
        return count_traffic("workers", inner.setup.crew.provider) if isinstance(inner, OrchestrationEnv) else {}

    def close(self) -> None:
        """Release the provider's clients."""
        self.env.close()


def open_stage(settings: RolloutSettings, wants_text: bool) -> Stage:
    """Make the environment of a rollout.

    Args:
        settings: of the rollout.
        wants_text: whether the policy acts in text; then the text interface is chosen, unless `env_kwargs` names one.

    Raises:
        ConfigError: no such id or no single agent in it, an argument that it does not take, or no text where the policy
            needs it.
    """
    entries = {entry.id: entry for entry in registry.entries()}
    if settings.env not in entries:
        registry.load_plugins()
        entries = {entry.id: entry for entry in registry.entries()}
    entry = entries.get(settings.env)
    if entry is None or entry.entry_point is None:
        known = ", ".join(e.id for e in entries.values() if e.entry_point is not None)
        what = "is unknown" if entry is None else "has several agents, and a rollout plays one"
        raise ConfigError(f"env={settings.env!r} {what}; choose one of {known}")
    kwargs = dict(settings.env_kwargs)
    if settings.split is not None:
        if "split" in kwargs:
            raise ConfigError(f"split={settings.split!r} and env_kwargs.split={kwargs['split']!r}: give one of them")
        kwargs["split"] = settings.split
    if wants_text and entry.protocol:
        kwargs.setdefault("interface", "text")
    spec = gym.spec(settings.env)
    try:
        env = gym.make(spec, **kwargs)
    except TypeError as error:
        raise ConfigError(f"env={settings.env!r} does not take these arguments: {error}") from error
    inner = env.unwrapped
    if isinstance(inner, OrchestrationEnv) and (spec.additional_wrappers or spec.max_episode_steps):
        raise ConfigError(f"env={settings.env!r} is registered with wrappers, which a rollout would leave out")
    text = not isinstance(env.action_space, gym.spaces.Discrete)
    if wants_text and not text:
        raise ConfigError(
            f"policy={settings.policy!r} writes text, but env={settings.env!r} takes numbers; choose an id whose "
            "actions are texts, or env_kwargs.interface=text"
        )
    split = kwargs.get("split", "train")
    if isinstance(inner, OrchestrationEnv):
        return Stage(env, spec, kwargs, inner.setup.world.ids(split), text, inner.setup.rules.name)
    if isinstance(inner, BareEnv):
        return Stage(env, spec, kwargs, inner.world.ids(split), text, "")
    return Stage(env, spec, kwargs, (), text, "")


def attempts(settings: RolloutSettings, task_ids: Sequence[str]) -> list[Attempt]:
    """Where each episode begins; episode i depends on `seed`, `samples` and i alone.

    Tasks come in a random order, each once before any comes again; `samples` episodes in a row attempt the same one.
    """
    found = []
    order: list[str] = []
    for i in range(settings.episodes):
        number, sample = divmod(i, settings.samples)
        task_id = None
        if task_ids:
            lap, place = divmod(number, len(task_ids))
            if place == 0 and sample == 0:
                order = _shuffled(task_ids, stream(settings.seed, "rollout order", lap))
            task_id = order[place]
        # Below 2**53, so that every JSON reader keeps it whole.
        found.append(Attempt(derive(settings.seed, "rollout", number) % 2**53, sample, task_id))
    return found


def _shuffled(items: Sequence[str], rng: random.Random) -> list[str]:
    mixed = list(items)
    rng.shuffle(mixed)
    return mixed

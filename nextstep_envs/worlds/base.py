"""What a domain must offer: tasks, a frozen state, pure instant actions and a judge."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nextstep_envs.requests import WorldTool
from nextstep_envs.types import Outcome, Task


class World(Protocol):
    """A domain. States are frozen and picklable; `act` is pure and instant, so a state can be forked freely.

    A world may also have `tools() -> tuple[WorldTool, ...]`: what its calls are, for workers that must be told. Without
    it, chat workers answer from what they are shown and make no calls in the world.
    """

    name: str

    def ids(self, split: str) -> Sequence[str]:
        """Task ids of "train", "dev", "test" or "all"; `ConfigError` for another split."""
        ...

    def sample_id(self, split: str, rng: random.Random) -> str:
        """Draw a task of the split, by the world's own weights."""
        ...

    def task(self, task_id: str) -> Task:
        """The task, whatever its split; `ConfigError` if there is none."""
        ...

    def begin(self, task: Task, rng: random.Random) -> Any:
        """The state at the start of an episode."""
        ...

    def act(self, state: Any, call: str) -> tuple[Any, str]:
        """The state after one call (a text such as "search[red shoe]") and what the world shows then."""
        ...

    def view(self, state: Any) -> str:
        """What the world shows now."""
        ...

    def available(self, state: Any) -> Mapping[str, Any]:
        """The calls that make sense now, in the world's own form."""
        ...

    def done(self, state: Any) -> bool:
        """Whether nothing can change any more."""
        ...

    def outcome(self, task: Task, state: Any) -> Outcome:
        """Ground truth about an ended episode."""
        ...


def tools_of(world: World) -> tuple[WorldTool, ...]:
    """What the world says can be done in it; () where it does not say."""
    found: tuple[WorldTool, ...] = getattr(world, "tools", tuple)()
    return found

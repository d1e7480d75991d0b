"""What shells and drivers need of an episode and its rules, be an action a step of work or the edit of a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nextstep_envs.requests import Actor, Request, Result
from nextstep_envs.types import Budget, Task, Transition
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World


class Standing(Protocol):
    """What every state of an episode says, whatever else it holds."""

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def sample(self) -> int:
        """Which attempt at the task this is."""
        ...

    @property
    def notice(self) -> str:
        """Why the last action was invalid, or ""."""
        ...


class Machine(Protocol):
    """An episode that never waits: reset, then (act, (poll, deliver)*, transition)*. See `episode.Episode`."""

    state: Any

    def reset(self, task_id: str, pool: tuple[WorkerSpec, ...], seed: int, sample: int = 0) -> None:
        """Start."""
        ...

    def act(self, action: Any) -> None:
        """Take one decision."""
        ...

    def poll(self) -> tuple[Request, ...]:
        """Every unanswered request, in an order that does not depend on who answered first."""
        ...

    def deliver(self, result: Result) -> None:
        """Feed one result back."""
        ...

    def transition(self, scored: bool = True) -> Transition:
        """What the decision yielded, once nothing is pending."""
        ...

    def snapshot(self) -> Any:
        """The whole state, frozen and picklable."""
        ...

    def restore(self, state: Any, sample: int | None = None) -> None:
        """Continue from a snapshot."""
        ...


class Observer(Protocol):
    """A vector observation with names."""

    names: tuple[str, ...]
    size: int

    def __call__(self, state: Any) -> npt.NDArray[np.float32]:
        """float32 [size]; a fresh array."""
        ...


class Orchestration(Protocol):
    """A protocol as shells see it. See `protocols.base.BaseProtocol`."""

    name: str
    budget: Budget
    n_actions: int

    @property
    def features(self) -> Observer:
        """The vector observation."""
        ...

    def adapt(self, world: World) -> World:
        """The world whose tasks are this protocol's tasks."""
        ...

    def episode(self, world: World, workers: Mapping[str, Actor]) -> Machine:
        """An episode that waits for its first reset."""
        ...

    def mask(self, state: Any) -> npt.NDArray[np.int8]:
        """int8 [n_actions]: 1 for legal actions; not to be written to."""
        ...

    def message(self, state: Any) -> str:
        """The next message to the orchestrator."""
        ...

    def transcript(self, state: Any) -> str:
        """The whole episode as text."""
        ...

"""What the rules of all protocols share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.protocols.features import Features
from nextstep_envs.protocols.messages import opening, report, transcript
from nextstep_envs.requests import Actor
from nextstep_envs.types import UNLIMITED, Budget, Step, StepRecord
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World

Mask = npt.NDArray[np.int8]


class BaseProtocol(ABC):
    """Rules for a pool of workers, a budget and limits on costs. Subclasses add `decode`, `mask` and the two texts.

    A vector action is an index below `n_actions`, the last of which is finish; a text action is JSON.

    Args:
        pool: every worker there is, in slot order.
        budget: of one episode.
        cost_limits: per episode, in raw units, by cost name; the first is the protocol's main one.

    Attributes:
        n_actions: size of the vector action space.
        features: the vector observation.
        default_budget: what `budget=` changes.
        max_parallel: the most steps at work at once.
    """

    name = ""
    default_budget = Budget()
    max_parallel = UNLIMITED
    n_actions: int
    features: Features

    def __init__(self, pool: tuple[WorkerSpec, ...], budget: Budget, cost_limits: Mapping[str, float]) -> None:
        self.pool, self.budget, self.cost_limits = pool, budget, cost_limits
        self.slots = {spec.worker_id: i for i, spec in enumerate(pool)}
        self.total = total_allowance(budget)

    def episode(self, world: World, workers: Mapping[str, Actor]) -> Episode:
        """An episode under these rules, waiting for its first reset."""
        return Episode(world, self, workers, self.budget, self.max_parallel)

    def adapt(self, world: World) -> World:
        """The world whose tasks are this protocol's tasks."""
        return world

    # -- what an action means ------------------------------------------------------------------------------------

    @abstractmethod
    def decode(self, state: State, action: Any) -> Decision:
        """The steps behind a vector index or a JSON text; what makes no sense is an invalid action."""

    def may_start(self, state: State, step: Step) -> bool:
        """Whether a step whose predecessors have ended well may start: always."""
        return True

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        """Why control goes back to the orchestrator: never."""
        return ""

    # -- what the orchestrator sees ------------------------------------------------------------------------------

    @abstractmethod
    def mask(self, state: State) -> Mask:
        """int8 [n_actions]: 1 for legal actions; finish always is. The array must not be written to."""

    def workers_text(self, state: State) -> Sequence[str]:
        """One line for each worker present."""
        return [worker_line(spec) for spec in state.pool]

    @abstractmethod
    def format_text(self) -> str:
        """How to answer, for the first message."""

    def status_text(self, state: State) -> Sequence[str]:
        """Lines about what the protocol remembers."""
        return ()

    def message(self, state: State) -> str:
        """The next message to the orchestrator: the task at first, then what the last decision brought."""
        if self._untouched(state):
            return opening(state, self.budget, self.workers_text(state), self.format_text())
        return report(state, self.budget, self.status_text(state))

    def transcript(self, state: State) -> str:
        """The whole episode as text."""
        first = opening(state, self.budget, self.workers_text(state), self.format_text())
        return transcript(first, state, self.budget, self.status_text(state))

    def _untouched(self, state: State) -> bool:
        return not (state.steps or state.invalid or state.end or state.draft)


def worker_line(spec: WorkerSpec) -> str:
    """What an orchestrator may know of a worker, in one line."""
    skills = ", ".join(f"{domain} {level:.1f}" for domain, level in spec.skills)
    return (
        f"- {spec.worker_id}: {spec.description} "
        f"(${spec.usd_per_mtok_in:g}/{spec.usd_per_mtok_out:g} per Mtok; skill: {skills or 'unknown'})"
    )


@lru_cache(maxsize=64)
def only_last(n: int) -> Mask:
    """A mask of n actions with only the last one (finish) legal."""
    mask = np.zeros(n, np.int8)
    mask[-1] = 1
    mask.flags.writeable = False
    return mask

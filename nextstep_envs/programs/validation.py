"""Several tasks of a world taken together as one task: what a program is evaluated on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.requests import WorldTool
from nextstep_envs.types import Outcome, Task
from nextstep_envs.worlds.base import World, tools_of

SEPARATOR = "+"
_DRAWS = 10_000  # a split whose weights leave too few tasks would otherwise be drawn from for ever


class ValidationSet:
    """A `World` in which a task is several tasks of another one; everything else is that world's.

    Args:
        world: the other one.
        size: how many tasks `sample_id` draws, all different.
    """

    def __init__(self, world: World, size: int) -> None:
        self.world, self.size, self.name = world, size, world.name

    def ids(self, split: str) -> Sequence[str]:
        """The split cut into sets of `size` in its order, what is left over dropped: "0+1+2+3", "4+5+6+7" ..."""
        ids = self.world.ids(split)
        if len(ids) < self.size:
            raise ConfigError(f"split {split!r} has {len(ids)} tasks, fewer than the tasks={self.size} of a search")
        return tuple(SEPARATOR.join(ids[i : i + self.size]) for i in range(0, len(ids) - self.size + 1, self.size))

    def sample_id(self, split: str, rng: random.Random) -> str:
        """Different tasks of the split by the world's own weights, in the order in which they are drawn."""
        drawn: dict[str, None] = {}
        for _ in range(_DRAWS):
            drawn[self.world.sample_id(split, rng)] = None
            if len(drawn) == self.size:
                return SEPARATOR.join(drawn)
        raise ConfigError(f"{_DRAWS} draws from split {split!r} gave only {len(drawn)} of tasks={self.size} tasks")

    def parts(self, task_id: str) -> tuple[Task, ...]:
        """The tasks behind an id such as "12+48", of any number; `ConfigError` if there is no such task."""
        ids = task_id.split(SEPARATOR)
        if len(set(ids)) < len(ids):
            raise ConfigError(f"there is no such task as {task_id!r}: it names one twice")
        try:
            return tuple(self.world.task(part) for part in ids)
        except ConfigError as error:
            raise ConfigError(f"there is no such task as {task_id!r}: {error}") from error

    def task(self, task_id: str) -> Task:
        """The tasks of `parts` as one, with a line for each."""
        parts = self.parts(task_id)
        if len(parts) == 1:
            return parts[0]
        return Task(task_id, "\n".join(f"{i}. {part.prompt}" for i, part in enumerate(parts, start=1)))

    def begin(self, task: Task, rng: random.Random) -> Any:
        """The start of one of the tasks."""
        return self.world.begin(task, rng)

    def act(self, state: Any, call: str) -> tuple[Any, str]:
        """As in the world itself."""
        return self.world.act(state, call)

    def view(self, state: Any) -> str:
        """As in the world itself."""
        return self.world.view(state)

    def available(self, state: Any) -> Mapping[str, Any]:
        """As in the world itself."""
        return self.world.available(state)

    def tools(self) -> tuple[WorldTool, ...]:
        """As in the world itself."""
        return tools_of(self.world)

    def done(self, state: Any) -> bool:
        """As in the world itself."""
        return self.world.done(state)

    def outcome(self, task: Task, state: Any) -> Outcome:
        """Ground truth about one of the tasks."""
        return self.world.outcome(task, state)

"""An asker as a policy on the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nextstep_agents.recorded.play import Asker, ask, seat
from nextstep_envs.errors import ConfigError
from nextstep_envs.worlds.qa.world import QuestionWorld


class AskerPolicy:
    """Plays an `Asker` on an environment of question routing: the same picks as in `play`.

    It reads the question and the answers so far from `info`, and nothing else.

    Args:
        asker: who decides.
        env: a single environment with recorded workers and vectors.
    """

    def __init__(self, asker: Asker, env: Any) -> None:
        world, rules = env.unwrapped.setup.world, env.unwrapped.setup.rules
        if not isinstance(world, QuestionWorld) or (rules.columns < 0).any():
            raise ConfigError("AskerPolicy is for question routing with recorded workers")
        self.asker, self.world, self.rules = asker, world, rules
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._board: Any = None

    def act(self, observation: Any, info: Mapping[str, Any] | None = None) -> int:
        """The worker to ask, or the last action to end."""
        if info is None:
            raise ConfigError("AskerPolicy.act needs info: it names the question and holds the answers")
        if self._board is None:
            self._board = seat(self.world, np.array([self.world.row(info["task_id"])]))
        for record in info.get("records", ()):
            column = self.rules.columns[self.rules.slots[record.step.worker_id]]
            ask(self.world, self._board, np.array([0]), np.array([column]))
        column = int(self.asker.choose(self._board)[0])
        slot = np.flatnonzero(self.rules.columns == column)
        return int(slot[0]) if slot.size else int(self.rules.n_actions - 1)

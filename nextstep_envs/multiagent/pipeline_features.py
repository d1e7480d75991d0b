"""The vector observation of a pipeline's role: only what its turn lets it see, and nothing while it waits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextstep_envs.multiagent.pipeline_rules import PipelineRules, PipelineState
from nextstep_envs.multiagent.workflows import INVALID
from nextstep_envs.protocols.features import TASK_BUCKETS, Vector, hash_text

PAGE_BUCKETS = 64
HANDED_BUCKETS = 64
_TURN = ("acting", "turns_left", "sees_task", "last_was_invalid")
_LEFT = ("steps", "tokens", "calls", "env_steps")
_SLOT = ("present", "match", "dear", "done")


class PipelineFeatures:
    """Builds the vector and names its entries.

    Blocks: who the agent is; whether it is its turn, and its turns left; shares left of the budget; then, zero while it
    waits, hashed words of the task (if its turn shows it), of the hand-overs that it sees and of the open page; the
    kind of page; for each slot of the menu whether it is filled, which share of its words is asked for, whether it is
    dearer than asked for, and whether it was opened or chosen before.

    Args:
        rules: whose states are observed.
    """

    def __init__(self, rules: PipelineRules) -> None:
        self.rules = rules
        self.agents = {agent: i for i, agent in enumerate(rules.roles)}
        menu = rules.menu
        self.names: tuple[str, ...] = (
            *(f"me.{agent}" for agent in self.agents),
            *_TURN,
            *(f"left.{name}" for name in _LEFT),
            *(f"task_hash[{i}]" for i in range(TASK_BUCKETS)),
            *(f"handed_hash[{i}]" for i in range(HANDED_BUCKETS)),
            *(f"page_hash[{i}]" for i in range(PAGE_BUCKETS)),
            *(f"page.{kind}" for kind in menu.pages),
            *(f"slot.{slot}.{name}" for slot in menu.slot_names for name in _SLOT),
        )
        self.size = len(self.names)
        self._task_at = len(self.agents) + len(_TURN) + len(_LEFT)
        self._handed_at = self._task_at + TASK_BUCKETS
        self._page_at = self._handed_at + HANDED_BUCKETS
        self._kind_at = self._page_at + PAGE_BUCKETS
        self._slots_at = self._kind_at + len(menu.pages)

    def __call__(self, state: PipelineState, agent: str) -> Vector:
        """float32 [size]; a fresh array."""
        vector = np.zeros(self.size, np.float32)
        vector[self.agents[agent]] = 1.0
        at = len(self.agents)
        budget, spent, turn = self.rules.budget, state.spent, state.turn
        vector[at + len(_TURN) : self._task_at] = (
            1 - len(state.taken) / budget.steps,
            1 - spent.tokens / budget.tokens,
            1 - spent.calls / budget.calls,
            1 - spent.env_steps / budget.env_steps,
        )
        if state.end or agent != turn.agent:
            return vector
        last = state.taken[-1] if state.taken else None
        invalid = last is not None and last.agent == agent and last.act == INVALID
        vector[at : at + len(_TURN)] = (1.0, min(turn.left / 8, 1.0), turn.sees_task, invalid)
        if turn.sees_task:
            vector[self._task_at : self._handed_at] = hash_text(state.task.prompt, TASK_BUCKETS)
        handed = [state.handed[role][1] for role in turn.sees if role in state.handed]
        vector[self._handed_at : self._page_at] = hash_text(" ".join(handed), HANDED_BUCKETS)
        view = self.rules.world.view(state.world)
        vector[self._page_at : self._kind_at] = hash_text(view, PAGE_BUCKETS)
        menu = self.rules.menu
        vector[self._kind_at + menu.pages.index(menu.page(state.world))] = 1.0
        vector[self._slots_at :] = self._slots(state)
        return vector

    def _slots(self, state: PipelineState) -> Sequence[float]:
        values: list[float] = []
        for slot in self.rules.slots(state):
            values += (0.0, 0.0, 0.0, 0.0) if slot is None else (1.0, slot.match, float(slot.dear), float(slot.done))
        return values

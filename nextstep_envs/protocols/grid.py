"""Vector actions that give a worker an instruction: index (worker * n_templates + template) * n_contexts + context."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextstep_envs.episode import State
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.protocols.templates import TEMPLATES, Template
from nextstep_envs.types import Allowance
from nextstep_envs.workers.base import WorkerSpec


class Choice(NamedTuple):
    """What one index of the grid stands for."""

    worker_id: str
    template: Template
    context: int


class Grid:
    """All combinations of a worker, a template and one of `contexts` ways to use earlier steps.

    Attributes:
        size: how many there are.
    """

    def __init__(self, pool: tuple[WorkerSpec, ...], contexts: int) -> None:
        self.pool = pool
        self._worker, self._template, self._context = np.indices((len(pool), len(TEMPLATES), contexts)).reshape(3, -1)
        self.size = len(self._worker)

    def choice(self, index: int) -> Choice:
        """What an index stands for."""
        worker_id = self.pool[self._worker[index]].worker_id
        return Choice(worker_id, TEMPLATES[self._template[index]], int(self._context[index]))

    def mask(self, state: State, left: Allowance, contexts: int, others: tuple[bool, ...]) -> npt.NDArray[np.int8]:
        """int8 [size + len(others)]; the array must not be written to.

        1 where the worker is present, `left` allows a call with the instruction and the context is below `contexts`;
        then the actions that follow the grid.
        """
        needs = _template_tokens(state.task.prompt)
        fits = tuple(left.tokens >= need and left.calls >= 1 and left.usd_nano > 0 for need in needs)
        return self._mask(tuple(spec.worker_id for spec in state.pool), fits, contexts, others)

    @lru_cache(maxsize=512)  # noqa: B019 - protocols live as long as the process's environments
    def _mask(
        self, present: tuple[str, ...], fits: tuple[bool, ...], contexts: int, others: tuple[bool, ...]
    ) -> npt.NDArray[np.int8]:
        there = np.array([spec.worker_id in present for spec in self.pool])
        legal = there[self._worker] & np.array(fits)[self._template] & (self._context < contexts)
        mask = np.append(legal, others).astype(np.int8)
        mask.flags.writeable = False
        return mask


@lru_cache(maxsize=4096)
def _template_tokens(prompt: str) -> tuple[int, ...]:
    return tuple(estimate_tokens(t.text.replace("{task}", prompt)) for t in TEMPLATES)

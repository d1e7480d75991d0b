"""The vector observation of a search."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nextstep_envs.ledger import cost_terms
from nextstep_envs.programs.kinds import KINDS, TASK
from nextstep_envs.programs.program import Program, live
from nextstep_envs.programs.state import Evaluation, SearchState
from nextstep_envs.protocols.features import TASK_BUCKETS, Vector, hash_text
from nextstep_envs.types import Budget, Task
from nextstep_envs.workers.base import WorkerSpec


class SearchFeatures:
    """Builds the vector and names its entries.

    Blocks: the mean of the tasks' hashed texts; for each slot of the pool presence, log price and skills; edits left,
    invalid actions; mean, standard deviation and cost ("mix" of one run) of the last and of the best evaluation; for
    each operator its kind and worker, whether it runs, whether it has a prompt of its own, and what it reads.

    Scores of validation tasks are what a search goes by; nothing else comes from ground truth.

    Args:
        pool: every worker there is, in slot order.
        budget: of the search.
        slots: the most operators a program may have.
    """

    def __init__(self, pool: tuple[WorkerSpec, ...], budget: Budget, slots: int) -> None:
        self.budget, self.slots = budget, slots
        self.workers = {spec.worker_id: i for i, spec in enumerate(pool)}
        self.domains = tuple(domain for domain, _ in pool[0].skills)
        self._kinds = {name: i for i, name in enumerate(KINDS)}
        operator = (
            *(f"kind.{name}" for name in KINDS),
            *(f"worker.{name}" for name in self.workers),
            *("runs", "own_prompt", "reads_task"),
            *(f"reads[{i}]" for i in range(slots)),
        )
        self.names: tuple[str, ...] = (
            *(f"task_hash[{i}]" for i in range(TASK_BUCKETS)),
            *(
                f"pool[{spec.worker_id}].{name}"
                for spec in pool
                for name in ("present", "log_price", *(f"skill.{d}" for d in self.domains))
            ),
            *("left.edits", "invalid_actions", "evaluated"),
            *(f"{which}.{name}" for which in ("last", "best") for name in ("mean", "std", "cost_mix")),
            *(f"operator[{i}].{name}" for i in range(slots) for name in operator),
        )
        self.size = len(self.names)
        self._scores_at = TASK_BUCKETS + len(pool) * (2 + len(self.domains))
        self._operators_at = self._scores_at + 9
        self._operator_width = len(operator)

    def __call__(self, state: SearchState) -> Vector:
        """float32 [size]; a fresh array."""
        vector = np.zeros(self.size, np.float32)
        vector[: self._scores_at] = self._head(state.tasks, state.pool)
        n, best = len(state.evaluations), state.best()
        vector[self._scores_at : self._operators_at] = (
            max(self.budget.steps - state.steps_used(), 0) / self.budget.steps,
            state.invalid / self.budget.steps,
            n / self.budget.steps,
            *(self._scores(state.evaluations[-1]) if n else (0.0, 0.0, 0.0)),
            *(self._scores(best) if best else (0.0, 0.0, 0.0)),
        )
        vector[self._operators_at :] = self._program(state.program)
        return vector

    def _scores(self, found: Evaluation) -> tuple[float, float, float]:
        return found.mean, found.std, cost_terms(found.usage, self.budget)["mix"] / len(found.runs)

    @lru_cache(maxsize=2048)  # noqa: B019 - lives as long as the process's environments
    def _head(self, tasks: tuple[Task, ...], pool: tuple[WorkerSpec, ...]) -> Vector:
        """What reset fixed: tasks and pool."""
        head = np.zeros(self._scores_at, np.float32)
        head[:TASK_BUCKETS] = np.mean([hash_text(task.prompt, TASK_BUCKETS) for task in tasks], axis=0)
        width = 2 + len(self.domains)
        for spec in pool:
            at = TASK_BUCKETS + self.workers[spec.worker_id] * width
            levels = dict(spec.skills)
            price = np.log1p(spec.usd_per_mtok_in + spec.usd_per_mtok_out)
            head[at : at + width] = (1.0, price, *(levels.get(d, 0.0) for d in self.domains))
        return head

    @lru_cache(maxsize=2048)  # noqa: B019 - lives as long as the process's environments
    def _program(self, program: Program) -> Vector:
        blocks = np.zeros((self.slots, self._operator_width), np.float32)
        position = {op.name: i for i, op in enumerate(program.operators)}
        runs = live(program)
        flags = len(KINDS) + len(self.workers)
        for operator, block in zip(program.operators, blocks, strict=False):
            block[self._kinds[operator.kind]] = 1.0
            block[len(KINDS) + self.workers[operator.worker]] = 1.0
            block[flags : flags + 3] = operator in runs, bool(operator.prompt), TASK in operator.inputs
            for name in operator.inputs:
                if name != TASK:
                    block[flags + 3 + position[name]] = 1.0
        return blocks.ravel()

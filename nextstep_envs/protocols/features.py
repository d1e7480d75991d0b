"""The vector observation of orchestration: nothing in it comes from ground truth."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nextstep_envs.episode import State
from nextstep_envs.ledger import cost_terms, total_allowance
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec

TASK_BUCKETS = 256
OUTPUT_BUCKETS = 16
_WORD = re.compile(r"[a-z0-9]+")
Vector = npt.NDArray[np.float32]


@lru_cache(maxsize=8192)
def hash_text(text: str, buckets: int) -> Vector:
    """Signed hashed counts of the words of a text, scaled to unit length (feature hashing, Weinberger et al. 2009)."""
    vector = np.zeros(buckets, np.float32)
    for word in _WORD.findall(text.lower()):
        code = zlib.crc32(word.encode())
        vector[(code >> 1) % buckets] += 1.0 if code & 1 else -1.0
    norm = float(np.sqrt(vector @ vector))
    if norm:
        vector /= norm
    vector.flags.writeable = False
    return vector


class Features:
    """Builds the vector and names its entries.

    Blocks: hashed task text; for each slot of the pool presence, log price and skills; share left of each budget;
    for each possible step who did it, what it saw, how it ended as reported, its cost and its hashed output; the
    protocol's own entries.

    Args:
        pool: every worker there is, in slot order.
        budget: of one episode.
        agents: who does steps, by name; by default the workers.
        own_names: names of the protocol's own entries.
        own: their values, numbers in [-1, 32].
    """

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        agents: Sequence[str] | None = None,
        own_names: Sequence[str] = (),
        own: Callable[[State], Sequence[float]] | None = None,
    ) -> None:
        self.budget, self.slots = budget, {spec.worker_id: i for i, spec in enumerate(pool)}
        self.agents = {name: i for i, name in enumerate(self.slots if agents is None else agents)}
        self._own = own
        self.domains = tuple(domain for domain, _ in pool[0].skills)
        self._total = total_allowance(budget)
        self._usd = self._total.usd_nano if budget.usd is not None else 0
        self.step_width = len(self.agents) + 6 + OUTPUT_BUCKETS
        budgets = ("steps", "tokens", "calls", "env_steps", "usd")
        self.names: tuple[str, ...] = (
            *(f"task_hash[{i}]" for i in range(TASK_BUCKETS)),
            *(
                f"pool[{spec.worker_id}].{name}"
                for spec in pool
                for name in ("present", "log_price", *(f"skill.{d}" for d in self.domains))
            ),
            *(f"left.{name}" for name in budgets),
            "invalid_actions",
            *(
                f"step[{i}].{name}"
                for i in range(budget.steps)
                for name in (
                    *(f"{'worker' if agents is None else 'agent'}.{name}" for name in self.agents),
                    *("done", "error", "reads_last", "reads_all", "cost_mix", "output_length"),
                    *(f"output_hash[{b}]" for b in range(OUTPUT_BUCKETS)),
                )
            ),
            *own_names,
        )
        self.size = len(self.names)
        self._own_at = self.size - len(own_names)
        self._pool_at = TASK_BUCKETS
        self._left_at = TASK_BUCKETS + len(pool) * (2 + len(self.domains))
        self._steps_at = self._left_at + len(budgets) + 1

    @lru_cache(maxsize=2048)  # noqa: B019 - lives as long as the process's environments
    def _head(self, prompt: str, pool: tuple[WorkerSpec, ...]) -> Vector:
        """What reset fixed: task and pool; the rest zero."""
        head = np.zeros(self.size, np.float32)
        head[:TASK_BUCKETS] = hash_text(prompt, TASK_BUCKETS)
        width = 2 + len(self.domains)
        for spec in pool:
            at = self._pool_at + self.slots[spec.worker_id] * width
            levels = dict(spec.skills)
            price = np.log1p(spec.usd_per_mtok_in + spec.usd_per_mtok_out)
            head[at : at + width] = (1.0, price, *(levels.get(d, 0.0) for d in self.domains))
        return head

    def __call__(self, state: State) -> Vector:
        """float32 [size]; a fresh array."""
        vector = self._head(state.task.prompt, state.pool).copy()
        budget, spent = self.budget, state.spent
        at = self._left_at
        vector[at : at + 6] = (
            max(budget.steps - state.steps_used(), 0) / budget.steps,
            max(1 - spent.tokens / budget.tokens, -1.0),
            max(1 - spent.calls / budget.calls, -1.0),
            max(1 - spent.env_steps / budget.env_steps, -1.0),
            max(1 - spent.usd_nano / self._usd, -1.0) if self._usd else 1.0,
            state.invalid / budget.steps,
        )
        if self._own is not None:
            vector[self._own_at :] = self._own(state)
        n = len(self.agents)
        for at, (index, call) in enumerate(state.calls.items()):
            record = call.record
            if record is None:
                continue
            block = vector[self._steps_at + at * self.step_width :][: self.step_width]
            block[self.agents[record.step.agent or record.step.worker_id]] = 1.0
            reads = record.step.reads
            block[n : n + 6] = (
                not record.error,
                bool(record.error),
                index - 1 in reads,
                len(reads) == index > 0,
                cost_terms(record.usage, budget)["mix"],
                min(len(record.output) / 600, 1.0),
            )
            block[n + 6 :] = hash_text(record.output, OUTPUT_BUCKETS)
        return vector

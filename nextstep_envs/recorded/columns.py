"""The infos of many episodes of question routing in Gymnasium's vector form, made column by column."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.ledger import COST_NAMES, MIX_WEIGHTS
from nextstep_envs.recorded.board import Flags, Floats, Integers
from nextstep_envs.setup import Setup
from nextstep_envs.types import NANO, Usage


@dataclass(frozen=True)
class Bill:
    """What one step brought in each of N episodes: usage, records and whether the action was invalid."""

    tokens: Integers
    prompt: Integers
    completion: Integers
    calls: Integers
    usd_nano: Integers
    flops: Integers
    invalid: Flags
    records: npt.NDArray[Any]

    @staticmethod
    def empty(n: int) -> Bill:
        """Nothing was used."""
        records = np.empty(n, dtype=object)
        records.fill(())
        tokens, prompt, completion, calls, usd, flops = np.zeros((6, n), np.int64)
        return Bill(tokens, prompt, completion, calls, usd, flops, np.zeros(n, bool), records)

    def clear(self, rows: Integers) -> None:
        """Forget some episodes."""
        for field in fields(self)[:-1]:
            getattr(self, field.name)[rows] = 0
        for i in rows.tolist():
            self.records[i] = ()

    def usage(self, i: int) -> Usage:
        """Of one episode."""
        used = (self.prompt[i], self.completion[i], self.calls[i], 0, self.usd_nano[i], self.flops[i])
        return Usage(*map(int, used))

    def terms(self, setup: Setup) -> dict[str, Floats]:
        """Every cost by name [N], as `ledger.cost_terms` has it."""
        budget, (a, b, c) = setup.budget, MIX_WEIGHTS
        steps = np.zeros(len(self.tokens))
        mix = a * self.tokens / budget.tokens + b * steps / budget.env_steps + c * self.calls / budget.calls
        values = (mix, self.usd_nano / NANO, self.tokens, self.calls, steps, self.flops)
        return {name: value.astype(np.float64) for name, value in zip(COST_NAMES, values, strict=True)}


@dataclass(frozen=True)
class Ends:
    """How episodes ended [N]: outcomes, 1.0 where the answer was right, and which budget was exhausted ("": none)."""

    outcomes: npt.NDArray[Any]
    right: Floats
    exhausted: npt.NDArray[Any]

    @staticmethod
    def empty(n: int, exhausted: npt.NDArray[Any]) -> Ends:
        """None has ended yet."""
        return Ends(np.full(n, None, dtype=object), np.zeros(n), exhausted)


def columns(
    setup: Setup,
    where: Integers,
    task_ids: npt.NDArray[Any],
    samples: Integers,
    bill: Bill,
    masks: npt.NDArray[np.int8],
) -> dict[str, Any]:
    """The infos of the episodes `where` (of N), equal to adding the single infos one by one.

    Args:
        where: indices; the other arrays have N rows.
        task_ids, samples, bill, masks: of all N episodes.
    """
    n = len(samples)
    has = np.zeros(n, bool)
    has[where] = True
    terms = bill.terms(setup)
    by_name: dict[str, Any] = {}
    for name, column in terms.items():
        by_name[name], by_name[f"_{name}"] = np.where(has, column, 0.0), has.copy()
    costs = np.stack([by_name[name] for name in setup.cost_names], axis=1)
    values: dict[str, Any] = {
        "task_id": _objects(task_ids, has),
        "sample": np.where(has, samples, 0),
        "costs": costs,
        "cost": costs[:, 0].copy(),
        "cost_terms": by_name,
        "books": {},
        "records": _objects(bill.records, has),
        "action_mask": masks * has[:, None],
        "invalid_action": bill.invalid & has,
    }
    return {key: value for name, column in values.items() for key, value in ((name, column), (f"_{name}", has.copy()))}


def add_ends(infos: dict[str, Any], ended: Integers, ends: Ends) -> None:
    """Add the outcome and the exhausted budget of the episodes that have ended."""
    for name, column, rows in (
        ("outcome", ends.outcomes, ended),
        ("budget_exhausted", ends.exhausted, ended[ends.exhausted[ended] != ""]),
    ):
        if rows.size:
            has = np.zeros(len(column), bool)
            has[rows] = True
            infos[name], infos[f"_{name}"] = _objects(column, has), has


def _objects(values: npt.NDArray[Any], has: Flags) -> npt.NDArray[Any]:
    column = np.full(len(values), None, dtype=object)
    column[has] = values[has]
    return column

"""What `info` holds, for one environment as a dict and for many as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.ledger import COST_NAMES, cost_terms
from nextstep_envs.machine import Standing
from nextstep_envs.setup import Setup
from nextstep_envs.types import StepRecord, Transition, Usage

Mask = npt.NDArray[np.int8]


def reset_info(setup: Setup, state: Standing, mask: Mask) -> dict[str, Any]:
    """The info of a reset: every key of a step's, with costs of zero."""
    return _info(setup, state, mask, Usage(), ())


def step_info(setup: Setup, state: Standing, result: Transition, mask: Mask) -> dict[str, Any]:
    """The info of a step."""
    info = _info(setup, state, mask, result.usage, result.records)
    info.update(end_info(result))
    return info


def end_info(result: Transition) -> dict[str, Any]:
    """The keys that only some steps have: the protocol's own, and those of an ending."""
    info: dict[str, Any] = dict(result.extra)
    if result.outcome is not None:
        info["outcome"] = result.outcome
    if result.budget_exhausted:
        info["budget_exhausted"] = result.budget_exhausted
    if result.error:
        info["error"] = {"kind": "outage", "message": result.error}
        info["mask_sample"] = True
    return info


def _info(setup: Setup, state: Standing, mask: Mask, usage: Usage, records: tuple[Any, ...]) -> dict[str, Any]:
    terms = cost_terms(usage, setup.budget)
    return {
        "task_id": state.task.task_id,
        "sample": int(state.sample),
        "costs": np.array([terms[name] for name in setup.cost_names]),
        "cost": terms[setup.cost_names[0]],
        "cost_terms": terms,
        "books": _books(setup, records),
        "records": records,
        "action_mask": mask,
        "invalid_action": bool(state.notice),
    }


def _books(setup: Setup, records: Sequence[StepRecord]) -> dict[str, dict[str, float]]:
    """Accounts beside the costs: what providers billed for attempts that failed; no entry where there was nothing."""
    waste = Usage()
    for record in records:
        waste = waste.plus(record.waste)
    return {"waste": cost_terms(waste, setup.budget)} if any(waste) else {}


def columns(
    setup: Setup,
    n: int,
    where: Sequence[int],
    states: Sequence[Standing],
    usages: Sequence[Usage],
    records: Sequence[tuple[Any, ...]],
    masks: Mask,
) -> dict[str, Any]:
    """The infos of the environments `where` (of n) in Gymnasium's vector form: for each key an array and a mask.

    Equal to adding the single infos one by one, but built column by column.

    Args:
        where: indices of the environments that have an info; the other sequences are in that order.
        masks: int8 [len(where), n_actions].
    """
    at = list(where)
    has = np.zeros(n, bool)
    has[at] = True
    rows = [cost_terms(usage, setup.budget) for usage in usages]
    terms = {name: np.array([row[name] for row in rows]) for name in COST_NAMES}
    costs = np.zeros((n, len(setup.cost_names)))
    costs[at] = np.stack([terms[name] for name in setup.cost_names], axis=1)
    action_mask = np.zeros((n, masks.shape[1]), np.int8)
    action_mask[at] = masks
    by_name: dict[str, Any] = {}
    for name in COST_NAMES:
        by_name[name], by_name[f"_{name}"] = _scatter(n, at, terms[name]), has.copy()
    books: dict[str, Any] = {}
    for i, made in zip(at, records, strict=True):
        for name, value in _books(setup, made).get("waste", {}).items():
            _put(books.setdefault("waste", {}), name, n, i, value, float)
            books.setdefault("_waste", np.zeros(n, bool))[i] = True
    sample = np.zeros(n, int)
    sample[at] = [state.sample for state in states]
    invalid = np.zeros(n, bool)
    invalid[at] = [bool(state.notice) for state in states]
    values: dict[str, Any] = {
        "task_id": objects(n, at, [state.task.task_id for state in states]),
        "sample": sample,
        "costs": costs,
        "cost": costs[:, 0].copy(),
        "cost_terms": by_name,
        "books": books,
        "records": objects(n, at, records),
        "action_mask": action_mask,
        "invalid_action": invalid,
    }
    return {key: value for name, column in values.items() for key, value in ((name, column), (f"_{name}", has.copy()))}


def add_ends(infos: dict[str, Any], n: int, where: Sequence[int], results: Sequence[Transition]) -> None:
    """Add the columns of `end_info`."""
    for i, result in zip(where, results, strict=True):
        for key, value in end_info(result).items():
            if key == "error":
                column = infos.setdefault(key, {})
                for name, text in value.items():
                    _put(column, name, n, i, text, object)
                infos.setdefault(f"_{key}", np.zeros(n, bool))[i] = True
            else:
                _put(infos, key, n, i, value, type(value) if isinstance(value, bool | float) else object)


def objects(n: int, at: Sequence[int], values: Sequence[Any]) -> npt.NDArray[Any]:
    """An object array [n] with `values` at `at` and None elsewhere."""
    column = np.full(n, None, dtype=object)
    for i, value in zip(at, values, strict=True):
        column[i] = value
    return column


def _put(infos: dict[str, Any], key: str, n: int, i: int, value: Any, dtype: type) -> None:
    if key not in infos:
        infos[key] = np.full(n, None, dtype=object) if dtype is object else np.zeros(n, dtype)
        infos[f"_{key}"] = np.zeros(n, bool)
    infos[key][i], infos[f"_{key}"][i] = value, True


def _scatter(n: int, at: Sequence[int], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    column = np.zeros(n)
    column[at] = values
    return column

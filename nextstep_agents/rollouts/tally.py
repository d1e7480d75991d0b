"""Adds up a rollout while it runs: results by task, costs, what was spent; and sums it up at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextstep_agents.evaluation.statistics import bootstrap
from nextstep_agents.rollouts.books import Account, Spent, of_line
from nextstep_agents.rollouts.stage import Attempt
from nextstep_envs.types import NANO

COMMON_ERRORS = 5  # shown in a summary


class _Row(NamedTuple):
    """What a summary needs of a finished episode; `error` is "" unless it is masked."""

    error: str
    score: float
    success: float
    reward: float
    costs: npt.NDArray[np.float64]


class Tally:
    """What a run has come to so far.

    Args:
        planned: its episodes. Sums are taken in their order, so that they do not depend on who ended first.
        cost_names: of the environment's costs.
        discarded: what earlier parts of the run spent on episodes that were discarded.

    Attributes:
        masked: episodes that failed and count for nothing.
        thrown_away: episodes that this process has discarded.
        usd_nano: everything spent, in 1e-9 USD: on finished episodes, on those under way as far as their steps have
            ended, and on discarded ones.
    """

    def __init__(self, planned: Sequence[Attempt], cost_names: Sequence[str], discarded: Account) -> None:
        self.planned, self.cost_names, self.discarded = planned, cost_names, discarded
        self.masked = self.thrown_away = 0
        self.usd_nano = discarded.usd_nano
        self._spent = Spent()
        self._open: dict[Attempt, Spent] = {}
        self._rows: dict[Attempt, _Row] = {}

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._rows

    @property
    def lines(self) -> int:
        """Number of finished episodes."""
        return len(self._rows)

    @property
    def usd(self) -> float:
        """Everything spent, in US dollars."""
        return self.usd_nano / NANO

    @property
    def usd_to_come(self) -> float:
        """What the rest of the run will cost if it is like what has ended."""
        return self._spent.usd_nano / NANO / max(self.lines, 1) * (len(self.planned) - self.lines)

    def note(self, attempt: Attempt, spent: Spent) -> None:
        """What an episode under way has come to."""
        self.usd_nano += spent.usd_nano - self._open.get(attempt, Spent()).usd_nano
        self._open[attempt] = spent

    def discard(self, attempt: Attempt) -> None:
        """An episode was cut off: it counts for nothing, but what it spent is spent."""
        for account in self._open.pop(attempt, Spent()):
            self.discarded = self.discarded.plus(*account)
        self.thrown_away += 1

    def add(self, attempt: Attempt, line: Mapping[str, Any]) -> None:
        """An episode has ended, now or in an earlier part of the run."""
        spent = of_line(line)
        self.usd_nano += spent.usd_nano - self._open.pop(attempt, Spent()).usd_nano
        self._spent = self._spent.plus(spent)
        self.masked += bool(line["mask_sample"])
        error = line["error"]["message"] if line["mask_sample"] else ""
        outcome = line["outcome"] or {"score": np.nan, "success": np.nan}
        costs = np.zeros(len(self.cost_names))
        for step in line["steps"]:
            costs = costs + step["costs"]
        self._rows[attempt] = _Row(error, outcome["score"], outcome["success"], line["reward"], costs)

    def summary(self, seed: int) -> dict[str, Any]:
        """Means with 95% bootstrap intervals over tasks, masked episodes left out; `seed` of the resampling."""
        rows = [(attempt, self._rows[attempt]) for attempt in self.planned if attempt in self._rows]
        by_task: dict[str | int, list[tuple[float, float, float]]] = {}
        for attempt, row in rows:
            # Attempts at one task are not independent; where tasks have no list, every seed is a task of its own.
            task = attempt.seed if attempt.task_id is None else attempt.task_id
            if not row.error:
                by_task.setdefault(task, []).append((row.score, row.success, row.reward))
        means = np.array([np.mean(values, axis=0) for values in by_task.values()]).reshape(-1, 3)
        costs = np.array([row.costs for _, row in rows]).reshape(-1, len(self.cost_names))
        return {
            "episodes": len(rows),
            "tasks": len(means),
            **{name: _interval(means[:, i], seed) for i, name in enumerate(("outcome", "success", "reward"))},
            "masked": {
                "episodes": self.masked,
                "share": self.masked / max(len(rows), 1),
                # The least that the mean outcome could be, had no failure been excused.
                "outcome_if_failed": _mean([0.0 if row.error else row.score for _, row in rows]),
                "errors": dict(Counter(row.error for _, row in rows if row.error).most_common(COMMON_ERRORS)),
            },
            "costs": {
                name: {"mean": _mean(column), "total": float(column.sum())}
                for name, column in zip(self.cost_names, costs.T, strict=True)
            },
            "spent": {**self._spent.terms(), "discarded": self.discarded.terms(), "usd": self.usd},
            "discarded_episodes": self.thrown_away,
        }


def _interval(values: npt.NDArray[np.float64], seed: int) -> dict[str, float] | None:
    """None where there is nothing to average."""
    return None if _mean(values) is None else bootstrap(values, seed=seed)._asdict()


def _mean(values: Any) -> float | None:
    mean = float(np.mean(values)) if len(values) else np.nan
    return None if np.isnan(mean) else mean

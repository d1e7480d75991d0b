"""The problems that both sides learn, and how a learner is followed: exactly, and on the clock of its own CPU time."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.tabular import DagRetries, RetryStop, TabularCMDP, TierRouting

Table = npt.NDArray[np.float64]

RETURN, COST = 0.95, 1.03  # solved: this share of the best return, with at most this multiple of the budget
LOOK = 2048  # steps between two looks at a policy: who looks more often finds a good one sooner


def dag_spend() -> TabularCMDP:
    """`DagRetries` with a budget for spending alone, since omnisafe knows one cost."""
    dag = DagRetries()
    outcomes = dag.model.outcomes
    one = replace(outcomes, costs=outcomes.costs[..., :1])
    return TabularCMDP(dag.P, dag.R, dag.C[:1], dag.mu, dag.d[:1], mask=dag.mask, outcomes=one)


PROBLEMS: dict[str, Callable[[], TabularCMDP]] = {
    "TierRouting": TierRouting,
    "RetryStop": RetryStop,
    "DagRetries-spend": dag_spend,
}


@dataclass
class Recorder:
    """The curve of one training run; the clock stands still while a policy is evaluated.

    Attributes:
        cmdp: what is learned; its linear program is solved before the clock starts.
        curve: steps, CPU seconds, return / best return and cost / budget of every policy seen.
    """

    cmdp: TabularCMDP
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._best = float(self.cmdp.optimum()["return"])
        self._began = time.process_time()

    def due(self, steps: int) -> bool:
        """Whether it is time for the next look."""
        return steps // LOOK > (self.curve[-1][0] if self.curve else 0) // LOOK

    def __call__(self, steps: int, policy: Callable[[], Table]) -> None:
        """Evaluate a policy, given as probabilities [S, A], after so many environment steps."""
        paused = time.process_time()
        value = self.cmdp.evaluate(policy())
        self.curve.append(
            (steps, paused - self._began, value["return"] / self._best, value["costs"][0] / self.cmdp.d[0])
        )
        self._began += time.process_time() - paused

    def summary(self) -> dict[str, Any]:
        """What one run comes to; the tail is the last fifth of its policies."""
        curve = np.array(self.curve)
        solved = np.flatnonzero((curve[:, 2] >= RETURN) & (curve[:, 3] <= COST))
        steps, seconds = curve[-1, :2]
        tail = curve[-max(1, len(curve) // 5) :, 2:].mean(0)
        return {
            "steps_per_cpu_second": steps / seconds,
            "return": curve[-1, 2],
            "cost": curve[-1, 3],
            "tail_return": tail[0],
            "tail_cost": tail[1],
            "solved_steps": curve[solved[0], 0] if len(solved) else None,
            "solved_seconds": curve[solved[0], 1] if len(solved) else None,
        }


def arguments(doc: str | None, **choices: tuple[str, ...]) -> argparse.Namespace:
    """What every trainer is told; further choices by name."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--problem", choices=PROBLEMS, required=True)
    for name, options in choices.items():
        parser.add_argument(f"--{name}", choices=options, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def report(recorder: Recorder) -> None:
    """Print a run as one line of JSON, the last of the process."""
    print(json.dumps({**recorder.summary(), "curve": recorder.curve}))

"""Trains our own learner with its default settings. Prints one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch._dynamo  # noqa: F401  which the first optimiser imports, and imports are on no learner's clock
from problems import PROBLEMS, Recorder, arguments, report

import nextstep_agents

ALGORITHMS = ("ppo_lagrangian", "pid_lagrangian", "p3o")


def train(problem: str, algorithm: str, seed: int, steps: int) -> Recorder:
    """Train one agent and follow it."""
    cmdp = PROBLEMS[problem]()
    recorder, done = Recorder(cmdp), 0

    def look(played: Any, policy: Any) -> Mapping[str, float]:
        nonlocal done
        done += int(played.batch.decisions.sum())
        if recorder.due(done):
            recorder(done, lambda: cmdp.policy_table(policy))
        return {}

    nextstep_agents.train(cmdp, algorithm, total_steps=steps, seed=seed, metrics=look, quiet=True)
    return recorder


if __name__ == "__main__":
    args = arguments(__doc__, algorithm=ALGORITHMS)
    report(train(args.problem, args.algorithm, args.seed, args.steps))

"""Trains our own learner with its default settings. Prints one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from problems import PROBLEMS, Recorder, arguments, report

import nextstep_agents
from nextstep_agents.learning import run
from nextstep_agents.policies.trained import make_policy

ALGORITHMS = ("ppo_lagrangian", "pid_lagrangian", "p3o")


def train(problem: str, algorithm: str, seed: int, steps: int) -> Recorder:
    """Train one agent and follow it; a callback is not shown the networks, so they are caught as they are made."""
    cmdp = PROBLEMS[problem]()
    learners: list[run.Learner] = []

    def make_and_keep(*args: Any) -> run.Learner:
        learners.append(make_learner(*args))
        return learners[-1]

    def look(done: int, metrics: Mapping[str, float]) -> None:
        if recorder.due(done):
            recorder(done, lambda: cmdp.policy_table(make_policy(learners[0].actor, ("",), 0)))

    make_learner = run.make_learner
    recorder = Recorder(cmdp)
    with patch.object(run, "make_learner", make_and_keep):
        nextstep_agents.train(cmdp, algorithm, total_steps=steps, seed=seed, callback=look, quiet=True)
    return recorder


if __name__ == "__main__":
    args = arguments(__doc__, algorithm=ALGORITHMS)
    report(train(args.problem, args.algorithm, args.seed, args.steps))

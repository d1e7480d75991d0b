"""A run on vectors: rounds, with logging, evaluation and checkpoints around them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from nextstep_agents.checkpoint import latest_checkpoint
from nextstep_agents.learning.checkpoint import Best, restore_learner, save_learner
from nextstep_agents.learning.constraints import Constraints
from nextstep_agents.learning.environments import Problem
from nextstep_agents.learning.evaluation import evaluate
from nextstep_agents.learning.learner import Learner, learn_round, make_learner
from nextstep_agents.learning.play import Round
from nextstep_agents.learning.result import TrainResult
from nextstep_agents.learning.run_settings import RunSettings
from nextstep_agents.policies.mlp import Actor
from nextstep_agents.policies.trained import MLPPolicy, TeamPolicy, make_policy
from nextstep_agents.runs import EVALUATION_SEED, Callback, claim, cpu_threads
from nextstep_agents.tracking import Bar, Tracker, read_rows
from nextstep_envs.errors import ConfigError
from nextstep_envs.seeding import derive

TOLERANCE = 0.02  # relative excess over a budget that sampling alone may bring
LINES = 10  # lines of progress where there is no terminal

logger = logging.getLogger("nextstep")
Measure = Callable[[Round, MLPPolicy | TeamPolicy], Mapping[str, float]]


def run(
    problem: Problem,
    settings: RunSettings,
    constraints: Constraints,
    callback: Callback | None = None,
    measure: Measure | None = None,
    quiet: bool = False,
    reopen: Callable[[Mapping[str, Any]], Problem] | None = None,
    start: MLPPolicy | TeamPolicy | None = None,
) -> TrainResult:
    """Train; see `nextstep_agents.train`.

    Args:
        problem: where.
        settings: with what.
        constraints: under which budgets.
        callback: called after every round; returning False ends the training.
        measure: further metrics of a round, `measure(played, policy)` after it was learned from.
        quiet: show no progress bar.
        reopen: makes the environments with other arguments, for evaluations.
        start: whose networks the policy begins with; a checkpoint to go on from comes first.

    Raises:
        ConfigError: `start` has other networks.
    """
    folder = claim(settings.log_dir, settings, settings.resume) if settings.log_dir else None
    learner = make_learner(problem.stage, settings, constraints)
    if start is not None:
        _begin_as(learner.actor, start)
    checkpoint = latest_checkpoint(folder / "checkpoints") if folder and settings.resume else None
    best = restore_learner(checkpoint, learner) if checkpoint else None
    tracker = Tracker(folder, learner.steps) if folder else None
    history = _history(tracker, learner.steps) if tracker else []
    kwargs = settings.evaluation.env_kwargs
    judged = reopen(kwargs) if settings.evaluation.every and reopen and kwargs else problem
    gamma = problem.gamma if settings.gamma is None else settings.gamma
    lam = settings.gae_lambda if settings.gae_lambda is not None else 1.0 if gamma == 1.0 else 0.95
    policy = make_policy(learner.actor, problem.stage.names, derive(settings.seed, "policy"))
    measured = (lambda played: measure(played, policy)) if measure is not None else None
    every, total = settings.evaluation.every, settings.total_steps
    try:
        with cpu_threads(settings.threads), _heard(settings.log_level), Bar(quiet) as bar:
            bar.begin("training", total, min(learner.steps, total), max(1, total // LINES))
            going = True
            while going and (before := learner.steps) < total:
                found = learn_round(learner, problem.stage, settings, constraints, gamma, lam, measured)
                metrics = {name: float(value) for name, value in found.items()}
                over = learner.steps >= total
                if every and (over or learner.round % every == 0):
                    candidate, judgement = _judge(judged, learner, settings, constraints)
                    best = candidate if candidate.beats(best) else best
                    metrics |= judgement
                history.append(metrics)
                if tracker:
                    tracker.log("train", learner.steps, metrics)
                line = describe(metrics, constraints)
                logger.info("round %d, %d decisions: %s", learner.round, learner.steps, line)
                bar.step(line, min(learner.steps, total) - before)
                going = callback is None or callback(learner.steps, metrics) is not False
                if folder and (over or not going or learner.round % settings.checkpoint_every == 0):
                    save_learner(folder / "checkpoints", learner, best)
    finally:
        if tracker:
            tracker.close()
        if judged is not problem:
            judged.close()
    if best is not None:
        learner.actor.load_state_dict(best.weights)
    if folder:
        policy.save(folder / "policy")
    return TrainResult(policy, history, _multipliers(history, constraints), settings, folder, problem, reopen)


def _begin_as(actor: Actor, start: MLPPolicy | TeamPolicy) -> None:
    """Take over a policy's networks, and what its normalisers have seen."""
    try:
        actor.load_state_dict(start.actor.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"start= has other networks than this run (mlp={actor.settings}): its observations, actions and hidden "
            f"layers must be the same; {error}"
        ) from error


def describe(metrics: Mapping[str, float], constraints: Constraints) -> str:
    """A round in one line: return, and each cost against its budget."""
    costs = (
        f", {name} {metrics[f'cost/{name}']:.4g} of {metrics[f'limit/{name}']:.4g}"
        f" (multiplier {metrics[f'multiplier/{name}']:.3g})"
        for name in constraints.names
    )
    return f"return {metrics['return']:.4g}" + "".join(costs)


def _judge(
    judged: Problem, learner: Learner, settings: RunSettings, constraints: Constraints
) -> tuple[Best, dict[str, float]]:
    """The present policy on episodes that are the same at every evaluation."""
    found = evaluate(
        judged.stage,
        learner.actor,
        settings.evaluation.episodes,
        EVALUATION_SEED,
        judged.objective_gamma,
        settings.max_decisions,
    )
    violation = 0.0
    for column, limit, bound in zip(constraints.columns, constraints.limits, constraints.chance, strict=True):
        if np.isinf(bound):  # a chance constraint is no mean; the mean of its cost is judged as well
            excess = float(found["costs"][column]) - float(limit)
            violation = max(violation, excess / float(limit) if limit > 0 else excess)
    names = zip(found["cost_names"], found["costs"].tolist(), strict=True)
    metrics = {"evaluation/return": found["return"], **{f"evaluation/cost/{name}": cost for name, cost in names}}
    weights = deepcopy(learner.actor.state_dict())
    return Best(violation if violation > TOLERANCE else 0.0, found["return"], weights), metrics


def _history(tracker: Tracker, steps: int) -> list[dict[str, float]]:
    """The rounds before a checkpoint, exactly as they were: CSV holds floats in full."""
    rows = [row for row in read_rows(tracker.path("train")) if int(row["step"]) <= steps]
    return [{name: float(value) for name, value in row.items() if name != "step" and value != ""} for row in rows]


def _multipliers(history: list[dict[str, float]], constraints: Constraints) -> dict[str, float]:
    tail = history[-max(1, len(history) // 5) :]
    return {name: float(np.mean([row[f"multiplier/{name}"] for row in tail])) for name in constraints.names}


@contextmanager
def _heard(level: str | None) -> Iterator[None]:
    """The logger at a level, with somewhere to write to."""
    if level is None:
        yield
        return
    before, handler = logger.level, logging.StreamHandler()
    logger.setLevel(level)
    listening = logger.hasHandlers()
    if not listening:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        if not listening:
            logger.removeHandler(handler)

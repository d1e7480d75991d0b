"""The one call: `train(...)`. It decides what kind of policy learns where, and hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isinf
from typing import TYPE_CHECKING, Any, Literal, overload

from nextstep_agents.learning.constraints import Limits, make_constraints
from nextstep_agents.learning.environments import Problem, open_problem
from nextstep_agents.learning.result import TrainResult
from nextstep_agents.learning.run import Measure, run
from nextstep_agents.learning.run_settings import RunSettings, make_run_settings
from nextstep_agents.learning.settings import CONSTRAINED
from nextstep_agents.policies.trained import MLPPolicy, TeamPolicy
from nextstep_agents.runs import Callback
from nextstep_envs.errors import ConfigError, check_choice

if TYPE_CHECKING:  # it needs transformers
    from nextstep_agents.llm_training import LLMTrainResult

POLICIES = ("mlp", "llm")


@overload
def train(
    env_or_id: Any = ...,
    algorithm: str | None = ...,
    policy: Literal["mlp"] = ...,
    total_steps: int | None = ...,
    **settings: Any,
) -> TrainResult: ...


@overload
def train(
    env_or_id: str = ..., algorithm: str | None = ..., *, policy: Literal["llm"], **settings: Any
) -> LLMTrainResult: ...


def train(
    env_or_id: Any = RunSettings.env,
    algorithm: str | None = None,
    policy: str = "mlp",
    total_steps: int | None = None,
    cost_limits: Limits | float = None,
    seed: int = 0,
    callback: Callback | None = None,
    device: str = "cpu",
    log_dir: str = "",
    log_level: str | None = None,
    resume: bool = False,
    metrics: Measure | None = None,
    quiet: bool = False,
    start: MLPPolicy | TeamPolicy | None = None,
    **settings: Any,
) -> Any:
    """Train a policy on an environment.

    Args:
        env_or_id: an id, a Gymnasium environment, a `TabularCMDP`, a PettingZoo parallel environment, or a callable
            that makes one; see `open_problem`. A language model needs an id of this project with a text interface.
        algorithm: one of `nextstep_agents.learning.settings.ALGORITHMS`, by default "ppo_lagrangian"; for a language
            model "grpo". "macpo" takes the parallel form of an id that has two.
        policy: "mlp", on vectors; "llm", a language model on text.
        total_steps: how long. Of an MLP, decisions (100,000); of a language model, training steps (80).
        cost_limits: budgets of an episode in raw units: a list in the order of the environment's costs, or by name, of
            a team by agent; inf for none. None: the environment's own for algorithms made for constraints
            (`CONSTRAINED`), none for the others; `[]` or `{}`: none at all.
        seed: of everything that is random.
        callback: called after every round (of a language model: training step) with how far it is, in the units of
            `total_steps`, and metrics; returning False ends the training.
        device: of a language model, such as "cuda"; an MLP takes "cpu" only.
        log_dir: the run folder, with metrics (CSV and TensorBoard), checkpoints, settings and the policy. "": an MLP
            writes no files, a language model takes runs/<time>.
        log_level: such as "INFO": a line a round from the logger "nextstep".
        resume: go on from the run folder's last checkpoint, bit for bit.
        metrics: of one's own, by name: `metrics(played, policy)` of a `Round` of episodes and the policy after it.
        quiet: show no progress bar.
        start: a trained policy to begin with instead of a random one, with the same spaces and `hidden`; MLP only.
        **settings: further fields of `RunSettings` (`TrainSettings` for a language model). A group takes a mapping,
            `evaluation={"every": 10}`; fields of the algorithm and of the MLP may stand alone, `hidden=(32,)`.

    Returns:
        A `TrainResult`, or an `LLMTrainResult`: `policy`, `history`, `multipliers`, `evaluate()`, `folder`, `settings`.

    Raises:
        ConfigError: a setting is unknown or out of range, or the environment does not fit.
        TrainingError: too many episodes failed, none came to its end, or a gradient is not finite.
    """
    check_choice("policy", policy, POLICIES)
    given = {**settings, "seed": seed, "device": device, "log_dir": log_dir, "resume": resume}
    given |= {n: value for n, value in (("algorithm", algorithm), ("total_steps", total_steps)) if value is not None}
    if policy == "llm":
        own = {"cost_limits": cost_limits, "metrics": metrics, "log_level": log_level, "start": start}
        for name, value in own.items():
            if value is not None:
                raise ConfigError(f"{name}={value!r} is for policy='mlp'; a language model does not take it yet")
        return _train_llm(env_or_id, given, callback, quiet)
    if isinstance(cost_limits, int | float):
        cost_limits = [cost_limits]
    made = make_run_settings(**given, log_level=log_level, cost_limits=cost_limits)
    return train_mlp(env_or_id, made, callback, metrics, quiet, start)


def train_mlp(
    env_or_id: Any,
    settings: RunSettings,
    callback: Callback | None = None,
    metrics: Measure | None = None,
    quiet: bool = False,
    start: MLPPolicy | TeamPolicy | None = None,
) -> TrainResult:
    """As `train(policy="mlp")`, from settings."""

    def open_with(more: Mapping[str, Any]) -> Problem:
        return open_problem(
            env_or_id,
            {**settings.env_kwargs, **more},
            team=settings.algorithm == "macpo",
            num_envs=settings.num_envs,
            max_decisions=settings.max_decisions,
            cost_limits=settings.cost_limits,
        )

    reopen = open_with if isinstance(env_or_id, str) else None
    if reopen is None and settings.evaluation.env_kwargs:
        raise ConfigError(f"evaluation.env_kwargs={settings.evaluation.env_kwargs} are for environments given by id")
    problem = open_with({})
    try:
        limits = settings.cost_limits
        if limits is None and settings.algorithm in CONSTRAINED:
            limits = problem.cost_limits
        stage = problem.stage
        constraints = make_constraints(limits, stage.cost_names, stage.names, problem.objective_gamma, settings.chance)
        if settings.chance is not None and not len(constraints):
            raise ConfigError(f"chance={settings.chance} needs budgets: give cost_limits")
        if settings.chance is not None and problem.objective_gamma < 1:
            raise ConfigError(f"chance={settings.chance} is about whole episodes; {problem.name} discounts its costs")
        budgets = zip(constraints.names, constraints.limits.tolist(), constraints.chance, strict=True)
        known = {name: budget for name, budget, bound in budgets if isinf(bound)}
        kept = replace(settings, env=problem.name, cost_limits=known if limits is not None else None)
        return run(problem, kept, constraints, callback, metrics, quiet, reopen, start)
    except BaseException:
        problem.close()
        raise


def _train_llm(env_or_id: Any, given: Mapping[str, Any], callback: Callback | None, quiet: bool) -> LLMTrainResult:
    from nextstep_agents.llm_training import run as run_llm
    from nextstep_agents.settings import make_settings

    if not isinstance(env_or_id, str):
        raise ConfigError(f"env_or_id={env_or_id!r} must be a registered id; see `nextstep envs`")
    demonstrator = {"demonstrator": given["demonstrator"]} if "demonstrator" in given else {}
    fields = {name: value for name, value in given.items() if name != "demonstrator"}
    return run_llm(make_settings(env=env_or_id, policy="llm", **fields), callback, quiet=quiet, **demonstrator)

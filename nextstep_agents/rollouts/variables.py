"""The environment variables of `nextstep smoke` and `nextstep dev-slice`, as overrides of a rollout's settings.

Names of variables, splits and methods are those of NextStep v0.1.0. As in its shell scripts, empty means not set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nextstep_envs.errors import ConfigError, check_choice

SPLITS = {"S_policy_train": "train", "S_policy_dev": "dev", "S_final_test": "test", "S_smoke_1": "dev"}
"""Splits of v0.1.0 and ours."""

ONE_TASK = "S_smoke_1"  # all episodes are attempts at one task

METHODS = ("greedy",)
"""Methods that can be run. Greedy: a language model at temperature 0, one attempt."""

NOT_BUILT = {
    "S_rm_train": "reward models are not built yet",
    "S_rm_dev": "reward models are not built yet",
    "S_probe_train": "hacking probes are not built yet",
    "S_probe_dev": "hacking probes are not built yet",
    "sampling": "the sampling baseline is not built yet",
    "rm_bon": "best of n under a reward model is not built yet",
    "rm_mcts": "tree search under a reward model is not built yet",
    "parallel_vote": "the parallel vote is not built yet",
    "planner_executor": "the planner-executor baseline is not built yet",
    "debate": "the debate baseline is not built yet",
    "RM_CHECKPOINT": "reward models are not built yet",
}
"""What v0.1.0 names besides, and what it lacks."""

BUDGET = {"MAX_STEPS": "env_steps", "MAX_TOK": "tokens", "MAX_CALLS": "calls"}
"""Variables of the budget of an episode: actions in the world, workers' tokens, workers' calls."""


def read_methods(environ: Mapping[str, str]) -> tuple[str, ...]:
    """`METHODS`, separated by spaces, each once; greedy by default.

    Raises:
        ConfigError: one of them is unknown or not built, or `RM_CHECKPOINT` is set, which no method reads yet.
    """
    if environ.get("RM_CHECKPOINT"):
        raise ConfigError(f"RM_CHECKPOINT={environ['RM_CHECKPOINT']!r}: {NOT_BUILT['RM_CHECKPOINT']}; leave it out")
    names = tuple(dict.fromkeys(environ.get("METHODS", "").split())) or METHODS
    for name in names:
        _check_built("METHODS", name, METHODS)
    return names


def common_overrides(environ: Mapping[str, str]) -> list[str]:
    """`SPLIT`, `SEED`, `MAX_TASKS` and the budget's variables.

    Raises:
        ConfigError: a bad value, naming its variable.
    """
    found = []
    split, tasks = environ.get("SPLIT"), _whole(environ, "MAX_TASKS", least=1)
    if split:
        _check_built("SPLIT", split, SPLITS)
        found.append(f"split={SPLITS[split]}")
    if split == ONE_TASK:
        found.append("samples=${episodes}")
    if tasks is not None:
        found.append(f"episodes={tasks}")
    seed = _whole(environ, "SEED", least=0)
    if seed is not None:
        found.append(f"seed={seed}")
    for variable, name in BUDGET.items():
        amount = _whole(environ, variable, least=1)
        if amount is not None:
            found.append(f"env_kwargs={{budget: {{{name}: {amount}}}}}")
    return found


def fake_overrides(environ: Mapping[str, str]) -> list[str]:
    """`NEXTSTEP_FAKE_INVALID_RATE`, of policy and workers, and `NEXTSTEP_FAKE_FORCE_STEP0_INVALID`, of the policy.

    Raises:
        ConfigError: a bad value, naming its variable.
    """
    found = []
    rate = environ.get("NEXTSTEP_FAKE_INVALID_RATE")
    if rate:
        share = _share("NEXTSTEP_FAKE_INVALID_RATE", rate)
        found += [f"llm.provider={{invalid_rate: {share}}}", f"env_kwargs={{workers: {{invalid_rate: {share}}}}}"]
    forced = environ.get("NEXTSTEP_FAKE_FORCE_STEP0_INVALID")
    if forced:
        check_choice("NEXTSTEP_FAKE_FORCE_STEP0_INVALID", forced, ("0", "1"))
        found.append(f"llm.provider={{force_step0_invalid: {forced == '1'}}}")
    return found


def model_overrides(environ: Mapping[str, str]) -> list[str]:
    """`MODEL`, "<provider>:<model>": of the policy and of every worker."""
    model = environ.get("MODEL")
    if not model:
        return []
    if ":" not in model:
        raise ConfigError(f"MODEL={model!r} must look like 'openai:gpt-4.1-mini'")
    quoted = json.dumps(model, ensure_ascii=False)
    return [f"policy={quoted}", f"env_kwargs.workers={quoted}"]


def read_root(environ: Mapping[str, str], default: str) -> Path:
    """`OUT_ROOT`: where the folders of the runs are made."""
    return Path(environ.get("OUT_ROOT") or default)


def _check_built(variable: str, name: str, built: Mapping[str, str] | tuple[str, ...]) -> None:
    if name in built:
        return
    if name in NOT_BUILT:
        raise ConfigError(f"{variable}={name!r}: {NOT_BUILT[name]}; choose one of {', '.join(built)}")
    check_choice(variable, name, built)


def _whole(environ: Mapping[str, str], variable: str, least: int) -> int | None:
    text = environ.get(variable)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise ConfigError(f"{variable}={text!r} must be a whole number of at least {least}")
    return int(text)


def _share(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{variable}={text!r} must be a number in [0, 1]")
    return value

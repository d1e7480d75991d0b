"""`nextstep smoke` and `nextstep dev-slice`: rollouts with the settings, variables and folders of NextStep v0.1.0."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.console import Console

from nextstep_agents.config import compose_settings
from nextstep_agents.rollouts.answers import Answers, count_answers
from nextstep_agents.rollouts.brake import FINISHED
from nextstep_agents.rollouts.command import STATUS, show
from nextstep_agents.rollouts.run import rollout
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.variables import (
    common_overrides,
    fake_overrides,
    model_overrides,
    read_methods,
    read_root,
)
from nextstep_envs.errors import ConfigError
from wrappers.jsonl import read_lines

FAULTY = 1  # exit status of a smoke run that ended and does not show what it should


@dataclass(frozen=True)
class Script:
    """One of the two commands.

    Attributes:
        name: of the command.
        config: of its file in `configs/`.
        results: where its folders are made unless `OUT_ROOT` says so.
        own: overrides from the variables that it alone reads.
        faults: what is wrong with a run that has ended.
    """

    name: str
    config: str
    results: str
    own: Callable[[Mapping[str, str]], list[str]]
    faults: Callable[[RolloutSettings, Mapping[str, Any], Answers], list[str]]


class Run(NamedTuple):
    """One method's rollout; `name` is that of its folder."""

    method: str
    name: str
    settings: RolloutSettings


def smoke_faults(settings: RolloutSettings, summary: Mapping[str, Any], answers: Answers) -> list[str]:
    """What a smoke run should show and does not: no failure, and bad plans where they were asked for, only there."""
    faults = []
    fake = settings.llm.provider
    if summary["masked"]["episodes"]:
        faults.append(f"{summary['masked']['episodes']} episodes failed and are masked")
    wanted = bool(fake.get("invalid_rate") or fake.get("force_step0_invalid"))
    spoilt = answers.repaired + answers.invalid
    if spoilt and not wanted:
        faults.append(f"{spoilt} of {answers.total} plans were repaired or invalid, and none should be")
    if wanted and not spoilt:
        faults.append(f"none of {answers.total} plans was invalid: the repair path was not covered; raise the rate")
    if fake.get("force_step0_invalid") and answers.invalid_first < summary["episodes"]:
        faults.append(f"the first plan was invalid in {answers.invalid_first} of {summary['episodes']} episodes only")
    return faults


SMOKE = Script("smoke", "smoke", "results/smoke_fake", fake_overrides, smoke_faults)
DEV_SLICE = Script("dev-slice", "dev_slice", "results/dev_real", model_overrides, lambda *_: [])


def plan(script: Script, environ: Mapping[str, str], overrides: Sequence[str]) -> tuple[Path, list[Run]]:
    """The folder and the runs of a script; nothing is made or spent.

    Args:
        script: which.
        environ: its variables; see `docs/scripts.md`.
        overrides: of `RolloutSettings`; they win over variables, which win over `configs/<script>.yaml`.

    Raises:
        ConfigError: a variable or an override is wrong, naming it, or what it asks for is not built yet.
    """
    if any(override.lstrip("+~").partition("=")[0] == "out" for override in overrides):
        raise ConfigError(f"nextstep {script.name} makes a folder for each run: instead of out=, set OUT_ROOT")
    root = read_root(environ, f"{script.results}/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    methods = read_methods(environ)
    given = [*common_overrides(environ), *script.own(environ), *overrides]
    settings = compose_settings(script.config, RolloutSettings, [*given, "out=."])  # each run has its own, below
    _check_greedy(settings)
    names = {f"{method}_seed{settings.seed}": method for method in methods}
    return root, [Run(method, name, replace(settings, out=str(root / name))) for name, method in names.items()]


def play(script: Script, environ: Mapping[str, str], overrides: Sequence[str], console: Console) -> int:
    """Play the runs of a script, write each folder and `summary.json` over all of them.

    Returns:
        The exit status: that of `nextstep rollout`, or `FAULTY`.
    """
    root, runs = plan(script, environ, overrides)
    found: dict[str, Any] = {}
    faults, stopped = [], FINISHED
    for run in runs:
        summary = rollout(run.settings)
        lines = read_lines(Path(run.settings.out) / "episodes.jsonl") if summary["episodes"] else ()
        answers = count_answers(lines)
        show(summary, run.settings, console)
        console.print(answers.text, highlight=False, soft_wrap=True)
        found[run.name] = {"method": run.method, "split": run.settings.split, **summary, "answers": answers._asdict()}
        stopped = summary["stopped"]
        if stopped:
            break
        faults += [f"{run.name}: {fault}" for fault in script.faults(run.settings, summary, answers)]
    usd = sum(summary["spent"]["usd"] for summary in found.values())
    whole = {"script": script.name, "runs": found, "usd": usd, "stopped": stopped, "faults": faults}
    path = root / "summary.json"
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"Summary: {path}", highlight=False, soft_wrap=True, markup=False)
    if stopped:
        again = f"To go on: the same variables and OUT_ROOT={root} nextstep {script.name} resume=true"
        console.print(again, highlight=False, soft_wrap=True, markup=False)
    for fault in faults:
        print(f"nextstep {script.name}: {fault}", file=sys.stderr)
    return STATUS[stopped] or (FAULTY if faults else 0)


def command(script: Script, overrides: Sequence[str]) -> int:
    """Run a script with the process's environment variables; returns the exit status."""
    if any(word in ("-h", "--help") for word in overrides):
        print(OmegaConf.to_yaml(OmegaConf.structured(compose_settings(script.config, RolloutSettings, []))), end="")
        return 0
    return play(script, os.environ, overrides, Console())


def _check_greedy(settings: RolloutSettings) -> None:
    if ":" not in settings.policy:
        raise ConfigError(f"METHODS=greedy plays a language model, which policy={settings.policy!r} is not")
    if settings.llm.temperature:
        raise ConfigError(f"METHODS=greedy means temperature 0; llm.temperature={settings.llm.temperature} samples")

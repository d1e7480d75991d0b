"""`nextstep train policy=mlp`: settings from overrides, the run, and a closing evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from nextstep_agents.config import compose_train_mlp
from nextstep_agents.learning.result import TrainResult
from nextstep_agents.learning.run_settings import RunSettings
from nextstep_agents.runs import FOLDERS
from nextstep_agents.training import train_mlp


def command(overrides: Sequence[str]) -> int:
    """Run it; `ConfigError` for an override that is wrong."""
    if any(word in ("-h", "--help") for word in overrides):
        print(OmegaConf.to_yaml(OmegaConf.structured(RunSettings)), end="")
        return 0
    settings = compose_train_mlp(overrides)
    if not settings.log_dir:
        settings = replace(settings, log_dir=time.strftime(FOLDERS))
    console = Console()
    result = train_mlp(settings.env, settings)
    for line in [f"Trained: {result.folder} (policy, checkpoints, metrics.csv, tensorboard)", *closing(result)]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    result.close()
    return 0


def closing(result: TrainResult) -> list[str]:
    """What the policy earns and costs, with intervals, line by line."""
    how = result.settings.evaluation
    if not how.final:
        return []
    found: dict[str, Any] = result.evaluate(how.final, env_kwargs=how.env_kwargs)
    lines = [f"{found['episodes']} episodes: return {_with_interval(found['return'], found['return_interval'])}"]
    limits = result.settings.cost_limits or {}
    for name, cost, interval in zip(found["cost_names"], found["costs"], found["costs_interval"], strict=True):
        line = f"{name} {_with_interval(cost, interval)}"
        if name in limits:
            line += f", budget {limits[name]:.4g}, multiplier {result.multipliers[name]:.3g}"
        lines.append(line)
    if found["masked_rate"]:
        lines.append(f"failed: {found['masked_rate']:.1%} of the episodes")
    return lines


def _with_interval(mean: float, interval: Any) -> str:
    return f"{mean:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"

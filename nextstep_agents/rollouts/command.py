"""`nextstep rollout`: settings from overrides, the run, what came out, and an exit status that says how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from nextstep_agents.config import compose_rollout
from nextstep_agents.evaluation.statistics import Interval
from nextstep_agents.rollouts.brake import CEILING, FINISHED, INTERRUPTED
from nextstep_agents.rollouts.run import rollout
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.traffic import text

STATUS = {FINISHED: 0, CEILING: 3, INTERRUPTED: 130}
"""Exit statuses: all episodes were played; the ceiling stopped it; Ctrl-C did. 2 is a wrong setting."""


def command(overrides: Sequence[str]) -> int:
    """Run it; `ConfigError` for an override that is wrong."""
    if any(word in ("-h", "--help") for word in overrides):
        print(OmegaConf.to_yaml(OmegaConf.structured(RolloutSettings)), end="")
        return 0
    settings = compose_rollout(overrides)
    summary = rollout(settings)
    show(summary, settings, Console())
    return STATUS[summary["stopped"]]


def show(summary: dict[str, Any], settings: RolloutSettings, console: Console) -> None:
    """Print a summary in a few lines."""
    masked, spent = summary["masked"], summary["spent"]
    lines = [f"{summary['episodes']} of {summary['planned']} episodes in {summary['wall_s']:.1f} s: {summary['out']}"]
    for name in ("outcome", "success", "reward"):
        if summary[name] is not None:
            lines.append(f"{name} {Interval(**summary[name])} (mean and 95% interval over {summary['tasks']} tasks)")
    for name, cost in summary["costs"].items():
        if cost["mean"] is not None:
            lines.append(f"cost {name}: {cost['mean']:.4g} an episode, {cost['total']:.6g} in all")
    lines.append(f"spent ${spent['usd']:.4f}")
    for who, providers in summary["traffic"].items():
        lines += [text(who, name, counts) for name, counts in providers.items()]
    if masked["episodes"]:
        worst = "; ".join(f"{message} ({n})" for message, n in masked["errors"].items())
        lines.append(f"masked: {masked['episodes']} episodes ({masked['share']:.1%}): {worst}")
    if summary["stopped"] == CEILING:
        lines.append(f"Stopped: usd_ceiling={settings.usd_ceiling:g} is reached. Raise it and resume=true to go on.")
    elif summary["stopped"] == INTERRUPTED:
        lines.append(f"Stopped by Ctrl-C. To go on: the same overrides, out={summary['out']} resume=true")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

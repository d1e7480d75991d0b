"""The closing table of a run: before, after and baselines on the same held-out tasks, with paired intervals."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nextstep_agents.checkpoint import write_text
from nextstep_agents.evaluation.baselines import MaskablePPOPolicy, best_fixed_plan, random_policy
from nextstep_agents.evaluation.play import Scores, play
from nextstep_agents.evaluation.statistics import Interval, bootstrap, paired
from nextstep_agents.llm_training import LLMTrainResult, evaluate, make_envs, task_ids
from nextstep_agents.policies.scripted import FixedPlanPolicy
from nextstep_agents.runs import EVALUATION_SEED
from nextstep_envs.workers.pool import DEFAULT_POOL


@dataclass(frozen=True)
class Comparison:
    """Scores of every policy on the same tasks, by row of the table.

    Attributes:
        scores: row to scores. best_plan: name of the best fixed plan.
        missing: rows that could not be made, and why.
    """

    scores: dict[str, Scores]
    best_plan: str
    missing: dict[str, str]


def compare(result: LLMTrainResult) -> Comparison:
    """Play the run's policy, its warm start and the baselines on held-out tasks."""
    settings, how = result.settings, result.settings.evaluation
    # With every worker present, as in the test split, so that no plan is ruled out by chance.
    full = replace(settings, env_kwargs={"pool_size": len(DEFAULT_POOL), **settings.env_kwargs})
    (chooser,) = make_envs(full, "train", 1)
    plan = best_fixed_plan(chooser, task_ids(chooser, "train", how.plan_tasks))
    (text,) = make_envs(settings, "test", 1)
    ids = task_ids(text, "test", how.tasks)
    scores = {
        "random": play(random_policy(settings.seed), text, ids, how.seeds, EVALUATION_SEED),
        "best fixed plan": play(FixedPlanPolicy(plan), text, ids, how.seeds, EVALUATION_SEED),
        "before (warm start)": evaluate(result.warm, settings, "test", how.tasks, how.seeds),
        "after (GRPO)": evaluate(result.policy, settings, "test", how.tasks, how.seeds),
    }
    missing = {}
    if how.maskable_ppo and importlib.util.find_spec("sb3_contrib"):
        episodes = settings.total_steps * settings.episodes
        (train_env,) = make_envs(settings, "train", 1, "vector")
        (vector,) = make_envs(settings, "test", 1, "vector")
        ppo = MaskablePPOPolicy(train_env, episodes, settings.seed)
        scores["MaskablePPO (vector)"] = play(ppo, vector, ids, how.seeds, EVALUATION_SEED)
    elif how.maskable_ppo:
        missing["MaskablePPO (vector)"] = "not installed: pip install 'nextstep-envs[compat]'"
    return Comparison(scores, plan, missing)


def save_scores(comparison: Comparison, folder: Path) -> None:
    """Keep every score, task by task, so that runs can be pooled."""
    scores = {name: {key: value.tolist() for key, value in vars(s).items()} for name, s in comparison.scores.items()}
    write_text(folder / "scores.json", json.dumps({"best_plan": comparison.best_plan, "scores": scores}) + "\n")


def pool(folders: Sequence[Path]) -> Comparison:
    """The comparisons of several runs as one: their attempts at a task stand side by side."""
    stored = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    names = [name for name in stored[0]["scores"] if all(name in one["scores"] for one in stored)]
    scores = {
        name: Scores(
            *(np.hstack([one["scores"][name][key] for one in stored]) for key in ("outcome", "cost", "reward"))
        )
        for name in names
    }
    return Comparison(scores, ", ".join(sorted({one["best_plan"] for one in stored})), {})


def summary(comparison: Comparison, resamples: int) -> dict[str, Any]:
    """The table as plain data: means with 95% intervals, and paired differences of reward."""
    scores = comparison.scores
    after = scores["after (GRPO)"]
    rows = {
        name: {field: bootstrap(getattr(s, field), resamples)._asdict() for field in ("outcome", "cost", "reward")}
        for name, s in scores.items()
    }
    gains = {name: paired(after.reward, s.reward, resamples)._asdict() for name, s in scores.items() if s is not after}
    return {
        "tasks": after.reward.shape[0],
        "seeds": after.reward.shape[1],
        "best_fixed_plan": comparison.best_plan,
        "rows": rows,
        "after_minus": gains,
        "missing": comparison.missing,
    }


def show(data: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(
        title=f"{data['tasks']} held-out tasks x {data['seeds']} seeds, mean [95% interval]",
        caption=f"Best fixed plan, chosen on training tasks: {data['best_fixed_plan']}",
    )
    for column in ("policy", "outcome", "cost", "reward", "reward gained over this"):
        table.add_column(column)
    for name, row in data["rows"].items():
        gain = data["after_minus"].get(name)
        table.add_row(name, *(str(Interval(**row[f])) for f in ("outcome", "cost", "reward")), _signed(gain))
    for name, why in data["missing"].items():
        table.add_row(name, why)
    console.print(table)


def markdown(data: dict[str, Any]) -> str:
    """The table for a README."""
    lines = ["| policy | outcome | cost | reward | reward gained over this, paired |", "|---|---|---|---|---|"]
    for name, row in data["rows"].items():
        cells = " | ".join(str(Interval(**row[f])) for f in ("outcome", "cost", "reward"))
        lines.append(f"| {name} | {cells} | {_signed(data['after_minus'].get(name))} |")
    return "\n".join(lines) + "\n"


def write(data: dict[str, Any], folder: Path) -> None:
    """Keep the table in the run folder, as JSON and Markdown."""
    write_text(folder / "table.json", json.dumps(data, indent=1) + "\n")
    write_text(folder / "table.md", markdown(data))


def _signed(gain: dict[str, float] | None) -> str:
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain else ""

"""Constrained learners side by side on problems with a known optimum: ours, omnisafe's, and PPO with a fixed price.

    scripts/omnisafe_env.sh && .venv/bin/python benchmarks/omnisafe

Seed by seed and problem by problem, every learner trains in a process of its own, with one thread, on the clock of its
own CPU time. Every policy on the way is evaluated exactly, as the stochastic policy it is. Runs that are in the file
already are used as they are. The last line is one JSON object: by problem and learner, medians over seeds. `solved_*`
are null where most seeds never reach 95 % of the best return at 1.03 times the budget or less.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from problems import PROBLEMS
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OURS, THEIRS = Path(sys.executable), ROOT / ".venv-omnisafe/bin/python"


def learners() -> dict[str, list[str]]:
    """What is compared, each as a command; neighbours are what a reader wants to compare."""
    found = {}
    for ours, theirs in (("ppo_lagrangian", "PPOLag"), ("pid_lagrangian", "CPPOPID"), ("p3o", "P3O")):
        found[f"nextstep {ours}"] = [str(OURS), "train_nextstep.py", "--algorithm", ours]
        for setting in ("tuned", "default"):
            command = [str(THEIRS), "train_omnisafe.py", "--algorithm", theirs, "--setting", setting]
            found[f"omnisafe {theirs}, {setting}"] = command
    for price in ("multiplier", "half"):
        found[f"sb3 PPO, price {price}"] = [str(OURS), "train_sb3.py", "--price", price]
    return found


def run(command: list[str], problem: str, steps: int, seed: int) -> dict[str, Any]:
    """One training run."""
    python, script, *rest = command
    called = [python, str(HERE / script), *rest, "--problem", problem, "--steps", str(steps), "--seed", str(seed)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(called, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(called)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pool(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over seeds, never-solved counting as never; and the worst cost."""
    pooled: dict[str, Any] = {"seeds": len(runs), "worst_cost": round(max(r["tail_cost"] for r in runs), 4)}
    pooled["solved"] = sum(r["solved_steps"] is not None for r in runs)
    for name in runs[0]:
        values = [math.inf if r[name] is None else r[name] for r in runs]
        median = statistics.median_low(values) if name.startswith("solved") else statistics.median(values)
        pooled[name] = None if math.isinf(median) else round(median, 4)
    return pooled


def show(pooled: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print one table a problem."""
    for problem, rows in pooled.items():
        table = Table(
            "learner", "steps/CPU s", "return", "cost", "tail return", "tail cost", "worst", "solved", "steps", "CPU s"
        )
        for name, row in rows.items():
            shares = (f"{row[key]:.1%}" for key in ("return", "cost", "tail_return", "tail_cost", "worst_cost"))
            never = "never" if row["solved_steps"] is None else f"{row['solved_steps']:.0f}"
            seconds = "never" if row["solved_seconds"] is None else f"{row['solved_seconds']:.2f}"
            speed, solved = f"{row['steps_per_cpu_second']:.0f}", f"{row['solved']}/{row['seeds']}"
            table.add_row(name, speed, *shares, solved, never, seconds)
        Console(width=140).print(problem, table)


def main() -> None:
    """Run what is missing, pool and print."""
    commands = learners()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--learners", nargs="*", default=list(commands), choices=commands, metavar="NAME")
    parser.add_argument("--file", type=Path, default=ROOT / "runs/omnisafe.jsonl", help="one line for each run")
    args = parser.parse_args()
    args.file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in args.file.read_text().splitlines()] if args.file.exists() else []
    runs = {(r["problem"], r["learner"], r["steps"], r["seed"]): r["run"] for r in lines}
    for seed in range(args.seeds):
        for problem in args.problems:
            for name in args.learners:
                key = problem, name, args.steps, seed
                if key not in runs:
                    runs[key] = run(commands[name], problem, args.steps, seed)
                    line = dict(zip(("problem", "learner", "steps", "seed"), key, strict=True)) | {"run": runs[key]}
                    with args.file.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                runs[key].pop("curve", None)
    pooled = {
        problem: {
            name: pool([runs[problem, name, args.steps, seed] for seed in range(args.seeds)]) for name in args.learners
        }
        for problem in args.problems
    }
    show(pooled)
    print(json.dumps({"steps": args.steps, **pooled}))


if __name__ == "__main__":
    main()

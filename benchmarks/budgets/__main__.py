"""Learning to orchestrate under a budget, against the best that fixed plans do within the same budget.

    python benchmarks/budgets --out runs/budgets [--problems Workflow] [--algorithms p3o] [--seeds 2]

Every algorithm has its defaults. Policies are trained on the tasks of the train split and judged on all tasks of the
test split, drawing lots as they were trained to. Fixed plans are all of `PLANS` and doing nothing (of the team, every
pick of a first round). The best one, and the best lottery over them, are those of the highest mean reward on training
tasks whose mean costs there are within the budget. All workers are present in training, as in the test split: a pool
that lacks one has other costs. Every policy gets the same tasks and chance.
Intervals are over tasks (95%); all attempts of all seeds at a task count as one mean.

What the folder holds already is used as it is. Writes budgets.json and budgets.png; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from contest import ATTEMPTS, PROBLEMS, Array, World, call, fixed, learned
from scipy.optimize import linprog

from nextstep_agents.evaluation.statistics import bootstrap, paired

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def best_plan(reward: Array, cost: Array, budget: Array) -> int:
    """The plan of the highest mean reward among those whose mean costs are within the budget."""
    fits = (cost.mean(0) <= budget).all(1)
    return int(np.where(fits, reward.mean(0), -np.inf).argmax())


def best_lottery(reward: Array, cost: Array, budget: Array) -> Array:
    """Probabilities of the plans that maximise the mean reward within the budget: with one cost, at most two plans."""
    mean = cost.mean(0)
    found = linprog(-reward.mean(0), A_ub=mean.T, b_ub=budget, A_eq=np.ones((1, len(mean))), b_eq=[1.0], bounds=(0, 1))
    if found.x is None:
        raise RuntimeError(f"no lottery over plans is within {budget}: {found.message}")
    return np.asarray(found.x)


def described(reward: Array, cost: Array, limit: Array) -> dict[str, Any]:
    """Mean reward [tasks, attempts] and costs [tasks, attempts, K] over their budgets, with intervals."""
    spent = [bootstrap(cost[..., k] / limit[k]) for k in range(len(limit))]
    return {"reward": bootstrap(reward), "spent": spent}


def compare(name: str, budget: tuple[float, ...], how: argparse.Namespace) -> dict[str, Any]:
    """One budget of one problem on the test tasks: the fixed plans, and every algorithm."""
    limit, names = np.array(budget), list(World(PROBLEMS[name], "test").plans)
    chosen, judged = fixed(name, "train", how.tasks, how.out), fixed(name, "test", how.test_tasks, how.out)
    best = best_plan(chosen["reward"], chosen["cost"], limit)
    chances = best_lottery(chosen["reward"], chosen["cost"], limit)
    plan = judged["reward"][:, [best]], judged["cost"][:, [best]]
    lottery = (judged["reward"] @ chances)[:, None], np.einsum("tpk,p->tk", judged["cost"], chances)[:, None]
    tickets = {names[i]: round(float(chance), 3) for i, chance in enumerate(chances) if chance > 1e-6}
    report: dict[str, Any] = {
        "problem": name,
        "cost": PROBLEMS[name].cost,
        "budget": budget,
        "plan": {"name": names[best], **described(*plan, limit)},
        "lottery": {"plans": tickets, **described(*lottery, limit)},
    }
    for algorithm in how.algorithms or PROBLEMS[name].algorithms:
        runs = [learned(name, algorithm, budget, seed, how) for seed in range(how.seeds)]
        reward, cost = (np.concatenate([run[key] for run in runs], 1) for key in ("reward", "cost"))
        report[algorithm] = {
            **described(reward, cost, limit),
            "over_plan": paired(reward.mean(1), plan[0][:, 0]),
            "over_lottery": paired(reward.mean(1), lottery[0][:, 0]),
            "spent_in_training": np.mean([run["trained"] for run in runs], 0).tolist(),
            "cpu_seconds": float(np.mean([run["seconds"] for run in runs])),
        }
    return report


def at(cost: Array, name: str) -> Array:
    """Where to draw costs [..., K]: of a team, at the largest share that an agent spends of its budget."""
    problem = PROBLEMS[name]
    where: Array = (cost / problem.budgets[0]).max(-1) if problem.team else cost[..., 0]
    return where


def plot(reports: Sequence[dict[str, Any]], how: argparse.Namespace) -> None:
    """Reward against cost on the test tasks: every fixed plan, lotteries over them, and what was learned."""
    problems = list(dict.fromkeys(report["problem"] for report in reports))
    figure, panels = plt.subplots(1, len(problems), figsize=(5.2 * len(problems), 4.4), squeeze=False)
    for name, axes in zip(problems, panels[0], strict=True):
        problem, mine = PROBLEMS[name], [report for report in reports if report["problem"] == name]
        chosen, judged = fixed(name, "train", how.tasks, how.out), fixed(name, "test", how.test_tasks, how.out)
        cost, reward = judged["cost"].mean(0), judged["reward"].mean(0)
        axes.scatter(at(cost, name), reward, s=12, color="0.75", label="fixed plans")
        levels = [level * np.array(problem.budgets[0]) for level in np.linspace(0.05, 3, 60)]
        lots = np.array([best_lottery(chosen["reward"], chosen["cost"], level) for level in levels])
        axes.plot(at(lots @ cost, name), lots @ reward, color="0.5", label="best lottery over plans")
        for report in mine:
            axes.axvline(at(np.array(report["budget"]), name), color="0.8", linestyle=":", zorder=0)
        for i, algorithm in enumerate(how.algorithms or problem.algorithms):
            y = np.array([report[algorithm]["reward"] for report in mine])  # [budgets, 3]
            spent = np.array([report[algorithm]["spent"] for report in mine])  # [budgets, K, 3]
            limits = np.array([report["budget"] for report in mine])[:, None]
            x = at(np.moveaxis(spent, 1, 2) * limits, name)
            bars = [np.abs(values[:, 1:] - values[:, :1]).T for values in (x, y)]
            axes.errorbar(x[:, 0], y[:, 0], bars[1], bars[0], fmt="os^D"[i % 4], capsize=2, label=algorithm)
        axes.set(title=problem.id, ylabel="reward", ylim=(0, 1), xlim=(0, None))
        axes.set(xlabel="largest share of a budget" if problem.team else f"cost ({problem.cost})")
        axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(how.out / "budgets.png", dpi=150)


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the printed table."""
    gains = f"  over plan {row['over_plan']}, lottery {row['over_lottery']}" if "over_plan" in row else ""
    return f"  {name:<15} {row['reward']}  cost/budget {'; '.join(map(str, row['spent']))}{gains}"


def main() -> None:
    """Measure what is missing, print a table, draw, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/budgets"))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--algorithms", nargs="+", help="instead of those of the problem")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="decisions of a training run, instead of the problem's")
    parser.add_argument("--tasks", type=int, default=400, help="training tasks on which plans are chosen")
    parser.add_argument("--test-tasks", type=int, default=0, help="tasks of the test split to judge by; 0: all")
    parser.add_argument("--jobs", type=int, default=2)
    how = parser.parse_args()
    how.out.mkdir(parents=True, exist_ok=True)
    jobs: list[Callable[[], Any]] = []
    for name in how.problems:
        jobs += [
            partial(fixed, name, "train", how.tasks, how.out),
            partial(fixed, name, "test", how.test_tasks, how.out),
        ]
        for budget, algorithm in itertools.product(PROBLEMS[name].budgets, how.algorithms or PROBLEMS[name].algorithms):
            jobs += [partial(learned, name, algorithm, budget, seed, how) for seed in range(how.seeds)]
    with multiprocessing.get_context("spawn").Pool(how.jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(call, jobs), 1):
            print(f"{done} of {len(jobs)} measured", flush=True)
    reports = [compare(name, budget, how) for name in how.problems for budget in PROBLEMS[name].budgets]
    for report in reports:
        print(f"{report['problem']}, budget {report['budget']} {report['cost']}; plan {report['plan']['name']}")
        for name, row in report.items():
            if isinstance(row, dict):
                print(line(name, row))
    plot(reports, how)
    data = {
        "reports": reports,
        "seeds": how.seeds,
        "attempts": ATTEMPTS,
        "plan_tasks": how.tasks,
        "test_tasks": how.test_tasks,
    }
    (how.out / "budgets.json").write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data))


if __name__ == "__main__":
    main()

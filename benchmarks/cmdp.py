"""Every algorithm on every tabular CMDP, against the exact optimum of its linear program.

python benchmarks/cmdp.py --seeds 5 [--algorithms p3o macpo] [--problems RetryStop] [--free] [--jobs 2]

Each run has the defaults of its algorithm, an MLP policy, and twice the decisions that the acceptance table names for a
tabular one. The stochastic policy is evaluated exactly after the rounds of the last fifth ("tail") and at the end
("last"). Returns are in % of the best under the budgets (of independent policies for a team, of no budget with
--free), costs in budgets. "gap" is how much of the way from the best policy that ignores its observation to the optimum
is gone. Prints one JSON line for each run and, last, one with all rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize

from nextstep_agents import train
from nextstep_envs.tabular import DagRetries, JointPlanWork, RetryStop, TabularCMDP, TeamPlanWork, TierRouting

PROBLEMS = {
    "TierRouting": (TierRouting, 80_000),
    "RetryStop": (RetryStop, 200_000),
    "TeamPlanWork": (JointPlanWork, 200_000),
    "DagRetries": (DagRetries, 600_000),
}
# Least return in %, then the most that the cost may be in budgets: mean over seeds, and worst seed.
ACCEPTED = {
    "ppo_lagrangian": (95, 1.03, 1.10),
    "pid_lagrangian": (98, 1.02, 1.03),
    "p3o": (95, 1.02, 1.03),
    "macpo": (97, 1.02, 1.05),
    "grpo": (93, 1.03, 1.08),
    "reinforce": (93, 1.03, 1.08),
    "reinforce_pp": (93, 1.03, 1.08),
}
FREE = "ppo_lagrangian", "grpo", "reinforce", "reinforce_pp"  # with no budget: PPO and what is published without one
EVALUATIONS = 50  # of a tail


def one_run(problem: str, algorithm: str, seed: int, free: bool) -> dict[str, Any]:
    """One training run, evaluated exactly."""
    make, steps = PROBLEMS[problem]
    cmdp = make()
    team = TeamPlanWork() if problem == "TeamPlanWork" and algorithm == "macpo" else None
    env = team or cmdp
    tail: list[dict[str, Any]] = []
    seen = 0.0
    spent = 0.0

    def exact(played: Any, policy: Any) -> Mapping[str, float]:
        nonlocal seen, spent
        began = time.process_time()
        seen += int(played.batch.decisions.sum())
        if seen > 0.8 * steps + len(tail) * 0.2 * steps / EVALUATIONS:
            tail.append(env.evaluate(policy))
        spent += time.process_time() - began
        return {}

    limits = [] if free else list(cmdp.cost_limits.values())
    began = time.process_time()
    result = train(env, algorithm, total_steps=steps, cost_limits=limits, seed=seed, metrics=exact, quiet=True)
    cpu = time.process_time() - began - spent
    optimum = team.product_optimum() if team else cmdp.optimum([np.inf] * len(cmdp.d) if free else None)
    last = env.evaluate(result.policy)
    return {
        "problem": problem,
        "algorithm": algorithm,
        "seed": seed,
        "tail_return": 100 * float(np.mean([one["return"] for one in tail])) / optimum["return"],
        "tail_cost": (np.mean([one["costs"] for one in tail], 0) / cmdp.d).tolist(),
        "last_return": 100 * last["return"] / optimum["return"],
        "last_cost": (last["costs"] / cmdp.d).tolist(),
        "multipliers": list(result.multipliers.values()),
        "cpu_seconds": cpu,
        "steps_per_cpu_second": result.history[-1]["steps"] / cpu,
    }


def blind_return(cmdp: TabularCMDP) -> float:
    """The best return under the budgets of a policy that ignores its observation but for the legal actions."""

    def table(logits: Any) -> Any:
        legal = np.where(cmdp.mask, logits, -np.inf)
        weights = np.exp(legal - legal.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)

    rng = np.random.default_rng(0)
    spare = {"type": "ineq", "fun": lambda x: cmdp.d - cmdp.evaluate(table(x))["costs"]}
    best = -np.inf
    for _ in range(20):
        first = rng.normal(0, 2, cmdp.n_actions)
        found = minimize(lambda x: -cmdp.evaluate(table(x))["return"], first, method="SLSQP", constraints=[spare])
        if (spare["fun"](found.x) >= -1e-6).all():
            best = max(best, -float(found.fun))
    return best


def row(runs: list[dict[str, Any]], blind: float, optimum: Mapping[str, Any], free: bool) -> dict[str, Any]:
    """All seeds of one algorithm on one problem."""
    returns = [run["tail_return"] for run in runs]
    costs = np.array([run["tail_cost"] for run in runs])
    least, mean, worst = (98, np.inf, np.inf) if free else ACCEPTED[runs[0]["algorithm"]]
    level, peak = float(costs.mean(0).max()), float(costs.max())
    return {
        "problem": runs[0]["problem"],
        "algorithm": runs[0]["algorithm"],
        "return": float(np.mean(returns)),
        "return_worst": min(returns),
        "cost": level,
        "cost_worst": peak,
        "last_return": float(np.mean([run["last_return"] for run in runs])),
        "last_cost_worst": float(np.max([run["last_cost"] for run in runs])),
        "gap": None if free else (float(np.mean(returns)) - blind) / (100 - blind),
        "multipliers": np.mean([run["multipliers"] for run in runs], 0).tolist(),
        "optimal_multipliers": optimum["multipliers"].tolist(),
        "steps_per_cpu_second": float(np.mean([run["steps_per_cpu_second"] for run in runs])),
        "accepted": bool(np.mean(returns) >= least and level <= mean and peak <= worst),
    }


def main() -> None:
    """Run what is asked for, print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algorithms", nargs="+", choices=ACCEPTED, default=list(ACCEPTED))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--free", action="store_true", help="no budgets, against the unconstrained optimum")
    parser.add_argument("--jobs", type=int, default=2)
    how = parser.parse_args()
    algorithms = [name for name in how.algorithms if name in FREE] if how.free else how.algorithms
    jobs = [(p, a, seed, how.free) for p in how.problems for a in algorithms for seed in range(how.seeds)]
    runs: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(how.jobs) as pool:
        for run in pool.imap_unordered(partial(_star, one_run), jobs):
            print(json.dumps(run), flush=True)
            runs.append(run)
    rows, blind = [], {}
    for problem in how.problems:
        cmdp = PROBLEMS[problem][0]()
        optimum = cmdp.optimum([np.inf] * len(cmdp.d) if how.free else None)
        blind[problem] = 100 * blind_return(cmdp) / optimum["return"]
        for algorithm in algorithms:
            chosen = [run for run in runs if (run["problem"], run["algorithm"]) == (problem, algorithm)]
            rows.append(row(chosen, blind[problem], optimum, how.free))
    print(f"\n{'problem':<13} {'algorithm':<15} return (worst)   cost (worst)    last: return cost   gap   ok")
    for problem, value in blind.items():
        print(f"{problem:<13} {'blind':<15} {value:6.1f}")
    for r in rows:
        gap = "     " if r["gap"] is None else f"{r['gap']:5.2f}"
        print(
            f"{r['problem']:<13} {r['algorithm']:<15} {r['return']:6.1f} ({r['return_worst']:5.1f}) "
            f"{r['cost']:6.3f} ({r['cost_worst']:.3f}) {r['last_return']:8.1f} {r['last_cost_worst']:7.3f}  {gap}   "
            f"{'yes' if r['accepted'] else 'NO'}"
        )
    print(json.dumps({"blind": blind, "rows": rows, "seeds": how.seeds, "free": how.free}))


def _star(function: Any, job: tuple[Any, ...]) -> Any:
    return function(*job)


if __name__ == "__main__":
    main()

"""How much orchestration matters in WebShop-Workflow, and how much of that can be told from the observation.

Fixed plans are chosen and the classifier is trained on tasks of the train split; everything is reported on the test
split, with 95% bootstrap intervals over tasks. The oracle picks the best plan of each task, given how this very attempt
would end, at a mean cost of at most the best fixed plan's; `oracle_by_other_attempt` picks by another attempt, so it
does not profit from luck. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

import nextstep_envs  # noqa: F401 - registers the ids
from nextstep_agents.policies.scripted import (
    PLANS,
    WARM_START_PLANS,
    FixedPlanPolicy,
    Plan,
    RandomPolicy,
)
from nextstep_envs.workers.pool import DEFAULT_POOL

Choice = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]
ENV = "NextStep/WebShop-Workflow-v0"
POOL = tuple(spec.worker_id for spec in DEFAULT_POOL)
NAMES = tuple(PLANS)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-tasks", type=int, default=1000)
    parser.add_argument("--test-tasks", type=int, default=500)
    parser.add_argument("--bootstrap", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    env = gym.make(ENV, interface="text", split="train", pool_size=len(POOL))
    train, test = task_ids(env, "train", args.train_tasks, rng), task_ids(env, "test", args.test_tasks, rng)
    outcome, cost = plan_table(env, train, sample=0)
    other_outcome, other_cost = plan_table(env, test, sample=0)
    test_outcome, test_cost = plan_table(env, test, sample=1)
    every = np.arange(len(test))
    fixed, worst = int(outcome.mean(0).argmax()), int(outcome.mean(0).argmin())
    limit = float(test_cost[:, fixed].mean())

    oracle, _ = pick(test_outcome, test_cost, lambda plan: test_cost[every, plan].mean() <= limit)
    blind_oracle, _ = pick(other_outcome, other_cost, lambda plan: test_cost[every, plan].mean() <= limit)
    # The limit is a little tighter in training, so that the classifier keeps it on tasks it has not seen.
    classifier = learn(observations(train), outcome, cost, 0.98 * float(cost[:, fixed].mean()), observations(test))
    domain_mix = [NAMES.index(name) for name in WARM_START_PLANS]

    columns = {
        "random": random_outcomes(env, test, "text", args.seed),
        "random_vector_actions": random_outcomes(env, test, "vector", args.seed),
        "worst_fixed_plan": test_outcome[:, worst],
        "best_fixed_plan": test_outcome[:, fixed],
        "warm_start_mixture": test_outcome[:, domain_mix].mean(1),
        "classifier": test_outcome[every, classifier],
        "oracle": test_outcome[every, oracle],
        "oracle_by_other_attempt": test_outcome[every, blind_oracle],
    }
    shuffled = shuffled_outcomes(env, test, [NAMES[i] for i in classifier], args.seed)
    shuffled_best = shuffled_outcomes(env, test, [NAMES[fixed]] * len(test), args.seed)
    columns |= {
        "gap": columns["oracle"] - columns["best_fixed_plan"],
        "shuffled_access_drop": columns["classifier"] - shuffled,
        "shuffled_access_drop_best_fixed_plan": columns["best_fixed_plan"] - shuffled_best,
    }
    table = np.stack(list(columns.values()), axis=1)
    draws = rng.integers(len(test), size=(args.bootstrap, len(test)))
    means = np.stack([table[draw].mean(0) for draw in draws])
    report: dict[str, Any] = {"benchmark": "orchestration", "train_tasks": len(train), "test_tasks": len(test)}
    for i, name in enumerate(columns):
        report[name] = interval(float(table[:, i].mean()), means[:, i])
    where = {name: i for i, name in enumerate(columns)}
    won = means[:, where["classifier"]] - means[:, where["best_fixed_plan"]]
    gap = float(columns["gap"].mean())
    recovered = float((columns["classifier"] - columns["best_fixed_plan"]).mean()) / gap
    report["recovered"] = interval(recovered, won / means[:, where["gap"]])
    report["mean_cost_mix"] = {
        "best_fixed_plan": round(limit, 4),
        "classifier": round(float(test_cost[every, classifier].mean()), 4),
        "oracle": round(float(test_cost[every, oracle].mean()), 4),
        "warm_start_mixture": round(float(test_cost[:, domain_mix].mean()), 4),
    }
    report |= {"best_plan": NAMES[fixed], "worst_plan": NAMES[worst], "plans": len(NAMES)}
    for name in columns:
        print(f"{name:38} {report[name]['mean']:.3f}  [{report[name]['low']:.3f}, {report[name]['high']:.3f}]")
    print(json.dumps(report))


def task_ids(env: gym.Env[Any, Any], split: str, n: int, rng: np.random.Generator) -> list[str]:
    """`n` tasks of a split, without repeats."""
    ids = list(env.unwrapped.setup.world.ids(split))  # type: ignore[attr-defined]
    return [str(ids[i]) for i in rng.permutation(len(ids))[:n]]


def run(env: gym.Env[Any, Any], task: str, policy: FixedPlanPolicy | RandomPolicy, sample: int) -> tuple[float, float]:
    """Outcome and cost of one episode with all four workers present."""
    observation, info = env.reset(seed=int(task), options={"task_id": task, "sample": sample, "pool": POOL})
    policy.reset()
    outcome, cost, over = 0.0, 0.0, False
    while not over:
        observation, reward, over, _, info = env.step(policy.act(observation, info))
        outcome, cost = outcome + float(reward), cost + info["cost"]
    return outcome, cost


def plan_table(env: gym.Env[Any, Any], tasks: Sequence[str], sample: int) -> tuple[Array, Array]:
    """Outcome and cost of every plan on every task: float [n_tasks, n_plans] each."""
    policies = [FixedPlanPolicy(name) for name in NAMES]
    table = np.array([[run(env, task, policy, sample) for policy in policies] for task in tasks])
    return table[..., 0], table[..., 1]


def random_outcomes(env: gym.Env[Any, Any], tasks: Sequence[str], interface: Any, seed: int) -> Array:
    """Outcome of the random policy, the mean of three attempts at each task."""
    if interface == "vector":
        env = gym.make(ENV, interface="vector", split="train", pool_size=len(POOL))
    policy = RandomPolicy(interface, seed)
    return np.array([np.mean([run(env, task, policy, k)[0] for k in range(3)]) for task in tasks])


def shuffled_outcomes(env: gym.Env[Any, Any], tasks: Sequence[str], names: Sequence[str], seed: int) -> Array:
    """Outcome of each task's plan when its access lists are dealt to other steps."""
    rng = random.Random(seed)
    return np.array(
        [run(env, t, FixedPlanPolicy(shuffle_access(PLANS[n], rng)), 1)[0] for t, n in zip(tasks, names, strict=True)]
    )


def shuffle_access(plan: Plan, rng: random.Random) -> Plan:
    """The plan with its access lists in another order (a plan of one step has none)."""
    contexts = [step.context for step in plan]
    mixed = list(contexts)
    while len(plan) > 1 and mixed == contexts:
        rng.shuffle(mixed)
    return tuple(step._replace(context=context) for step, context in zip(plan, mixed, strict=True))


def observations(tasks: Sequence[str]) -> Array:
    """The vector observation at reset, float [n_tasks, n_features]: all that the classifier sees."""
    env = gym.make(ENV, interface="vector", split="train", pool_size=len(POOL))
    rows = [env.reset(seed=int(task), options={"task_id": task, "pool": POOL})[0]["observation"] for task in tasks]
    return np.stack(rows).astype(np.float64)


def pick(value: Array, cost: Array, cheap: Callable[[Choice], bool]) -> tuple[Choice, float]:
    """For each row the column of highest value - price * cost, at the lowest price that makes the choice cheap enough.

    Returns:
        The choice and its price, found by bisection.
    """

    def at(price: float) -> Choice:
        best: Choice = np.argmax(value - price * cost, axis=1)
        return best

    low, high = 1e-6, 1.0  # a little above 0, so that of equals the cheaper one is taken
    if cheap(at(low)):
        return at(low), low
    while not cheap(at(high)) and high < 1e6:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if cheap(at(middle)) else (middle, high)
    return at(high), high


def learn(x: Array, outcome: Array, cost: Array, limit: float, x_test: Array) -> Choice:
    """A plan for each test task: ridge regression of every plan's outcome and cost, then the best within the limit.

    Strength of the ridge and price of cost are set on a fifth of the training tasks.
    """
    cut = len(x) * 4 // 5
    rows = np.arange(len(x) - cut)
    best, model = -1.0, (1.0, 0.0)
    for strength in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        value, price = (ridge(x[:cut], y[:cut], strength)(x[cut:]) for y in (outcome, cost))
        plan, weight = pick(value, price, lambda chosen: cost[cut:][rows, chosen].mean() <= limit)
        score = outcome[cut:][rows, plan].mean()
        if score > best:
            best, model = score, (strength, weight)
    strength, weight = model
    value, price = (ridge(x, y, strength)(x_test) for y in (outcome, cost))
    choice: Choice = np.argmax(value - weight * price, axis=1)
    return choice


def ridge(x: Array, y: Array, strength: float) -> Callable[[Array], Array]:
    """Linear least squares with a penalty on the weights, not on the intercept."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred = x - mean_x
    weights = np.linalg.solve(centred.T @ centred + strength * np.eye(x.shape[1]), centred.T @ (y - mean_y))
    return lambda z: (z - mean_x) @ weights + mean_y


def interval(mean: float, draws: Array) -> dict[str, float]:
    """Mean and 95% bootstrap interval over tasks."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"mean": round(mean, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()

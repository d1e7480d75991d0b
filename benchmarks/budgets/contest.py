"""Who takes part: fixed plans and trained policies, played on the same tasks with the same chance."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

import nextstep_envs  # noqa: F401 - registers the ids
import registry
from nextstep_agents import train
from nextstep_agents.evaluation.play import starts
from nextstep_agents.policies.scripted import PLANS, action_index
from nextstep_envs.multiagent.team_rules import TIERS

Array = npt.NDArray[np.float64]
Results = dict[str, Array]
Policy = Callable[[Any, int], Any]  # an action for an observation and the number of actions before it

WORKERS = 4
ATTEMPTS = 2  # of a trained policy at every test task


@dataclass(frozen=True)
class Problem:
    """An id, what is limited there, and by how much.

    Attributes:
        id: of the environment.
        cost: the name of the limited cost.
        budgets: of an episode, each for every limited cost: of a team, agent by agent.
        steps: decisions of a training run.
        algorithms: to compare.
    """

    id: str
    cost: str
    budgets: tuple[tuple[float, ...], ...]
    steps: int
    algorithms: tuple[str, ...]

    @property
    def team(self) -> bool:
        """Whether several agents act."""
        return len(self.budgets[0]) > 1


SINGLE = "ppo_lagrangian", "pid_lagrangian", "p3o"
TEAM = "macpo", "pid_lagrangian"
PROBLEMS = {
    "Workflow": Problem("NextStep/WebShop-Workflow-v0", "mix", ((0.1,), (0.14,), (0.2,)), 40_000, SINGLE),
    "DAG": Problem("NextStep/WebShop-DAG-v0", "mix", ((0.1,), (0.14,), (0.2,)), 150_000, SINGLE),
    "Team": Problem("NextStep/WebShop-Team-v0", "usd", ((0.2e-3, 0.5e-3, 0.5e-3),), 100_000, TEAM),
}


class World:
    """Episodes of one problem, whatever the form of its environment. All workers are present, as is usual in tests."""

    def __init__(self, problem: Problem, split: str) -> None:
        kwargs: dict[str, Any] = {"split": split, "cost": problem.cost, "pool_size": WORKERS}
        self.team = problem.team
        self.env: Any = registry.make_parallel(problem.id, **kwargs) if self.team else gym.make(problem.id, **kwargs)
        inside: Any = self.env.unwrapped
        self.tasks = [str(task) for task in inside.setup.world.ids(split)]
        self.plans = self._picks() if self.team else self._plans("DAG" in problem.id)

    def some(self, count: int) -> list[str]:
        """So many of the tasks, always the same ones; 0: all."""
        order = np.random.default_rng(0).permutation(len(self.tasks))[: count or None]
        return [self.tasks[i] for i in sorted(order)]

    def _plans(self, dag: bool) -> dict[str, Policy]:
        """Doing nothing, and every plan step by step; in a DAG, each node is run before the next is drafted."""
        finish = int(self.env.action_space.n) - 1
        run = finish - 1
        found = {"nothing": script([finish])}
        for name, plan in PLANS.items():
            steps = [action_index(step) for step in plan]
            found[name] = script([*(a for step in steps for a in ((step, run) if dag else (step,))), finish])
        return found

    def _picks(self) -> dict[str, Policy]:
        """What everybody picks in the first round; later all pass."""
        agents = self.env.possible_agents
        passed = dict.fromkeys(agents, 0)
        picks = itertools.product(range(len(TIERS)), repeat=len(agents))
        return {
            ", ".join(TIERS[i] for i in pick): script([dict(zip(agents, pick, strict=True)), passed]) for pick in picks
        }

    def play(self, policy: Policy, tasks: Sequence[str], attempts: int) -> tuple[Array, Array]:
        """Rewards [tasks, attempts] and costs [tasks, attempts, K] of a policy."""
        played = [self._episode(policy, start) for start in starts(tasks, attempts, seed=0)]
        rewards, costs = zip(*played, strict=True)
        shape = len(tasks), attempts
        return np.reshape(rewards, shape), np.reshape(costs, (*shape, -1))

    def _episode(self, policy: Policy, start: Any) -> tuple[float, Array]:
        options = {"task_id": start.task_id, "sample": start.sample}
        observation, _ = self.env.reset(seed=start.seed, options=options)
        reward, costs, taken, over = 0.0, [], 0, False
        while not over:
            observation, gained, terminated, truncated, info = self.env.step(policy(observation, taken))
            if self.team:
                reward += float(np.mean(list(gained.values())))
                costs.append([info[agent]["cost"] for agent in self.env.possible_agents])
                over = not self.env.agents
            else:
                reward += float(gained)
                costs.append([info["cost"]])
                over = terminated or truncated
            taken += 1
        return reward, np.sum(costs, axis=0)


def script(actions: Sequence[Any]) -> Policy:
    """These actions, whatever is observed; the last one again and again."""
    return lambda observation, taken: actions[min(taken, len(actions) - 1)]


def fixed(name: str, split: str, tasks: int, out: Path) -> Results:
    """What every fixed plan earns and costs on so many tasks of a split (0: all).

    Returns:
        "reward" [tasks, plans], "cost" [tasks, plans, K].
    """

    def measure() -> Results:
        world = World(PROBLEMS[name], split)
        played = [world.play(policy, world.some(tasks), 1) for policy in world.plans.values()]
        reward, cost = (np.concatenate(parts, 1) for parts in zip(*played, strict=True))
        return {"reward": reward, "cost": cost}

    return kept(out / f"{name}-{split}-{tasks or 'all'}.npz", measure)


def learned(name: str, algorithm: str, budget: tuple[float, ...], seed: int, how: argparse.Namespace) -> Results:
    """What a trained policy earns and costs on the test tasks, drawing lots as it was trained to.

    Returns:
        "reward" [tasks, attempts], "cost" [tasks, attempts, K], "trained" [K]: costs over budgets in the last fifth of
        the training, "seconds": CPU time of the training.
    """
    problem, steps = PROBLEMS[name], how.steps or PROBLEMS[name].steps

    def measure() -> Results:
        torch.set_num_threads(1)
        kwargs, began = {"cost": problem.cost, "pool_size": WORKERS}, time.process_time()
        result = train(problem.id, algorithm, "mlp", steps, list(budget), seed, env_kwargs=kwargs, quiet=True)
        seconds = time.process_time() - began
        world, policy = World(problem, "test"), result.policy
        reward, cost = world.play(
            lambda observation, taken: policy.act(observation), world.some(how.test_tasks), ATTEMPTS
        )
        last = result.history[-max(1, len(result.history) // 5) :]
        spent = [np.mean([row[key] for row in last]) for key in last[0] if key.startswith("cost/")]
        result.close()
        return {"reward": reward, "cost": cost, "trained": np.array(spent) / budget, "seconds": np.array(seconds)}

    label = "-".join(f"{limit:g}" for limit in budget)
    return kept(how.out / f"{name}-{algorithm}-{label}-{steps}-{seed}-{how.test_tasks or 'all'}.npz", measure)


def kept(file: Path, measure: Callable[[], Results]) -> Results:
    """What the file holds, measured first where there is none."""
    if not file.exists():
        results: dict[str, Any] = measure()
        np.savez(file, **results)
    with np.load(file) as data:
        return dict(data)


def call(job: Callable[[], Results]) -> None:
    """Measure in another process; the file is the result. Here, because processes cannot import a folder's main."""
    job()

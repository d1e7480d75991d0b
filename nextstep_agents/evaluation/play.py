"""Plays policies on chosen tasks and keeps what came out, task by task, so that policies can be compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from nextstep_agents.engines.types import Engine
from nextstep_agents.evaluation.statistics import Values
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_agents.rollout import Limits, Start, rollout
from nextstep_envs.seeding import derive


class Acts(Protocol):
    """A policy that acts on one observation at a time."""

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def act(self, observation: Any, info: Mapping[str, Any] | None = None) -> Any:
        """Choose an action."""
        ...


@dataclass(frozen=True)
class Scores:
    """What a policy reached, each [tasks, seeds]; NaN where the environment failed.

    Attributes:
        outcome: the world's score. cost: the episode's first cost in raw units. reward: the return.
    """

    outcome: Values
    cost: Values
    reward: Values


def play(policy: Acts, env: gym.Env[Any, Any], task_ids: Sequence[str], seeds: int, seed: int = 0) -> Scores:
    """Play a policy one episode at a time. Equal `seed`: equal tasks, pools and noise for every policy."""
    scores = np.full((3, len(task_ids), seeds), np.nan)
    for row, start in enumerate(starts(task_ids, seeds, seed)):
        options = {"task_id": start.task_id, "sample": start.sample}
        observation, info = env.reset(seed=start.seed, options=options)
        policy.reset()
        reward = cost = 0.0
        over = False
        while not over:
            observation, step_reward, terminated, truncated, info = env.step(policy.act(observation, info))
            reward, cost = reward + float(step_reward), cost + float(info["cost"])
            over = terminated or truncated
        if not info.get("mask_sample", False):
            scores[:, row // seeds, row % seeds] = info["outcome"]["score"], cost, reward
    return Scores(*scores)


def play_llm(
    policy: LLMPolicy,
    engine: Engine,
    envs: Sequence[gym.Env[str, str]],
    task_ids: Sequence[str],
    seeds: int,
    limits: Limits,
    temperature: float,
    seed: int = 0,
) -> Scores:
    """As `play`, for a language model, many episodes at a time."""
    begun = starts(task_ids, seeds, seed)
    episodes = rollout(envs, policy.dialogue, engine, begun, limits, temperature, derive(seed, "answers"))
    rows = [
        (e.score, float(e.cost[0]) if len(e.cost) else 0.0, e.reward) if e.weight else (np.nan,) * 3 for e in episodes
    ]
    return Scores(*np.array(rows).T.reshape(3, len(task_ids), seeds))


def starts(task_ids: Sequence[str], seeds: int, seed: int) -> list[Start]:
    """Where the episodes of an evaluation begin, task by task. Every policy starts from the same ones."""
    return [
        Start(derive(seed, "evaluation", task, k) % 2**31, k, group=i * seeds + k, task_id=task)
        for i, task in enumerate(task_ids)
        for k in range(seeds)
    ]


def best_of(policies: Mapping[str, Acts], env: gym.Env[Any, Any], task_ids: Sequence[str]) -> str:
    """The name of the policy with the highest mean reward on these tasks."""
    means = {name: float(np.nanmean(play(p, env, task_ids, 1).reward)) for name, p in policies.items()}
    return max(means, key=lambda name: means[name])

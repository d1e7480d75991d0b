"""Trains an orchestrator with sb3-contrib's MaskablePPO and compares it with random choice on held-out tasks.

Needs the extra: pip install 'nextstep-envs[compat]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO

import nextstep_envs  # noqa: F401  (registers the environments)
from wrappers import CostPenalty, RecordCost

ID = "NextStep/WebShop-Workflow-v0"
Policy = Callable[[Any, dict[str, Any]], int]


def make(split: str, weight: float) -> gym.Env[Any, Any]:
    """The environment, its reward less `weight` times the cost."""
    return RecordCost(CostPenalty(gym.make(ID, split=split), weight=weight))


def evaluate(policy: Policy, episodes: int, weight: float) -> tuple[float, float]:
    """Mean reward and mean cost over held-out tasks; equal seeds, so equal tasks for every policy."""
    env = make("test", weight)
    ended = []
    for seed in range(episodes):
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(policy(observation, info))
            over = terminated or truncated
        ended.append(info["episode"])
    env.close()
    return float(np.mean([one["r"] for one in ended])), float(np.mean([one["c"] for one in ended]))


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--weight", type=float, default=0.2, help="price of one unit of cost")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()

    model = MaskablePPO(
        "MultiInputPolicy", make("train", settings.weight), n_steps=512, gamma=1.0, ent_coef=0.01, seed=settings.seed
    )
    model.learn(settings.steps)

    rng = np.random.default_rng(settings.seed)
    policies: dict[str, Policy] = {
        "random": lambda observation, info: int(rng.choice(np.flatnonzero(info["action_mask"]))),
        "MaskablePPO": lambda observation, info: int(
            model.predict(observation, action_masks=info["action_mask"].astype(bool), deterministic=True)[0]
        ),
    }
    for name, policy in policies.items():
        reward, cost = evaluate(policy, settings.episodes, settings.weight)
        print(f"{name:12} reward {reward:.3f}  cost {cost:.3f}")


if __name__ == "__main__":
    main()

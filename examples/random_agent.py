"""Plays random legal actions, prints one episode as text, and sums up what the rest earned and cost."""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np

import nextstep_envs  # noqa: F401  (registers the environments)
from wrappers import RecordCost


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--id", default="NextStep/WebShop-Workflow-v0")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()

    env = RecordCost(gym.make(settings.id, interface="vector", render_mode="ansi"))
    env.action_space.seed(settings.seed)
    ended = []
    for episode in range(settings.episodes):
        _, info = env.reset(seed=settings.seed + episode)
        over = False
        while not over:
            action = env.action_space.sample(info["action_mask"])
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        if episode == 0:
            print(env.render())
        ended.append(info["episode"])
    for name, key in (("outcome", "r"), ("cost", "c"), ("decisions", "l")):
        values = np.array([one[key] for one in ended])
        print(
            f"{name}: {values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f} over {len(values)} episodes"
        )
    env.close()


if __name__ == "__main__":
    main()

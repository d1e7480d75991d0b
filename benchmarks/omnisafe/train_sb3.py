"""Trains stable-baselines3's PPO on reward less a fixed price of the cost. Prints one line of JSON.

The price is the exact multiplier of the budget, or half of it. Where actions can be illegal, the masked PPO of
sb3-contrib learns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from problems import PROBLEMS, Recorder, Table, arguments, report
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from wrappers import CostPenalty

PRICES = {"multiplier": 1.0, "half": 0.5}  # of the optimum
ENVS, ROUND = 16, 2048


class Record(BaseCallback):
    """Evaluates the policy that each round of training leaves, before the next begins."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self.record()

    def _on_step(self) -> bool:
        return True

    def record(self) -> None:
        """Evaluate the policy as it is."""
        self.recorder(self.num_timesteps, lambda: table(self.model, self.recorder.cmdp))


def table(model: Any, cmdp: Any) -> Table:
    """The policy as probabilities [S, A]."""
    seen = {"observation": torch.eye(cmdp.n_states), "action_mask": torch.as_tensor(cmdp.mask, dtype=torch.float32)}
    masks = {"action_masks": cmdp.mask} if isinstance(model, MaskablePPO) else {}
    with torch.no_grad():
        law = model.policy.get_distribution(seen, **masks).distribution.probs.double().numpy()
    return np.asarray(law / law.sum(1, keepdims=True))


def train(problem: str, price: str, seed: int, steps: int) -> Recorder:
    """Train one agent and follow it round by round; settings are the library's but for 16 environments side by side."""
    make = PROBLEMS[problem]
    cmdp = make()
    weight = PRICES[price] * float(cmdp.optimum()["multipliers"][0])
    torch.set_num_threads(1)
    recorder = Recorder(cmdp)
    envs = DummyVecEnv([lambda: CostPenalty(make(), weight)] * ENVS)
    algorithm = PPO if cmdp.mask.all() else MaskablePPO
    model = algorithm("MultiInputPolicy", envs, n_steps=ROUND // ENVS, seed=seed, device="cpu")
    callback = Record(recorder)
    model.learn(steps, callback=callback)
    callback.record()
    return recorder


if __name__ == "__main__":
    args = arguments(__doc__, price=tuple(PRICES))
    report(train(args.problem, args.price, args.seed, args.steps))

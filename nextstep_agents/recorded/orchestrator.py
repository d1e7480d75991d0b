"""From a folder of recorded answers and a budget to a trained policy: plan offline, imitate, then learn by playing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from nextstep_agents.learning.result import TrainResult
from nextstep_agents.policies.mlp import MLPSettings
from nextstep_agents.recorded.imitation import imitate
from nextstep_agents.recorded.lookahead import lookahead_within
from nextstep_agents.training import train

ENV_KWARGS: Mapping[str, Any] = {
    "estimates": True,  # what can be read of question and answers, as numbers
    "question_buckets": 0,
    "text_buckets": 0,
    "skills": "train",
    "budget": {"calls": 2, "steps": 3},  # the plan's depth; a third call is dearer than what it adds
}
SPREAD = 0.5  # standard deviation of an outcome that is right in half of the cases
IMITATION: Mapping[str, Any] = {"temperature": 0.005, "epochs": 30, "decay": 0.3, "learning_rate": 3e-3}
SETTINGS: Mapping[str, Any] = {
    "episodes": 1024,  # a round: what a worker adds is a few points, which 128 episodes do not show
    "learning_rate": 5e-4,
    "entropy": 0.0,
    "minibatches": 4,
}


def train_orchestrator(
    env_id: str,
    budget: float,
    env_kwargs: Mapping[str, Any],
    total_steps: int = 100_000,
    seed: int = 0,
    mlp: MLPSettings | None = None,
    **settings: Any,
) -> TrainResult:
    """Train with PID-Lagrangian under a mean budget, from the imitation of a plan fitted to the training questions.

    From a random policy the first rounds cost several budgets, and stopping at once pays before reading does. The
    multiplier begins at the plan's price of a dollar, which was found on the training questions too.

    Args:
        env_id: of question routing with recorded workers.
        budget: mean US dollars of an episode.
        env_kwargs: arguments of the environment, such as `workers` and `split`, over `ENV_KWARGS`.
        total_steps: decisions.
        seed: of everything that is random.
        mlp: shape of the network.
        **settings: of `train`, over `SETTINGS`.
    """
    kwargs = {**ENV_KWARGS, **env_kwargs}
    env: Any = gym.make(env_id, **kwargs).unwrapped
    world, mlp = env.setup.world, mlp or MLPSettings()
    rows = np.flatnonzero(world.split_of == "train")
    plan, _ = lookahead_within(world, rows, budget)
    start = imitate(plan, env.setup, rows, mlp=mlp, seed=seed, **IMITATION)
    multiplier = {"proportional": 0.5, "integral": 0.05, "first": plan.price * budget / SPREAD}
    chosen = {**SETTINGS, "hidden": mlp.hidden, **settings}
    entropy, minibatches = chosen.pop("entropy"), chosen.pop("minibatches")
    result: TrainResult = train(
        env_id,
        "pid_lagrangian",
        total_steps=total_steps,
        cost_limits=[budget],
        seed=seed,
        env_kwargs=kwargs,
        start=start,
        pid_lagrangian={"multiplier": multiplier, "entropy": entropy, "minibatches": minibatches},
        **chosen,
    )
    return result

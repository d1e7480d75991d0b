"""What a trained orchestrator is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from nextstep_agents.evaluation.play import Acts, best_of
from nextstep_agents.policies.scripted import PLANS, FixedPlanPolicy, RandomPolicy
from nextstep_envs.errors import MissingExtraError


def random_policy(seed: int) -> Acts:
    """Random plans of one to three steps."""
    return RandomPolicy("text", seed)


def best_fixed_plan(env: gym.Env[Any, Any], task_ids: list[str]) -> str:
    """The plan with the highest mean reward on these tasks, none of which may be a test task."""
    return best_of({name: FixedPlanPolicy(name) for name in PLANS}, env, task_ids)


class MaskablePPOPolicy:
    """MaskablePPO of sb3-contrib on the vector interface.

    Args:
        env: training environment, wrapped as for every other policy.
        episodes: training stops after so many.
        seed: of the training.
    """

    def __init__(self, env: gym.Env[Any, Any], episodes: int, seed: int) -> None:
        try:
            from sb3_contrib import MaskablePPO
            from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
        except ImportError as error:
            raise MissingExtraError("sb3-contrib", "compat", "The MaskablePPO baseline") from error
        env.reset(seed=seed)
        stop = StopTrainingOnMaxEpisodes(episodes)
        self.model = MaskablePPO(
            "MultiInputPolicy", env, n_steps=1024, batch_size=256, gamma=1.0, ent_coef=0.01, seed=seed, device="cpu"
        )
        self.model.learn(episodes * 6, callback=stop)

    def reset(self) -> None:
        """Nothing is remembered between episodes."""

    def act(self, observation: Any, info: Mapping[str, Any] | None = None) -> int:
        """The likeliest legal action."""
        action, _ = self.model.predict(observation, action_masks=observation["action_mask"], deterministic=True)
        return int(action)

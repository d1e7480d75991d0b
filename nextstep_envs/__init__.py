"""Orchestration of LLM workers as reinforcement learning environments.

Importing this package registers every id with Gymnasium:

    import gymnasium as gym
    import nextstep_envs

    env = gym.make("NextStep/WebShop-Workflow-v0")
"""

from __future__ import annotations

from nextstep_envs.shadow import require_own

require_own("registry")

from registry import register_envs  # noqa: E402  (only once it is known to be ours)

__version__ = "0.1.0"

register_envs()

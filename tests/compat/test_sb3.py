"""The vector interface runs in Stable-Baselines3 as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs
from wrappers import CostPenalty

stable_baselines3 = pytest.importorskip("stable_baselines3", reason="needs the extra [compat]")
sb3_contrib = pytest.importorskip("sb3_contrib", reason="needs the extra [compat]")

ROOT = Path(nextstep_envs.__file__).parents[1]
IDS = [spec.id for spec in gym.registry.values() if spec.id.startswith("NextStep/") and spec.vector_entry_point]


@pytest.mark.parametrize("env_id", IDS)
def test_its_checker_is_content(env_id: str) -> None:
    from stable_baselines3.common.env_checker import check_env

    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_algorithms_without_masks_run(env_id: str, algorithm: str) -> None:
    settings: dict[str, Any] = {"PPO": {"n_steps": 64}, "A2C": {}, "DQN": {"learning_starts": 32}}[algorithm]
    if algorithm == "DQN":
        settings["buffer_size"] = 256
    env = CostPenalty(gym.make(env_id), weight=0.2)
    model = getattr(stable_baselines3, algorithm)("MultiInputPolicy", env, seed=0, device="cpu", **settings)
    model.learn(128)
    assert model.num_timesteps >= 128


@pytest.mark.parametrize("env_id", IDS)
def test_maskable_ppo_only_takes_legal_actions(env_id: str) -> None:
    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        illegal = taken = 0

        def action_masks(self) -> Any:
            return self.env.get_wrapper_attr("action_masks")()

        def step(self, action: Any) -> Any:
            Watched.taken += 1
            Watched.illegal += not self.action_masks()[int(action)]
            return self.env.step(action)

    env = Watched(gym.make(env_id))
    sb3_contrib.MaskablePPO("MultiInputPolicy", env, n_steps=64, seed=0, device="cpu").learn(128)
    assert Watched.taken >= 128 and Watched.illegal == 0


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("random_agent.py", ["--episodes", "3"]), ("train_sb3.py", ["--steps", "512", "--episodes", "5"])],
)
def test_examples_run(script: str, arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = [float(word) for line in done.stdout.splitlines()[-2:] for word in line.split() if _is_number(word)]
    assert figures and np.all(np.isfinite(figures))


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).lstrip("-").isdigit()

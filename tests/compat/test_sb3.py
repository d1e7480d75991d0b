"""Stable-Baselines3 and sb3-contrib learn, and run on every id as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs
from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from wrappers import CostPenalty

stable_baselines3 = library("stable_baselines3", "compat")
sb3_contrib = library("sb3_contrib", "compat")

ROOT = Path(nextstep_envs.__file__).parents[1]


def falling(rate: float) -> Callable[[float], float]:
    """A learning rate that falls to a fiftieth."""
    return lambda left: rate * max(left, 0.02)


PPO = {"n_steps": 32, "batch_size": 512, "n_epochs": 4, "learning_rate": falling(3e-3)}
LEARNERS: dict[str, tuple[int, dict[str, Any]]] = {
    # algorithm: steps, settings
    "PPO": (60_000, PPO),
    "MaskablePPO": (60_000, PPO),
    "A2C": (200_000, {"n_steps": 8, "ent_coef": 0.02, "use_rms_prop": False, "learning_rate": falling(1e-2)}),
    "DQN": (
        50_000,
        {
            "buffer_size": 50_000,
            "learning_starts": 2_000,
            "batch_size": 1024,
            "train_freq": 1,
            "gradient_steps": 2,
            "exploration_fraction": 0.5,
            "exploration_final_eps": 0.3,
            "learning_rate": falling(3e-3),
        },
    ),
}


def algorithm(name: str) -> Any:
    return getattr(sb3_contrib if name == "MaskablePPO" else stable_baselines3, name)


@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns_nearly_the_optimum(name: str) -> None:
    import torch

    from wrappers.interfaces import SB3VecEnv

    steps, settings = LEARNERS[name]
    env = SB3VecEnv(tier_routing.make_vector(64))
    model = algorithm(name)("MultiInputPolicy", env, gamma=1.0, seed=0, device="cpu", **settings).learn(steps)
    observations = tier_routing.observations()
    if name == "DQN":
        table: Any = tier_routing.one_hot(model.predict(observations, deterministic=True)[0])
    else:
        tensors = {key: torch.as_tensor(value) for key, value in observations.items()}
        with torch.no_grad():
            table = model.policy.get_distribution(tensors).distribution.probs.numpy()
    tier_routing.assert_learned(table, f"Stable-Baselines3 {name}")


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_its_checker_is_content(env_id: str) -> None:
    from stable_baselines3.common.env_checker import check_env

    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


@pytest.mark.filterwarnings("ignore:.*initialised with render_mode='rgb_array':UserWarning")
def test_an_id_is_enough() -> None:
    """It first asks for a `render_mode` that no environment of texts has, and does without on a `TypeError`."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env_id = "nextstep_envs:NextStep/WebShop-Workflow-v0"
    stable_baselines3.PPO("MultiInputPolicy", env_id, n_steps=8, batch_size=8, device="cpu").learn(8)
    many = make_vec_env(env_id, 2, seed=0, vec_env_cls=SubprocVecEnv)
    assert len(many.reset()["observation"]) == len(many.env_method("action_masks")) == 2
    many.close()


@pytest.mark.parametrize("env_id", ORCHESTRATION)
@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN"])
def test_algorithms_without_masks_run(env_id: str, name: str) -> None:
    settings: dict[str, Any] = {
        "PPO": {"n_steps": STEPS, "batch_size": STEPS, "n_epochs": 1},
        "A2C": {},
        "DQN": {"learning_starts": 32, "buffer_size": 256},
    }[name]
    env = CostPenalty(gym.make(env_id), weight=0.2)
    model = algorithm(name)("MultiInputPolicy", env, seed=0, device="cpu", **settings)
    model.learn(STEPS)
    assert model.num_timesteps >= STEPS


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_maskable_ppo_only_takes_legal_actions(env_id: str) -> None:
    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        illegal = taken = 0

        def action_masks(self) -> Any:
            return self.env.get_wrapper_attr("action_masks")()

        def step(self, action: Any) -> Any:
            Watched.taken += 1
            Watched.illegal += not self.action_masks()[int(action)]
            return self.env.step(action)

    settings = {"n_steps": STEPS, "batch_size": STEPS, "n_epochs": 1}
    sb3_contrib.MaskablePPO("MultiInputPolicy", Watched(gym.make(env_id)), seed=0, device="cpu", **settings).learn(
        STEPS
    )
    assert Watched.taken >= STEPS and Watched.illegal == 0


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

"""The single-file example in CleanRL's manner learns, and runs on every id."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nextstep_envs
from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library

torch = library("torch", "agents")

SCRIPT = Path(nextstep_envs.__file__).parents[1] / "examples" / "cleanrl_ppo.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cleanrl_ppo", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


def test_it_learns_nearly_the_optimum(example: ModuleType) -> None:
    settings = {"env_id": tier_routing.ID, "cost_weight": tier_routing.WEIGHT, "total_steps": 60_000}
    agent = example.train(example.Args(**settings))
    observations = tier_routing.observations()
    features = torch.as_tensor(observations["observation"])
    mask = torch.as_tensor(observations["action_mask"]).bool()
    tier_routing.assert_learned(agent.policy(features, mask).probs.detach().numpy(), "CleanRL-style PPO")


def test_an_illegal_action_is_never_chosen(example: ModuleType) -> None:
    agent = example.Agent(n_features=3, n_actions=4)
    mask = torch.tensor([[True, False, True, False]])
    policy = agent.policy(torch.randn(1, 3), mask)
    np.testing.assert_array_equal(policy.probs[0].detach().numpy()[[1, 3]], 0.0)
    assert torch.isfinite(policy.entropy()).all()


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_it_runs(example: ModuleType, env_id: str) -> None:
    agent = example.train(example.Args(env_id=env_id, total_steps=STEPS, num_envs=4, num_steps=STEPS // 4))
    assert all(torch.isfinite(weights).all() for weights in agent.parameters())


def test_its_command_line_takes_every_setting() -> None:
    options = ["--env-id", tier_routing.ID, "--total-steps", "64", "--num-envs", "4", "--num-steps", "8"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[0] == "64"

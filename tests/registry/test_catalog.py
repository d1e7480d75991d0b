"""Environment ids reach Gymnasium once, and plugins can add theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import nextstep_envs
import registry
from registry import catalog
from registry.errors import ConflictError

ROOT = Path(nextstep_envs.__file__).parents[1]


def test_importing_registers_every_id_without_a_step_limit() -> None:
    for entry in registry.entries():
        assert entry.entry_point or entry.aec_entry_point or entry.parallel_entry_point
        if entry.entry_point is None:
            assert entry.id not in gym.registry
            continue
        spec = gym.spec(entry.id)
        assert isinstance(spec.entry_point, str)  # a callable could not be written as JSON
        assert spec.max_episode_steps is None  # budgets end episodes; a time limit would bootstrap
        assert spec.order_enforce and not spec.disable_env_checker


def test_registration_is_idempotent() -> None:
    before = dict(gym.registry)
    registry.register_envs()  # Gymnasium would warn, and warnings are errors here
    assert gym.registry == before


def test_a_plugin_can_add_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_entries", dict(catalog._entries))
    entry = registry.EnvEntry("NextStep/Elsewhere-v0", "gymnasium.envs.classic_control:CartPoleEnv", world="elsewhere")
    try:
        registry.register_env(entry)
        registry.register_env(entry)
        assert "NextStep/Elsewhere-v0" in registry.env_ids()
        assert gym.make("NextStep/Elsewhere-v0").spec.id == "NextStep/Elsewhere-v0"
        with pytest.raises(ConflictError, match="NextStep/Elsewhere-v0"):
            registry.register_env(registry.EnvEntry("NextStep/Elsewhere-v0", "somewhere:Else"))
    finally:
        gym.registry.pop("NextStep/Elsewhere-v0", None)


def test_the_module_prefix_of_an_id_imports_the_package() -> None:
    code = "import gymnasium as gym; gym.make('nextstep_envs:NextStep/WebShop-Workflow-v0').close()"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)

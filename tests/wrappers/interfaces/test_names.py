"""The package gives out its names one by one, and says which extra one of them needs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import wrappers.interfaces
from nextstep_envs.errors import MissingExtraError

LIBRARIES = ["stable_baselines3", "torch", "tianshou", "torchrl", "ray", "agilerl", "trl", "verifiers", "openenv"]


def test_importing_the_package_loads_no_library() -> None:
    code = f"import sys, wrappers.interfaces; print(*[m for m in {LIBRARIES} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_name_has_a_module() -> None:
    assert sorted(wrappers.interfaces._MODULES) == sorted(wrappers.interfaces.__all__)
    for name, module in wrappers.interfaces._MODULES.items():
        assert importlib.util.find_spec(f"wrappers.interfaces.{module}"), name


def test_an_absent_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wrappers.interfaces.sb3", raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nextstep-envs\[compat\]'"):
        wrappers.interfaces.SB3VecEnv  # noqa: B018


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'; it has .*SB3VecEnv"):
        wrappers.interfaces.Nothing  # noqa: B018

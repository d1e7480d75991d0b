"""A stranger's `registry` or `wrappers` in front of ours is named, and never half-used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nextstep_envs

ROOT = Path(nextstep_envs.__file__).parents[1]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with `folder` first on its path, as when a script lies there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_foreign_registry_is_named_and_not_run(tmp_path: Path, kind: str) -> None:
    foreign = tmp_path / "registry.py" if kind == "module" else tmp_path / "registry" / "__init__.py"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("print('a stranger ran')\n")
    done = run("import nextstep_envs", tmp_path)
    assert done.returncode != 0
    assert f"ImportError: {foreign} hides the 'registry' package of nextstep-envs" in done.stderr
    assert "rename that file" in done.stderr
    assert "a stranger ran" not in done.stdout


def test_a_foreign_registry_that_was_imported_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry.py").write_text("")
    done = run("import registry, nextstep_envs", tmp_path)
    assert f"ImportError: {tmp_path / 'registry.py'} hides" in done.stderr


def test_a_users_own_wrappers_do_not_break_make(tmp_path: Path) -> None:
    (tmp_path / "wrappers.py").write_text("")
    done = run("import gymnasium as gym; gym.make('nextstep_envs:NextStep/WebShop-Workflow-v0')", tmp_path)
    assert done.returncode == 0, done.stderr


def test_foreign_wrappers_are_named_where_ours_are_needed(tmp_path: Path) -> None:
    (tmp_path / "wrappers.py").write_text("")
    done = run("from nextstep_envs.shadow import require_own; require_own('wrappers')", tmp_path)
    assert f"ImportError: {tmp_path / 'wrappers.py'} hides the 'wrappers' package" in done.stderr

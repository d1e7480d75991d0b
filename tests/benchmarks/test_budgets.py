"""The comparison of learned policies with fixed plans under a budget, at a tiny scale."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "budgets"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="budgets")


def test_a_lottery_mixes_the_plans_beside_the_budget_and_the_best_plan_keeps_it(script: dict[str, Any]) -> None:
    reward = np.array([[0.0, 0.5, 1.0], [0.0, 0.7, 1.0]])
    cost = np.array([[[0.0], [1.0], [3.0]], [[0.0], [1.0], [5.0]]])
    budget = np.array([2.0])
    assert script["best_plan"](reward, cost, budget) == 1
    np.testing.assert_allclose(script["best_lottery"](reward, cost, budget), [0.0, 2 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(script["best_lottery"](reward, cost, np.array([9.0])), [0.0, 0.0, 1.0], atol=1e-9)


def test_every_agent_has_to_keep_its_own_budget(script: dict[str, Any]) -> None:
    reward, cost = np.array([[0.1, 1.0]]), np.array([[[0.0, 0.0], [1.0, 3.0]]])
    assert script["best_plan"](reward, cost, np.array([2.0, 2.0])) == 0
    np.testing.assert_allclose(script["best_lottery"](reward, cost, np.array([2.0, 2.0])), [1 / 3, 2 / 3], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "algorithm"), [("DAG", "p3o"), ("Team", "macpo")])
def test_the_script_measures_writes_and_uses_what_is_there(problem: str, algorithm: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--problems", problem, "--algorithms", algorithm]
    command += ["--seeds", "1", "--steps", "100", "--tasks", "2", "--test-tasks", "2", "--jobs", "1"]
    done, again = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2))
    data = json.loads(done.stdout.splitlines()[-1])
    assert data == json.loads(again.stdout.splitlines()[-1]) == json.loads((tmp_path / "budgets.json").read_text())
    for report in data["reports"]:
        low, high = report[algorithm]["reward"][1:]
        assert 0 <= low <= report[algorithm]["reward"][0] <= high <= 1
        assert len(report[algorithm]["spent"]) == len(report["budget"])
    assert (tmp_path / "budgets.png").stat().st_size > 10_000

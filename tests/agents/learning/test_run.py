"""Runs: bit for bit after a kill, with everything in their folder, the best policy kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextstep_agents import load_policy, train
from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.checkpoint import read_tensors
from nextstep_agents.learning import run as running
from nextstep_agents.learning.checkpoint import FILE, Best
from nextstep_agents.learning.result import TrainResult
from nextstep_agents.learning.settings import ALGORITHMS
from nextstep_agents.tracking import read_rows
from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.tabular import TeamPlanWork, TierRouting
from tests.agents.learning.worlds import Walk

ROUND = 32  # episodes, which are decisions on TierRouting
SMALL: dict[str, Any] = {"episodes": ROUND, "hidden": (8,), "total_steps": 6 * ROUND, "quiet": True}


class Killed(Exception):
    """What ends a run in the middle."""


def small(env: Any = "NextStep/TierRouting-v0", algorithm: str = "pid_lagrangian", **changes: Any) -> TrainResult:
    return train(env, algorithm, **{**SMALL, **changes})


def kill_after(round: int) -> Any:
    def callback(steps: int, metrics: Any) -> None:
        if metrics["round"] == round:
            raise Killed

    return callback


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return dict(result.policy.actor.state_dict())


def assert_same(a: TrainResult, b: TrainResult) -> None:
    np.testing.assert_equal(a.history, b.history)  # NaN is equal to NaN
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert a.multipliers == b.multipliers


@pytest.mark.parametrize("round", [1, 2, 3, 4, 5, 6])
def test_a_run_that_was_killed_in_any_round_goes_on_bit_for_bit(tmp_path: Path, round: int) -> None:
    folder, options = str(tmp_path / "run"), {"checkpoint_every": 2, "evaluation": {"every": 2, "episodes": 20}}
    whole = small(**options)
    with pytest.raises(Killed):
        small(log_dir=folder, callback=kill_after(round), **options)
    torch.manual_seed(99)  # what other code did to the global generators must not matter
    resumed = small(log_dir=folder, resume=True, **options)
    assert_same(resumed, whole)
    assert [row["round"] for row in read_rows(tmp_path / "run" / "metrics.csv")] == [f"{r}.0" for r in range(1, 7)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_goes_on_bit_for_bit(tmp_path: Path, algorithm: str) -> None:
    options = {"normalise": True, "episodes": 48}  # the normaliser's statistics are part of the state
    whole = small(algorithm=algorithm, **options)
    stopped = small(algorithm=algorithm, log_dir=str(tmp_path), callback=lambda s, m: m["round"] < 2, **options)
    assert len(stopped.history) == 2
    assert_same(small(algorithm=algorithm, log_dir=str(tmp_path), resume=True, **options), whole)


def test_a_team_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = small(TeamPlanWork())
    small(TeamPlanWork(), log_dir=str(tmp_path), callback=lambda s, m: False)
    assert_same(small(TeamPlanWork(), log_dir=str(tmp_path), resume=True), whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = small(log_dir=str(tmp_path))
    assert_same(small(log_dir=str(tmp_path), resume=True), first)


def test_a_run_folder_holds_everything(tmp_path: Path) -> None:
    result = small(
        log_dir=str(tmp_path / "run"), metrics=lambda played, policy: {"longest": float(played.batch.rewards.shape[1])}
    )
    folder = result.folder
    assert folder == tmp_path / "run"
    rows = read_rows(folder / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [ROUND * r for r in range(1, 7)] and rows[0]["longest"] == "1.0"
    for name in (
        "return",
        "cost/spend",
        "limit/spend",
        "multiplier/spend",
        "kl",
        "clip_share",
        "entropy",
        "masked_rate",
    ):
        assert all(np.isfinite(row[name]) for row in result.history), name
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["env"] == "NextStep/TierRouting-v0" and settings["cost_limits"] == {"spend": 1.2}
    assert list((folder / "tensorboard").iterdir())
    assert not list(folder.rglob("*.pkl")) and not list(folder.rglob("*.pt"))
    seen = TierRouting().observation(1)
    np.testing.assert_array_equal(load_policy(folder / "policy").probabilities(seen), result.policy.probabilities(seen))


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert small().folder is None
    assert not list(tmp_path.iterdir())


def test_a_used_folder_is_not_overwritten(tmp_path: Path) -> None:
    small(log_dir=str(tmp_path), total_steps=ROUND)
    with pytest.raises(ConfigError, match="resume=True"):
        small(log_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="no run to resume"):
        small(log_dir=str(tmp_path / "nothing"), resume=True)
    with pytest.raises(ConfigError, match="log_dir"):
        small(resume=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": 5}, r"seed=5 \(was 0\)"),
        ({"cost_limits": [2.0]}, r"cost_limits=\{'spend': 2.0\} \(was \{'spend': 1.2\}\)"),
        ({"env": "NextStep/RetryStop-v0"}, r"env='NextStep/RetryStop-v0' \(was 'NextStep/TierRouting-v0'\)"),
        ({"total_steps": 7 * ROUND}, "total_steps=224"),
    ],
)
def test_a_run_goes_on_only_with_its_own_settings(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    small(log_dir=str(tmp_path), callback=lambda s, m: False)
    with pytest.raises(ConfigError, match=match):
        small(log_dir=str(tmp_path), resume=True, **changes)
    small(log_dir=str(tmp_path), resume=True, checkpoint_every=3, log_level="WARNING")  # these change nothing


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    small(log_dir=str(tmp_path), callback=lambda s, m: False)
    (file,) = (tmp_path / "checkpoints").rglob(FILE)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=FILE):
        small(log_dir=str(tmp_path), resume=True)


def test_the_best_policy_keeps_its_budgets_first_and_earns_most_second() -> None:
    none: dict[str, torch.Tensor] = {}
    good, poor = Best(0.0, 0.7, none), Best(0.0, 0.5, none)
    over, further = Best(0.1, 0.9, none), Best(0.3, 2.0, none)
    order = [good, poor, over, further]
    for i, one in enumerate(order):
        assert one.beats(None)
        assert [one.beats(other) for other in order] == [i < j for j in range(4)]


def test_with_evaluations_the_result_is_the_best_policy_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Best] = []
    judge = running._judge

    def spy(*args: Any) -> Any:
        best, metrics = judge(*args)
        judged.append(best)
        return best, metrics

    monkeypatch.setattr(running, "_judge", spy)
    result = small(evaluation={"every": 2, "episodes": 50}, learning_rate=0.05, total_steps=10 * ROUND)
    assert len(judged) == 5
    best = min(judged, key=lambda one: (one.violation, -one.value))
    assert all(torch.equal(weights(result)[name], value) for name, value in best.weights.items())
    assert [("evaluation/return" in row) for row in result.history] == [False, True] * 5
    again = result.evaluate(50)
    row = [row for row in result.history if "evaluation/return" in row][judged.index(best)]
    assert again["return"] == best.value and again["costs"][0] == row["evaluation/cost/spend"]


def test_evaluations_do_not_change_the_training() -> None:
    plain, judged = small(), small(evaluation={"every": 1, "episodes": 10})
    kept = [{name: value for name, value in row.items() if "evaluation" not in name} for row in judged.history]
    np.testing.assert_equal(kept, plain.history)


def test_evaluations_may_use_other_tasks(tmp_path: Path) -> None:
    kwargs = {"every": 1, "episodes": 20, "env_kwargs": {"d": 9.0}}
    result = small(evaluation=kwargs, total_steps=ROUND)  # other budgets, the same chance
    assert result.history[0]["evaluation/return"] == result.evaluate(20, env_kwargs={"d": 5.0})["return"]
    with pytest.raises(ConfigError, match=r"evaluation.env_kwargs=.*by id"):
        small(TierRouting(), evaluation=kwargs)


def test_the_multiplier_of_a_run_is_the_mean_of_its_last_fifth() -> None:
    result = small(total_steps=10 * ROUND)
    assert result.multipliers == {"spend": np.mean([row["multiplier/spend"] for row in result.history[-2:]])}


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_level='LOUD'"):
        small(log_level="loud")


def test_rounds_are_logged_on_request(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    small(total_steps=ROUND)
    assert not caplog.records
    small(total_steps=2 * ROUND, log_level="info")
    assert [record.name for record in caplog.records] == ["nextstep"] * 2
    assert "round 2, 64 decisions: return" in caplog.text and "spend" in caplog.text and "of 1.2" in caplog.text
    assert logging.getLogger("nextstep").level == logging.NOTSET
    assert capsys.readouterr().out == ""  # quiet=True


def test_too_many_failures_stop_the_training() -> None:
    with pytest.raises(TrainingError, match=r"max_masked_rate=2.0%"):
        small(lambda: Walk(fail=5))
    survived = small(lambda: Walk(fail=3), max_masked_rate=0.9, algorithm="ppo_lagrangian")
    assert 0 < np.mean([row["masked_rate"] for row in survived.history]) < 0.9


def test_where_no_episode_ends_its_cost_is_unknown() -> None:
    with pytest.raises(TrainingError, match="max_decisions=2"):
        small(lambda: Walk(3), cost_limits=[1.0], max_decisions=2)


def test_checkpoints_hold_only_tensors_and_text(tmp_path: Path) -> None:
    small(log_dir=str(tmp_path))
    (checkpoint,) = (tmp_path / "checkpoints").glob("step-*")
    assert {file.name for file in checkpoint.iterdir()} == {FILE, "state.json"}
    parts = {name.partition(".")[0] for name in read_tensors(checkpoint / FILE)}
    assert {"actor", "critic", "optimiser", "critic_optimiser", "memory", "scales"} == parts

"""The `nextstep` command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextstep_agents import load_policy
from nextstep_agents.cli import main
from nextstep_agents.config import compose_train, compose_train_mlp
from nextstep_agents.learning.run_settings import RunSettings
from nextstep_agents.learning.settings import ALGORITHMS
from nextstep_agents.settings import TrainSettings
from nextstep_envs.errors import ConfigError


def test_envs_lists_every_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    assert "NextStep/WebShop-Workflow-v0" in capsys.readouterr().out


def test_no_overrides_are_the_defaults_of_the_dataclasses() -> None:
    assert compose_train([]) == TrainSettings()
    assert compose_train_mlp(["policy=mlp"]) == RunSettings()


def test_overrides_reach_nested_settings() -> None:
    settings = compose_train(["seed=3", "grpo.group_size=4", "env_kwargs={num_products: 50}"])
    assert (settings.seed, settings.grpo.group_size, settings.env_kwargs) == (3, 4, {"num_products": 50})


def test_overrides_reach_every_setting_of_a_run_on_vectors() -> None:
    overrides = ["policy=mlp", "algorithm=pid_lagrangian", "env=NextStep/DagRetries-v0", "env_kwargs={d: [8, 1]}",
                 "cost_limits={spend: 5}", "mlp.hidden=[32]", "pid_lagrangian.multiplier.proportional=1", "episodes=16",
                 "chance={tolerance: 1.2}", "evaluation.env_kwargs={d: [1, 1]}", "log_level=INFO"]  # fmt: skip
    settings = compose_train_mlp(overrides)
    assert settings.method == settings.pid_lagrangian and settings.pid_lagrangian.multiplier.proportional == 1
    assert (settings.env_kwargs, settings.cost_limits) == ({"d": [8, 1]}, {"spend": 5})
    assert (settings.mlp.hidden, settings.episodes) == ((32,), 16)
    assert settings.chance is not None and settings.chance.tolerance == 1.2
    assert compose_train_mlp(["policy=mlp", "cost_limits=[3.0, inf]"]).cost_limits == [3.0, float("inf")]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_schema(algorithm: str) -> None:
    assert compose_train_mlp(["policy=mlp", f"algorithm={algorithm}"]) == RunSettings(algorithm=algorithm)


def test_training_on_vectors_ends_with_what_the_policy_earns_and_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    overrides = ["policy=mlp", "env=NextStep/TierRouting-v0", "algorithm=pid_lagrangian", "total_steps=256",
                 "evaluation.final=200", f"log_dir={folder}"]  # fmt: skip
    assert main(["train", *overrides]) == 0
    printed = capsys.readouterr().out
    assert "training: 256 steps" in printed and f"Trained: {folder}" in printed
    assert "200 episodes: return 0." in printed and "spend" in printed and "budget 1.2, multiplier" in printed
    assert load_policy(folder / "policy").spaces.outputs == 4
    assert main(["train", *overrides]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["train", *overrides, "resume=true"]) == 0


def test_help_shows_the_settings_of_the_kind_of_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "policy=mlp", "--help"]) == 0
    vectors = capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    words = capsys.readouterr().out
    assert "cost_limits:" in vectors and "warm_start:" not in vectors
    assert "warm_start:" in words and "cost_limits:" not in words


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "'trian'"),
        (["train", "bogus=1"], "bogus"),
        (["train", "total_steps=many"], "many"),
        (["train", "total_steps=0"], "total_steps=0"),
        (["train", "experiment=nothing"], "nothing"),
        (["train", "grpo.group_size=1"], "group_size=1"),
        (["train", "policy=tree"], "policy='tree'"),
        (["train", "algorithm=pid_lagrangian"], "policy=mlp"),
        (["train", "cost_limits=[1.0]"], "cost_limits"),
        (["train", "policy=mlp", "algorithm=sarsa"], "algorithm='sarsa'"),
        (["train", "policy=mlp", "experiment=smoke"], "experiment"),
        (["train", "policy=mlp", "grpo.kl=0.1", "warm_start.steps=3"], "warm_start"),
        (["train", "policy=mlp", "total_steps=0"], "total_steps=0"),
        (["train", "policy=mlp", "env=NextStep/Nowhere-v0"], "Nowhere"),
        (["train", "policy=mlp", "env=NextStep/WebShop-v0"], "interface='vector'"),
        (["train", "policy=mlp", "env=NextStep/TierRouting-v0", "cost_limits=[1, 2]"], "spend"),
    ],
)
def test_what_is_wrong_is_named_without_a_traceback(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_smoke_run_ends_with_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["train", "experiment=smoke", f"log_dir={folder}"]) == 0
    printed = capsys.readouterr().out
    assert "held-out tasks" in printed and printed.index("warm start: 30 steps") < printed.index("held-out tasks")
    table = json.loads((folder / "table.json").read_text())
    assert {"random", "best fixed plan", "before (warm start)", "after (GRPO)"} == set(table["rows"])
    assert table["tasks"] == 20 and (folder / "table.md").read_text().startswith("| policy |")


@pytest.mark.parametrize(("given", "near"), [("mlp.hiden=[8]", "mlp.hidden"), ("totalsteps=9", "total_steps")])
def test_an_unknown_setting_on_the_command_line_is_told_what_comes_near(given: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"no setting '{given.split('=')[0]}'; there is {near}"):
        compose_train_mlp([given])

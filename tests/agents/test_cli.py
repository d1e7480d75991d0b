"""The `nextstep` command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextstep_agents.cli import main
from nextstep_agents.config import compose_train
from nextstep_agents.settings import TrainSettings


def test_envs_lists_every_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    assert "NextStep/WebShop-Workflow-v0" in capsys.readouterr().out


def test_no_overrides_are_the_defaults_of_the_dataclasses() -> None:
    assert compose_train([]) == TrainSettings()


def test_overrides_reach_nested_settings() -> None:
    settings = compose_train(["seed=3", "grpo.group_size=4", "env_kwargs={num_products: 50}"])
    assert (settings.seed, settings.grpo.group_size, settings.env_kwargs) == (3, 4, {"num_products": 50})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "'trian'"),
        (["train", "bogus=1"], "bogus"),
        (["train", "total_steps=many"], "many"),
        (["train", "total_steps=0"], "total_steps=0"),
        (["train", "experiment=nothing"], "nothing"),
        (["train", "grpo.group_size=1"], "group_size=1"),
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

"""`nextstep smoke` and `nextstep dev-slice`: variables, folders and splits of v0.1.0; what is not built says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextstep_agents.cli import main
from nextstep_agents.config import compose_settings
from nextstep_agents.rollouts.answers import Answers, count_answers
from nextstep_agents.rollouts.scripts import DEV_SLICE, SMOKE, plan, smoke_faults
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.variables import NOT_BUILT
from nextstep_envs.errors import ConfigError
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.providers.fake_plans import PROSE
from tests.servers.openai_like import OpenAIServer
from tests.servers.shopper import shopper
from wrappers.jsonl import read_lines

KEY = "sk-test-0123456789abcdef"
VARIABLES = ("SPLIT", "SEED", "MAX_STEPS", "MAX_TOK", "MAX_CALLS", "MAX_TASKS", "METHODS", "MODEL", "RM_CHECKPOINT")
FAKE = ("NEXTSTEP_FAKE_INVALID_RATE", "NEXTSTEP_FAKE_FORCE_STEP0_INVALID")
RATE, FORCE = FAKE


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the person who runs the tests, and a folder of its own."""
    for name in (*VARIABLES, *FAKE, "OUT_ROOT", "OPENAI_API_KEY", "OPENAI_BASE_URL", "NEXTSTEP_SECRETS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A server on loopback that plans and shops, in the place of OpenAI's."""
    with OpenAIServer(shopper, key=KEY) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


def only_run(root: str = "out") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The one run in a summary, and its lines."""
    ((name, run),) = json.loads(Path(root, "summary.json").read_text())["runs"].items()
    return run, list(read_lines(Path(root, name, "episodes.jsonl")))


def smoke(monkeypatch: pytest.MonkeyPatch, *overrides: str, **variables: str) -> int:
    for name, value in {"OUT_ROOT": "out", **variables}.items():
        monkeypatch.setenv(name, value)
    return main(["smoke", *overrides])


# -- smoke -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["smoke", "dev-slice"])
def test_without_variables_eight_tasks_of_the_dev_split_are_played_greedily(
    command: str, service: OpenAIServer, tmp_path: Path
) -> None:
    assert main([command]) == 0
    (root,) = (tmp_path / "results" / {"smoke": "smoke_fake", "dev-slice": "dev_real"}[command]).iterdir()
    folder = root / "greedy_seed42"
    assert {path.name for path in folder.iterdir()} == {".lock", "settings.json", "episodes.jsonl", "summary.json"}
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["split"], settings["seed"], settings["llm"]["temperature"]) == ("dev", 42, 0.0)
    run, lines = only_run(str(root))
    assert len({line["task_id"] for line in lines}) == run["episodes"] == 8
    assert all(line["terminated"] and line["steps"][0]["records"] for line in lines)
    own = json.loads((folder / "summary.json").read_text())
    assert {name: run[name] for name in own} == own


def test_valid_plans_are_neither_repaired_nor_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke(monkeypatch, **{RATE: "0.0"}) == 0
    run, lines = only_run()
    assert run["answers"] == Answers(total=8)._asdict()
    assert all(json.loads(line["steps"][0]["action"])["workflow"] for line in lines)


@pytest.mark.parametrize("split", ["S_policy_dev", "S_smoke_1"])
def test_a_quarter_of_invalid_plans_covers_both_ways_of_repair(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke(monkeypatch, **{RATE: "0.25", "SPLIT": split}) == 0
    run, lines = only_run()
    answers = run["answers"]
    assert answers["repaired"] > 0 and answers["invalid"] > 0 and answers["recovered"] > 0
    fenced = prose = 0
    for line in lines:
        for step, reply in zip(line["steps"], line["messages"][1:], strict=True):
            if step["action"] == PROSE:
                prose += 1
                assert step["invalid_action"] and not step["records"] and "no JSON object was found" in reply
            elif "```" in step["action"]:
                fenced += 1
                assert parse_json(step["action"])["workflow"] and step["records"]
    assert (fenced, prose) == (answers["repaired"], answers["invalid"])


def test_the_rate_is_the_workers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke(monkeypatch, **{RATE: "0.6"}) == 0
    _, lines = only_run()
    assert any(record["reformats"] for line in lines for step in line["steps"] for record in step["records"])


def test_a_forced_invalid_first_plan_costs_a_step_and_the_next_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke(monkeypatch, **{FORCE: "1"}) == 0
    run, lines = only_run()
    assert run["answers"] == {"total": 16, "repaired": 0, "invalid": 8, "invalid_first": 8, "recovered": 8}
    assert all("Left: 5 steps" in line["messages"][1] for line in lines)


def test_the_example_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    root = "results/smoke_fake/local"
    example = {"SPLIT": "S_smoke_1", "SEED": "42", "MAX_STEPS": "20", "MAX_TOK": "800", "MAX_CALLS": "6"}
    assert smoke(monkeypatch, OUT_ROOT=root, **{RATE: "0.25", **example}) == 0
    run, lines = only_run(root)
    assert (run["tasks"], run["episodes"], sorted(line["sample"] for line in lines)) == (1, 8, list(range(8)))
    assert all("6 calls, 800 tokens, 20 actions" in line["messages"][0] for line in lines)
    used = [[record["usage"] for step in line["steps"] for record in step["records"]] for line in lines]
    assert all(sum(u["prompt_tokens"] + u["completion_tokens"] for u in usage) <= 800 for usage in used)
    assert any(line["budget_exhausted"] == "tokens" for line in lines)


def test_equal_variables_give_equal_episodes_and_another_seed_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for root, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert smoke(monkeypatch, OUT_ROOT=root, SEED=seed, **{RATE: "0.5"}) == 0
        found.append(sorted(map(json.dumps, only_run(root)[1])))
    assert found[0] == found[1] != found[2]
    assert Path("a/greedy_seed1").is_dir() and Path("c/greedy_seed2").is_dir()


def test_a_smoke_run_that_covers_no_repair_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke(monkeypatch, **{RATE: "1e-9"}) == 1
    assert "the repair path was not covered" in capsys.readouterr().err
    assert "greedy_seed42" in json.loads(Path("out/summary.json").read_text())["faults"][0]


def test_a_smoke_run_with_a_failed_episode_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke(monkeypatch, "env_kwargs.workers.failure_rate=1.0") == 1
    assert "8 episodes failed" in capsys.readouterr().err


def test_bad_plans_that_nobody_asked_for_are_a_fault() -> None:
    clean = {"masked": {"episodes": 0}, "episodes": 8}
    assert smoke_faults(RolloutSettings(), clean, Answers(8)) == []
    (fault,) = smoke_faults(RolloutSettings(), clean, Answers(9, repaired=1, invalid=1))
    assert fault.startswith("2 of 9 plans")


def test_masked_episodes_count_for_no_answer() -> None:
    assert count_answers([{"mask_sample": True, "steps": [{"action": PROSE}], "messages": ["task"]}]) == Answers()


# -- the dev slice -----------------------------------------------------------------------------------------------------


def test_a_dev_slice_is_billed_as_the_service_bills_and_leaves_no_key(
    service: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL", "openai:gpt-4.1-nano")
    monkeypatch.setenv("MAX_TASKS", "3")
    monkeypatch.setenv("SPLIT", "S_final_test")
    monkeypatch.setenv("OUT_ROOT", "out")
    assert main(["dev-slice", "concurrency=2"]) == 0
    run, lines = only_run()
    assert (run["episodes"], run["split"], run["policy"]) == (3, "test", "openai:gpt-4.1-nano")
    spent, billed = run["spent"], service.total()
    assert spent["workers"]["tokens"] + spent["orchestrator"]["tokens"] == billed.tokens > 0
    assert spent["workers"]["calls"] + spent["orchestrator"]["calls"] == billed.calls
    dollars = (billed.prompt_tokens * 0.1 + billed.completion_tokens * 0.4) / 1e6
    assert json.loads(Path("out/summary.json").read_text())["usd"] == pytest.approx(dollars)
    assert {body["model"] for body in service.bodies} == {"gpt-4.1-nano"}
    assert {body["temperature"] for body in service.bodies} == {0.0}
    said = capsys.readouterr()
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in written + said.out + said.err and len(lines) == 3


def test_a_dev_slice_stops_at_its_ceiling_and_goes_on(
    service: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUT_ROOT", "out")
    assert main(["dev-slice", "usd_ceiling=1e-9", "concurrency=1"]) == 3
    assert only_run()[0]["episodes"] == 1
    assert "OUT_ROOT=out nextstep dev-slice resume=true" in capsys.readouterr().out
    assert main(["dev-slice", "resume=true"]) == 0
    run, lines = only_run()
    assert run["episodes"] == len({line["task_id"] for line in lines}) == 8


def test_without_a_key_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev-slice"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err and not list(tmp_path.iterdir())


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [SMOKE, DEV_SLICE], ids=lambda script: script.name)
def test_variables_win_over_the_file_and_overrides_over_variables(script: Any) -> None:
    variables = {"SEED": "7", "MAX_TASKS": "5", "MAX_TOK": "900", "MAX_CALLS": "", "SPLIT": "S_policy_train"}
    _, (run,) = plan(script, {**variables, "OUT_ROOT": 'a "b"'}, ["seed=9", "env_kwargs.budget.steps=3"])
    settings = run.settings
    assert (settings.seed, settings.episodes, settings.split) == (9, 5, "train")
    assert settings.env_kwargs["budget"] == {"tokens": 900, "steps": 3}
    assert settings.out == str(Path('a "b"', "greedy_seed9"))
    untouched = compose_settings(script.config, RolloutSettings, [])
    assert (settings.concurrency, settings.policy) == (untouched.concurrency, untouched.policy)


@pytest.mark.parametrize(
    ("command", "variable", "value", "named"),
    [
        ("smoke", RATE, "1.5", "[0, 1]"),
        ("smoke", RATE, "often", "[0, 1]"),
        ("smoke", RATE, "nan", "[0, 1]"),
        ("smoke", FORCE, "yes", "'1'"),
        ("smoke", "SEED", "-1", "at least 0"),
        ("smoke", "MAX_STEPS", "0", "at least 1"),
        ("smoke", "MAX_TOK", "8e2", "whole number"),
        ("smoke", "MAX_CALLS", "six", "whole number"),
        ("dev-slice", "MAX_TASKS", "0", "at least 1"),
        ("dev-slice", "MODEL", "gpt-4.1-mini", "openai:gpt-4.1-mini"),
        ("smoke", "SPLIT", "dev", "S_policy_dev"),
        ("dev-slice", "METHODS", "greedy best", "'greedy'"),
        *(("smoke", "SPLIT", name, why) for name, why in NOT_BUILT.items() if name.startswith("S_")),
        *(("dev-slice", "METHODS", f"greedy {name}", why) for name, why in NOT_BUILT.items() if name.islower()),
        ("dev-slice", "RM_CHECKPOINT", "artifacts/models/rm_ensemble", "reward models are not built yet"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_nothing_is_made(
    command: str,
    variable: str,
    value: str,
    named: str,
    service: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert f"{variable}=" in said and named in said and "Traceback" not in said
    assert not list(tmp_path.iterdir()) and not service.requests


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("out=elsewhere", "OUT_ROOT"),
        ("policy=random", "'random'"),
        ("llm.temperature=0.7", "temperature 0"),
        ("epsiodes=3", "epsiodes"),
    ],
)
def test_overrides_that_contradict_the_script_are_errors(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        plan(SMOKE, {}, [override])


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev-slice", "--help"]) == 0
    assert "usd_ceiling: 1.0" in capsys.readouterr().out

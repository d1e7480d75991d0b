"""`nextstep rollout`: the same episodes whatever the concurrency, nothing lost or doubled, and a bill that adds up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from nextstep_agents.cli import main
from nextstep_agents.policies.scripted import FixedPlanPolicy
from nextstep_agents.rollouts.settings import RolloutSettings
from nextstep_agents.rollouts.stage import attempts, open_stage
from nextstep_envs.errors import ConfigError, DataError
from tests.agents.talker import PRICES, in_order, keys, run
from wrappers import RecordTrace
from wrappers.jsonl import read_lines

WORKFLOW = "NextStep/WebShop-Workflow-v0"
SLOW = "{workers: {kind: fake, latency_s: 0.02}}"  # so slow that a signal comes in the middle
COMMAND = (sys.executable, "-m", "nextstep_agents.cli", "rollout")


# -- what is played ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "interface"),
    [(WORKFLOW, "text"), (WORKFLOW, "vector"), ("NextStep/WebShop-DAG-v0", "vector"), ("NextStep/TierRouting-v0", "")],
)
def test_a_line_is_what_record_trace_writes(env: str, interface: str, tmp_path: Path) -> None:
    kwargs = f"{{interface: {interface}, workers: fake}}" if interface else "{}"
    run(tmp_path / "run", f"env={env}", f"env_kwargs={kwargs}", "episodes=12", "samples=2", "concurrency=5")
    written = (tmp_path / "run" / "episodes.jsonl").read_bytes().splitlines(keepends=True)

    made = gym.make(env, **({"interface": interface, "workers": "fake"} if interface else {}))
    recorded = RecordTrace(made, tmp_path / "trace.jsonl")
    for line in map(json.loads, written):
        recorded.reset(seed=line["seed"], options=line["options"])
        for step in line["steps"]:
            recorded.step(step["action"])
    assert (tmp_path / "trace.jsonl").read_bytes().splitlines(keepends=True) == written


def test_a_fixed_plan_is_played_as_the_policy_plays_it(tmp_path: Path) -> None:
    name = "planner.plan>tool.carry"
    _, lines = run(tmp_path, f'policy="{name}"', "episodes=5", "split=dev")
    assert all(step["action"] == FixedPlanPolicy(name).act("") for line in lines for step in line["steps"])


@pytest.mark.parametrize("env", ["NextStep/WebShop-v0", "NextStep/WebShop-Search-v0", "NextStep/RetryStop-v0"])
def test_chance_plays_every_kind_of_id(env: str, tmp_path: Path) -> None:
    summary, lines = run(tmp_path, f"env={env}", "episodes=6", "concurrency=3")
    assert summary["episodes"] == len(lines) == 6 and not summary["stopped"]
    assert all(line["terminated"] for line in lines)


def test_episodes_are_the_same_whatever_the_concurrency(tmp_path: Path) -> None:
    common = ("episodes=40", "samples=2", "env_kwargs={workers: {kind: fake, latency_s: 0.0005}}", "split=dev")
    _, alone = run(tmp_path / "alone", *common, "concurrency=1")
    _, many = run(tmp_path / "many", *common, "concurrency=40")
    assert keys(alone) != keys(many), "nothing ran side by side"
    assert in_order(alone) == in_order(many)


def test_every_task_comes_once_before_any_comes_again() -> None:
    settings = RolloutSettings(episodes=23, samples=2, seed=3)
    planned = attempts(settings, [str(i) for i in range(5)])
    tasks = [attempt.task_id for attempt in planned[::2]]
    assert [attempt.task_id for attempt in planned[1::2]] == tasks[:-1]
    assert sorted(tasks[:5]) == sorted(tasks[5:10]) == list("01234") and tasks[:5] != tasks[5:10]
    assert [attempt.sample for attempt in planned[:4]] == [0, 1, 0, 1]
    assert planned[0].seed == planned[1].seed != planned[2].seed
    assert attempts(RolloutSettings(episodes=9, samples=2, seed=3), [str(i) for i in range(5)]) == planned[:9]


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_the_summary_is_what_the_lines_say(tmp_path: Path) -> None:
    overrides = ("episodes=60", "samples=3", "env_kwargs={workers: {kind: fake, failure_rate: 0.02}}", "split=dev")
    summary, lines = run(tmp_path, *overrides)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    good = [line for line in lines if not line["mask_sample"]]
    assert 0 < len(good) < 60 == summary["episodes"] == summary["planned"]
    assert summary["masked"]["episodes"] == 60 - len(good)
    assert summary["masked"]["share"] == pytest.approx(1 - len(good) / 60)
    assert summary["masked"]["errors"] == {"the fake provider was told to fail": 60 - len(good)}
    by_task: dict[str, list[float]] = {}
    for line in good:
        by_task.setdefault(line["task_id"], []).append(line["outcome"]["score"])
    means = [sum(scores) / len(scores) for scores in by_task.values()]
    assert summary["tasks"] == len(means) <= 20
    outcome = summary["outcome"]
    assert outcome["mean"] == pytest.approx(sum(means) / len(means))
    assert outcome["low"] <= outcome["mean"] <= outcome["high"]
    assert summary["masked"]["outcome_if_failed"] == pytest.approx(sum(x["outcome"]["score"] for x in good) / 60)
    usage = [record["usage"] for line in lines for step in line["steps"] for record in step["records"]]
    assert summary["spent"]["workers"]["calls"] == sum(u["calls"] for u in usage) > 0
    assert summary["spent"]["usd"] == sum(u["usd_nano"] for u in usage) / 1e9
    assert summary["costs"]["mix"]["total"] == pytest.approx(sum(line["cost"] for line in lines))
    assert summary["wall_s"] > 0 and summary["cpu_s"] > 0


def test_progress_shows_the_bill_and_an_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "episodes=20", f"out={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr()
    assert "episodes 20/20" in said.err and "to come" in said.err and "s left" in said.err
    assert "20 of 20 episodes" in said.out and "spent $" in said.out and "outcome 0." in said.out


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from nextstep_agents.cli import main\n"
        f"raise SystemExit(main(['rollout', 'episodes=2', 'out={tmp_path / 'run'}']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(list(read_lines(tmp_path / "run" / "episodes.jsonl"))) == 2


# -- stopping and going on ---------------------------------------------------------------------------------------------


def test_a_run_goes_on_after_a_torn_line_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    common = ("episodes=20", "concurrency=4", "env_kwargs={workers: fake}")
    whole_summary, whole = run(tmp_path / "whole", *common)
    run(tmp_path / "part", *common)
    file = tmp_path / "part" / "episodes.jsonl"
    written = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(written[:7]) + written[7][:100])
    summary, lines = run(tmp_path / "part", *common, "resume=true")
    assert in_order(lines) == in_order(whole) and lines[:7] == [json.loads(line) for line in written[:7]]
    timing = ("out", "wall_s", "cpu_s")
    assert {k: v for k, v in summary.items() if k not in timing} == {
        k: v for k, v in whole_summary.items() if k not in timing
    }


def test_a_finished_run_can_be_made_longer_and_not_shorter(tmp_path: Path) -> None:
    run(tmp_path, "episodes=6")
    _, lines = run(tmp_path, "episodes=9", "resume=true", "concurrency=2")
    assert len(set(keys(lines))) == len(lines) == 9
    with pytest.raises(DataError, match="none of the 4 episodes"):
        run(tmp_path, "episodes=4", "resume=true")


def test_only_the_same_run_is_resumed(tmp_path: Path) -> None:
    run(tmp_path, "episodes=3")
    with pytest.raises(ConfigError, match="already holds a run"):
        run(tmp_path, "episodes=3")
    with pytest.raises(ConfigError, match=r"split='dev' \(was None\)"):
        run(tmp_path, "episodes=3", "split=dev", "resume=true")
    with pytest.raises(ConfigError, match="holds no run to resume"):
        run(tmp_path / "elsewhere", "episodes=3", "resume=true")
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path) -> None:
    run(tmp_path, "episodes=3")
    file = tmp_path / "episodes.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[0]]))
    with pytest.raises(DataError, match="line 4: the episode is there twice"):
        run(tmp_path, "episodes=3", "resume=true")
    file.write_text(lines[0] + "{half a line\n" + lines[1])
    with pytest.raises(DataError, match="line 2 is damaged"):
        run(tmp_path, "episodes=3", "resume=true")


def test_the_ceiling_begins_no_new_episode_and_lets_those_under_way_finish(tmp_path: Path) -> None:
    common = ("policy=general.shop", "episodes=60", "concurrency=4", "env_kwargs={workers: fake}")
    free, _ = run(tmp_path / "free", *common)
    each = free["spent"]["usd"] / 60
    ceiling = 10 * each
    summary, lines = run(tmp_path / "bounded", *common, f"usd_ceiling={ceiling}")
    assert summary["stopped"] == "usd_ceiling" and 0 < summary["episodes"] == len(lines) < 60
    dearest = max(sum(r["usage"]["usd_nano"] for s in x["steps"] for r in s["records"]) for x in lines) / 1e9
    assert ceiling <= summary["spent"]["usd"] <= ceiling + 4 * dearest
    assert all(line["terminated"] for line in lines)
    arguments = [*common, f"out={tmp_path / 'bounded'}", "resume=true"]
    assert main(["rollout", *arguments, f"usd_ceiling={ceiling}"]) == 3  # nothing new is begun
    assert len(list(read_lines(tmp_path / "bounded" / "episodes.jsonl"))) == len(lines)
    assert main(["rollout", *arguments, "usd_ceiling=null"]) == 0
    assert len(list(read_lines(tmp_path / "bounded" / "episodes.jsonl"))) == 60


def started(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """A run in a process of its own, with a few episodes behind it and many under way."""
    arguments = ["episodes=400", "concurrency=32", f"env_kwargs={SLOW}", f"out={folder}", *overrides]
    process = subprocess.Popen([*COMMAND, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(process, lambda: _lines(folder) >= 10)
    return process


def wait_for(process: subprocess.Popen[str], so_far: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not so_far():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _lines(folder: Path) -> int:
    file = folder / "episodes.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_nothing_is_lost_or_doubled_by_kills_at_any_moment(tmp_path: Path) -> None:
    folder, counts = tmp_path / "run", [0]
    while counts[-1] < 80:
        arguments = ["episodes=120", "concurrency=32", f"env_kwargs={SLOW}", f"out={folder}"]
        resume = ["resume=true"] if (folder / "settings.json").exists() else []
        process = subprocess.Popen([*COMMAND, *arguments, *resume], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(process, lambda: _lines(folder) >= counts[-1] + 20)  # type: ignore[arg-type]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        counts.append(_lines(folder))
    summary, lines = run(folder, "episodes=120", "concurrency=32", f"env_kwargs={SLOW}", "resume=true")
    assert len(counts) > 3 and counts == sorted(counts)
    assert len(lines) == len(set(keys(lines))) == 120 == summary["episodes"]
    _, expected = run(tmp_path / "whole", "episodes=120", "env_kwargs={workers: fake}")
    assert in_order(lines) == in_order(expected)


def test_the_first_ctrl_c_finishes_what_has_begun(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    summary, lines = json.loads((tmp_path / "summary.json").read_text()), list(read_lines(tmp_path / "episodes.jsonl"))
    assert summary["stopped"] == "interrupted" and summary["discarded_episodes"] == 0
    assert summary["episodes"] == len(lines) < 400 and all(line["terminated"] for line in lines)
    assert "are finished" in err and "resume=true" in out


@pytest.mark.parametrize(("times", "override"), [(1, "on_interrupt=discard"), (2, "on_interrupt=finish")])
def test_discarded_episodes_leave_nothing_but_their_bill(times: int, override: str, tmp_path: Path) -> None:
    process = started(tmp_path, override, "env_kwargs={workers: {kind: fake, latency_s: 0.3, latency_sigma: 0.1}}")
    said = ""
    for number in range(times):
        process.send_signal(signal.SIGINT)
        while number + 1 < times and "are finished" not in said:  # heard, so that the two do not become one
            assert process.stderr and (line := process.stderr.readline()), said
            said += line
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    summary, lines = json.loads((tmp_path / "summary.json").read_text()), list(read_lines(tmp_path / "episodes.jsonl"))
    assert summary["discarded_episodes"] > 0 and summary["spent"]["discarded"]["calls"] > 0
    assert summary["episodes"] == len(lines) and all(line["terminated"] for line in lines)
    bill = sum(r["usage"]["usd_nano"] for line in lines for s in line["steps"] for r in s["records"]) / 1e9
    assert summary["spent"]["usd"] == pytest.approx(bill + summary["spent"]["discarded"]["usd"])
    assert "Traceback" not in err and "discarded" in err


def test_what_was_spent_on_discarded_episodes_stays_spent(tmp_path: Path) -> None:
    first, _ = run(tmp_path, "episodes=4")
    lost = {"usd": 1.5, "tokens": 70.0, "calls": 3.0}
    first["spent"]["discarded"] = lost
    (tmp_path / "summary.json").write_text(json.dumps(first))
    again, _ = run(tmp_path, "episodes=5", "resume=true")
    assert again["spent"]["discarded"] == lost
    assert again["spent"]["usd"] == pytest.approx(1.5 + again["spent"]["workers"]["usd"])


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    process = started(tmp_path)
    with pytest.raises(ConfigError, match="another process"):
        run(tmp_path, "episodes=400", f"env_kwargs={SLOW}", "resume=true")
    process.kill()
    process.communicate()


# -- what is wrong is named --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["polcy=random"], "polcy"),
        (["episodes=some"], "some"),
        (["episodes=0"], "episodes=0"),
        (["concurrency=0"], "concurrency=0"),
        (["usd_ceiling=0"], "usd_ceiling=0"),
        (["on_interrupt=panic"], "'panic'"),
        (["resume=true"], "out="),
        (["policy=best.plan"], "'best.plan'"),
        (["policy=nowhere:model"], "'nowhere'"),
        (["policy=talker:x"], "llm.usd_per_mtok_in"),
        (["policy=talker:x", *PRICES, "llm.provider={bogus: 1}"], "'bogus'"),
        (["llm.usd_per_mtok_in=1"], "both or none"),
        (["policy=talker:x", *PRICES, "llm.replay=/no/such/file"], "/no/such/file"),
        (["env=NextStep/Nowhere-v0"], "NextStep/Nowhere-v0"),
        (["env=NextStep/WebShop-Team-v0"], "several agents"),
        (["env=NextStep/WebShop-DAG-v0", "policy=general.shop"], "a plan for Workflow"),
        (["env=NextStep/WebShop-DAG-v0", "env_kwargs={interface: text}"], "policy=random writes no texts"),
        (["env=NextStep/TierRouting-v0", "policy=talker:x", *PRICES], "takes numbers"),
        (["env=NextStep/TierRouting-v0", "split=dev"], "'split'"),
        (["split=dev", "env_kwargs={split: test}"], "env_kwargs.split='test'"),
        (["split=night"], "'night'"),
        (["env_kwargs={wrokers: fake}"], "'wrokers'"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(
    overrides: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rollout", *overrides]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--help"]) == 0
    assert "usd_ceiling: null" in capsys.readouterr().out


def test_the_text_interface_is_chosen_for_a_policy_that_writes() -> None:
    stage = open_stage(RolloutSettings(policy="general.shop"), wants_text=True)
    assert stage.text and stage.protocol == "workflow"
    stage.close()

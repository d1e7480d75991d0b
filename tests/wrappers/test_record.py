"""RecordCost sums what was paid; RecordTrace keeps every episode as one whole line."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics

from nextstep_agents.policies.scripted import PLANS, plan_text
from nextstep_envs.types import Allowance, Usage
from wrappers import RecordCost, RecordCostVector, RecordTrace
from wrappers.jsonl import append_line, plain, read_lines


def play(env: gym.Env[Any, Any], actions: tuple[int, ...] = (1, 2, 3, 4), **reset: Any) -> dict[str, Any]:
    env.reset(**reset)
    info: dict[str, Any] = {}
    for action in actions:
        *_, info = env.step(action)
    return info


def test_costs_are_summed_at_the_end_only(bill: gym.Env[Any, Any]) -> None:
    env = RecordCost(bill)
    for _ in range(2):  # the sums start again with every episode
        assert "episode" not in play(env, (1, 2, 3))
        *_, info = env.step(4)
        episode = info["episode"]
        assert (episode["r"], episode["l"], episode["c"]) == (1.0, 4, 10.0)
        np.testing.assert_array_equal(episode["costs"], [10.0, 30.0])
        assert episode["cost_terms"] == {"tokens": 10.0, "usd": 30.0, "calls": 4.0}


def test_costs_join_gymnasiums_statistics(bill: gym.Env[Any, Any]) -> None:
    episode = play(RecordCost(RecordEpisodeStatistics(bill)))["episode"]
    assert set(episode) == {"r", "l", "t", "c", "costs", "cost_terms"}
    assert (episode["r"], episode["l"], episode["c"]) == (1.0, 4, 10.0)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("statistics", [False, True])
def test_a_vector_sums_what_its_parts_sum(bill_id: str, mode: AutoresetMode, statistics: bool) -> None:
    many: Any = SyncVectorEnv([lambda: gym.make(bill_id)] * 3, autoreset_mode=mode)
    many = RecordCostVector(RecordVectorStatistics(many) if statistics else many)
    many.reset(seed=0)
    played: list[list[int]] = [[], [], []]
    rng, ended = np.random.default_rng(0), np.zeros(3, bool)
    episodes = 0
    for _ in range(14):
        if mode is AutoresetMode.DISABLED and ended.any():
            many.reset(options={"reset_mask": ended.copy()})
        actions = rng.integers(5, size=3)
        _, _, terminations, _, infos = many.step(actions)
        for i in range(3):
            if mode is not AutoresetMode.NEXT_STEP or not ended[i]:
                played[i].append(int(actions[i]))
        ended = terminations
        assert ("episode" in infos) == bool(ended.any())
        for i in np.flatnonzero(ended):
            mine, episode = played[i], infos["episode"]
            assert infos["_episode"][i] and set(episode) >= {"r", "l", "c", "costs", "cost_terms"}
            assert ("t" in episode) == statistics
            assert (episode["r"][i], episode["l"][i], episode["c"][i]) == (1.0, 4, sum(mine))
            assert episode["costs"][i].tolist() == [sum(mine), sum(a * a for a in mine)]
            assert episode["cost_terms"]["calls"][i] == sum(a > 0 for a in mine)
            played[i] = []
            episodes += 1
    assert episodes >= 6


def test_a_trace_holds_the_episode(bill_id: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.jsonl"
    env = RecordTrace(gym.make(bill_id), path)
    play(env, seed=5, options={"task_id": "7"})
    play(env)
    first, second = read_lines(path)
    assert (first["env_id"], first["task_id"], first["sample"], first["seed"]) == (bill_id, "7", 0, 5)
    assert first["options"] == {"task_id": "7"}
    assert (first["reward"], first["cost"]) == (1.0, 10.0)
    assert [step["action"] for step in first["steps"]] == [1, 2, 3, 4]
    assert [step["costs"] for step in first["steps"]] == [[1, 1], [2, 4], [3, 9], [4, 16]]
    record = first["steps"][1]["records"][0]
    assert record["output"] == "output 2" and record["step"]["subtask"] == "résumé"
    assert record["usage"]["prompt_tokens"] == 2
    assert first["terminated"] and not first["truncated"]
    assert first["outcome"] == {"score": 1.0, "success": True, "r_type": 0.5}
    assert second["seed"] is None


def test_a_trace_says_which_actions_were_invalid(tmp_path: Path) -> None:
    env = RecordTrace(gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="dev"), tmp_path / "t")
    play(env, ("no plan", plan_text(PLANS["general.shop"])), seed=0)
    env.close()
    (line,) = read_lines(tmp_path / "t")
    assert [step["invalid_action"] for step in line["steps"]] == [True, False]


def test_a_trace_shows_the_reward_of_its_place_in_the_stack(bill: gym.Env[Any, Any], tmp_path: Path) -> None:
    from wrappers import CostPenalty

    play(RecordTrace(CostPenalty(bill, 0.1), tmp_path / "t"))
    (line,) = read_lines(tmp_path / "t")
    assert line["reward"] == pytest.approx(0.0)  # 1 - 0.1 * 10


def test_an_abandoned_episode_is_written_and_marked(bill: gym.Env[Any, Any], tmp_path: Path) -> None:
    env = RecordTrace(bill, tmp_path / "t")
    play(env, (1, 2))
    env.reset()
    env.close()  # nothing happened since reset: nothing to write
    (line,) = read_lines(tmp_path / "t")
    assert len(line["steps"]) == 2
    assert not line["terminated"] and not line["truncated"] and "outcome" not in line


def test_a_step_after_the_end_is_refused(bill: gym.Env[Any, Any], tmp_path: Path) -> None:
    env = RecordTrace(bill, tmp_path / "t")
    play(env)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(0)


def test_a_torn_line_is_dropped_by_the_next_writer_and_by_readers(tmp_path: Path) -> None:
    path = tmp_path / "t"
    append_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "text": "' + b"x" * 200_000)  # a writer died here
    assert list(read_lines(path)) == [{"n": 1}]
    append_line(path, {"n": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"n": 1}, {"n": 3}]


def _append_for_ever(path: str, writer: int) -> None:
    n = 0
    while True:
        append_line(path, {"writer": writer, "n": n, "text": "x" * 100_000})
        n += 1


def test_killed_and_concurrent_writers_leave_whole_lines(tmp_path: Path) -> None:
    path, context = tmp_path / "t", multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_for_ever, args=(str(path), i), daemon=True) for i in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 5_000_000):
        time.sleep(0.01)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    append_line(path, {"writer": 9, "n": 0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]  # every line is whole
    assert len(lines) >= 50
    for index in range(2):
        mine = [line["n"] for line in lines if line["writer"] == index]
        assert mine == list(range(len(mine)))


def test_values_become_plain_data() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": (Usage(1), None), 3: [True]}
    written = plain(value)
    assert json.loads(json.dumps(written)) == written
    assert written["a"] == 0.5 and written["b"] == [0, 1] and written["3"] == [True]
    assert written["c"][0]["prompt_tokens"] == 1
    assert plain(Allowance(tokens=5))["tokens"] == 5


def test_what_is_not_data_is_refused_and_not_shown(tmp_path: Path) -> None:
    class Client:
        def __repr__(self) -> str:
            return "Client(key='secret')"

    with pytest.raises(TypeError, match="a Client cannot be written") as caught:
        append_line(tmp_path / "t", {"client": Client()})
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "t").exists()

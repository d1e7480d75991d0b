"""A run on each service, real models among them, replays byte for byte with the network blocked."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401
import wrappers
from tests.envs.providers.calling import clean_environment
from tests.servers.google_wire import GoogleServer
from tests.servers.llama import MODEL

BUDGET = {"steps": 2, "calls": 3, "call_tokens": 24, "tokens": 4000}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def play(workers: Any, trace: Path) -> bytes:
    """The trace of an episode of two steps."""
    env: Any = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="dev", workers=workers, budget=BUDGET)
    env = wrappers.RecordTrace(env, trace)
    env.reset(seed=3)
    for subtask, worker, access in (("Say which product {task} names.", "planning", []), ("Search.", "tool_use", [0])):
        step = env.step(json.dumps({"subtask": subtask, "worker_id": worker, "access_list": access}))
        if step[2] or step[3]:
            break
    env.close()
    return trace.read_bytes()


def check_replay(name: str, url: str, tool_calls: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record a run and replay it; its trace."""
    model = f"{name}:{MODEL}"
    workers = {
        "kind": "chat",
        "model": model,
        "models": {model: {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}},
        "providers": {name: {"base_url": url}},
        "tool_calls": tool_calls,
        "store": str(folder / "calls.sqlite"),
    }
    live = play(workers, folder / "live.jsonl")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a replay opened a connection")

    patch.setattr(socket.socket, "connect", refuse)
    assert play(f"replay:{folder / 'calls.sqlite'}", folder / "again.jsonl") == live
    trace: dict[str, Any] = json.loads(live)
    assert not trace["error"] and sum(record["usage"]["calls"] for step in trace["steps"] for record in step["records"])
    return trace


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_run_on_a_real_model_replays(
    name: str, llama_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its server does not call tools, so actions are to be JSON; what so small a model writes is its answer instead.
    url = llama_url + ("/v1" if name == "openai" else "")
    trace = check_replay(name, url, "json", tmp_path, monkeypatch)
    assert all(record["output"] for step in trace["steps"] for record in step["records"])


def test_a_run_on_google_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with GoogleServer() as server:
        check_replay("google", server.url, "native", tmp_path, monkeypatch)

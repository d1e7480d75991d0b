"""Chat workers through the official clients of three services, with tools of the world, the registry and a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import Request, Result
from nextstep_envs.types import StepRecord
from nextstep_envs.workers.chat_prompts import size
from tests.envs.providers.calling import clean_environment
from tests.servers.anthropic_wire import AnthropicServer
from tests.servers.google_wire import GoogleServer
from tests.servers.llama import llama_url  # noqa: F401  (a fixture)
from tests.servers.openai_like import OpenAIServer

for package in ("openai", "anthropic", "google.genai", "mcp"):
    pytest.importorskip(package, reason="needs the extras [providers] and [mcp]")

STDIO = {"command": sys.executable, "args": [str(Path(__file__).parents[1] / "tools" / "mcp_server.py"), "stdio"]}
STEP = json.dumps({"subtask": "find {task}", "worker_id": "clerk", "access_list": []})
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("search", {"words": "lamp"}),
    ("calculator", {"expression": "6 * 7"}),
    ("test__add", {"a": 40, "b": 2}),
    ("click", {"label": "back to search"}),
    ("click", {"button": "no such argument"}),
]
ANSWER = '{"answer": "42", "confidence": 0.75}'


def openai_reply(body: Any, _: Any) -> Any:
    if body["messages"][-1]["role"] == "tool":
        return ANSWER
    functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in CALLS]
    calls = [{"id": f"call_{i}", "type": "function", "function": made} for i, made in enumerate(functions)]
    return {"content": None, "tool_calls": calls}


def anthropic_reply(body: Any) -> Any:
    if body["messages"][-1]["content"][0]["type"] == "tool_result":
        return [{"type": "text", "text": ANSWER}]
    return [{"type": "tool_use", "id": f"toolu_{i}", "name": n, "input": a} for i, (n, a) in enumerate(CALLS)]


def google_reply(body: Any) -> Any:
    if "functionResponse" in body["contents"][-1]["parts"][0]:
        return [{"text": ANSWER}]
    return [{"functionCall": {"name": name, "args": arguments}} for name, arguments in CALLS]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    clean_environment(monkeypatch)
    for service in ("OPENAI", "ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{service}_API_KEY", "a-key-of-nobody")
    with ExitStack() as stack:
        yield {
            "openai": stack.enter_context(OpenAIServer(openai_reply)),
            "anthropic": stack.enter_context(AnthropicServer(anthropic_reply)),
            "google": stack.enter_context(GoogleServer(google_reply)),
        }


def play(workers: Any) -> StepRecord:
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="test", workers=workers)
    try:
        env.reset(seed=1)
        _, _, _, truncated, info = env.step(STEP)
        assert not truncated, info
        (record,) = info["records"]
    finally:
        env.close()
    assert isinstance(record, StepRecord)
    return record


@pytest.mark.parametrize("service", ["openai", "anthropic", "google"])
def test_tools_of_every_origin_in_one_reply_and_all_of_it_replayed(
    service: str, servers: dict[str, Any], tmp_path: Path
) -> None:
    server, path = servers[service], tmp_path / "calls.sqlite"
    clerk = {"worker_id": "clerk", "description": "", "usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}
    workers = {
        "kind": "chat",
        "pool": [{**clerk, "model": f"{service}:m"}],
        "providers": {service: {"base_url": server.url + ("/v1" if service == "openai" else "")}},
        "tools": ["calculator"],
        "mcp": {"test": STDIO},
        "store": str(path),
    }
    record = play(workers)
    assert (record.output, record.confidence, record.error, record.reformats) == ("42", 0.75, "", 1)
    assert [tool.call for tool in record.tools] == [
        "search[lamp]",
        'calculator({"expression": "6 * 7"})',
        'test__add({"a": 40, "b": 2})',
        "click[back to search]",
    ]
    assert [tool.observation for tool in record.tools[1:3]] == ["42", "42"]
    assert (record.usage.calls, record.usage.env_steps) == (2, 4) and record.usage.usd_nano > 0
    told = json.dumps(server.bodies[-1], ensure_ascii=False)
    assert "Total results" in told and "'label' is missing" in told and "Add two whole numbers" in told
    seen = len(server.bodies)
    assert play(f"replay:{path}") == record and len(server.bodies) == seen


def test_a_server_that_is_down_masks_the_sample(servers: dict[str, Any]) -> None:
    workers = {
        "kind": "chat",
        "model": "openai:m",
        "models": {"openai:m": {"usd_per_mtok_in": 1, "usd_per_mtok_out": 2}},
        "providers": {"openai": {"base_url": servers["openai"].url + "/v1"}},
        "mcp": {"gone": {"command": "/nonexistent/server"}},
    }
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="test", workers=workers)
    env.reset(seed=1)
    _, reward, terminated, truncated, info = env.step(STEP.replace("clerk", "planning"))
    env.close()
    assert (reward, terminated, truncated, info["mask_sample"]) == (0.0, False, True, True)
    assert "MCP server 'gone'" in info["error"]["message"] and servers["openai"].bodies == []


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [340])
def test_a_real_model_exceeds_its_budget_by_no_more_than_one_undercounted_prompt(
    tokens: int,
    llama_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean_environment(monkeypatch)
    workers = {
        "kind": "chat",
        "model": "openai:smollm2",
        "models": {"openai:smollm2": {"usd_per_mtok_in": 1, "usd_per_mtok_out": 2}},
        "providers": {"openai": {"base_url": f"{llama_url}/v1"}},
        "tool_calls": "json",
    }
    budget = {"tokens": tokens, "call_tokens": 48}
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="test", workers=workers, budget=budget)
    provider, undercounts = env.unwrapped.setup.crew.provider, [0]  # type: ignore[attr-defined]
    ask = provider.perform

    def perform(requests: Sequence[Request]) -> Sequence[Result]:
        results = ask(requests)
        for request, result in zip(requests, results, strict=True):
            counted = size(request.payload.messages, estimate_tokens) + request.payload.max_tokens
            undercounts.append(result.usage.tokens - counted)
        return results  # type: ignore[no-any-return]

    monkeypatch.setattr(provider, "perform", perform)
    env.reset(seed=2)
    _, _, terminated, truncated, info = env.step(STEP.replace("clerk", "tool_use"))
    env.close()
    (record,) = info["records"]
    over = record.usage.tokens - tokens
    assert not truncated and record.usage.calls == len(undercounts) - 1 >= 1
    assert over <= max(undercounts) and (over <= 0 or (terminated and record.error == "budget: tokens"))

"""Tool requests that functions answer: results, errors for the model, time-outs as outages."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError, MissingExtraError
from nextstep_envs.providers.tools import ToolProvider
from nextstep_envs.requests import ChatRequest, Request, Result, ToolRequest
from nextstep_envs.tools.functions import make_tool
from nextstep_envs.tools.mcp import read_servers
from nextstep_envs.types import Usage

released = threading.Event()


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def pair(a: str, b: str = "b") -> dict[str, str]:
    """Both texts."""
    return {"a": a, "b": b}


def fail() -> str:
    """Goes wrong."""
    raise ValueError("not like this")


def hang() -> str:
    """Answers when it is let go."""
    released.wait()
    return "at last"


async def later(text: str) -> str:
    """The text, after others had their turn."""
    await asyncio.sleep(0)
    return text


def odd() -> object:
    """Returns what is no data."""
    return object()


def half() -> str:
    """Half of a surrogate pair."""
    return "\ud83d!"


TOOLS = [make_tool(function.__name__, function) for function in (double, pair, fail, hang, later, odd, half)]


def ask(name: str, arguments: str, id: str = "0/0") -> Request:
    return Request(id, "tool", ToolRequest(name, arguments), 1)


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("double", '{"number": 4}', "8"),
        ("pair", '{"a": "x"}', '{"a": "x", "b": "b"}'),
        ("later", '{"text": "é"}', "é"),
        ("half", "{}", "?!"),
        ("fail", "{}", "error: ValueError: not like this"),
        ("double", '{"number": "four"}', "error: the argument 'number' must be of type integer"),
        ("double", '{"numbers": 4}', "error: the argument 'number' is missing"),
        ("double", "four", "error: the arguments must be one JSON object"),
        ("odd", "{}", "error: TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_a_call_is_answered_with_text_and_counts_as_one_action(name: str, arguments: str, value: str) -> None:
    provider = ToolProvider(TOOLS)
    expected = Result("0/0", value, Usage(env_steps=1))
    assert provider.perform([ask(name, arguments)]) == [expected]
    assert asyncio.run(provider.answer(ask(name, arguments))) == expected
    provider.close()


def test_a_batch_is_answered_in_order_and_side_by_side() -> None:
    released.clear()
    provider = ToolProvider([*TOOLS, make_tool("release", _release)])
    requests = [ask("hang", "{}", "0/0"), ask("release", "{}", "1/0"), ask("double", '{"number": 1}', "2/0")]
    results = provider.perform(requests)
    assert [(r.id, r.value) for r in results] == [("0/0", "at last"), ("1/0", "go"), ("2/0", "2")]
    provider.close()


def _release() -> str:
    """Lets the other go."""
    released.set()
    return "go"


def test_a_function_that_does_not_return_in_time_is_an_outage_and_holds_nobody_up() -> None:
    released.clear()
    provider = ToolProvider(TOOLS, timeout_s=0.05)
    (result,) = provider.perform([ask("hang", "{}")])
    assert result == Result("0/0", error="tool 'hang' did not answer within 0.05 s")
    assert provider.perform([ask("double", '{"number": 2}')])[0].value == "4"
    provider.close()
    released.set()  # what was left behind ends after the loop has gone


def test_a_cancelled_call_leaves_the_provider_in_order() -> None:
    released.clear()
    provider = ToolProvider(TOOLS)

    async def give_up() -> Any:
        waiting = asyncio.create_task(provider.answer(ask("hang", "{}")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await provider.answer(ask("double", '{"number": 3}'))

    assert asyncio.run(give_up()).value == "6"
    released.set()
    provider.close()


def test_after_closing_it_can_be_used_again_and_closing_twice_is_fine() -> None:
    provider = ToolProvider(TOOLS)
    provider.close()
    assert provider.perform([ask("double", json.dumps({"number": 5}))])[0].value == "10"
    provider.close()
    provider.close()


FORK = """
import time
import asyncio, multiprocessing, threading
from tests.envs.tools.test_tool_provider import TOOLS, ToolProvider, ask

provider, request = ToolProvider(TOOLS), ask("double", '{"number": 3}')

def works():
    return provider.perform([request])[0].value == "6" and asyncio.run(provider.answer(request)).value == "6"

def settles(count):
    until = time.monotonic() + 20
    while threading.active_count() != count and time.monotonic() < until:
        time.sleep(0.01)
    return threading.active_count() == count

def child(close):
    assert works() and settles(2)
    if close:
        provider.close()
        assert settles(1)

assert works()
for close in (True, False):
    process = multiprocessing.get_context("fork").Process(target=child, args=(close,), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    assert works()
provider.close()
assert settles(1)
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_runs_a_loop_of_its_own_and_leaves_its_parents_alone() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("fine\n", "")


def test_what_nobody_could_answer_is_a_mistake_in_the_wiring() -> None:
    provider = ToolProvider(TOOLS)
    with pytest.raises(ConfigError, match="no tool or MCP server 'docs'.*double"):
        provider.perform([ask("docs__find", "{}")])
    with pytest.raises(ConfigError, match="not 'chat'"):
        provider.perform([Request("0/0", "chat", ChatRequest("m", (), 1), 1)])
    provider.close()


@pytest.mark.parametrize("timeout_s", [0, -1, "3", True, None])
def test_a_bad_timeout_is_named(timeout_s: Any) -> None:
    with pytest.raises(ConfigError, match="timeout_s="):
        ToolProvider(TOOLS, timeout_s=timeout_s)


def test_servers_without_the_client_are_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"MCP servers needs 'mcp': pip install 'nextstep-envs\[mcp\]'"):
        read_servers({"docs": {"url": "http://127.0.0.1:1/mcp"}})
    assert read_servers({}) == ()

"""Tools of MCP servers: a real server by standard input and output and by HTTP, alive, slow, dead and absent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.tools import ToolProvider
from nextstep_envs.requests import Request, Result, ToolRequest
from nextstep_envs.tools.listing import read_specs
from nextstep_envs.tools.mcp import McpServer, read_servers
from nextstep_envs.types import Usage

pytest.importorskip("mcp", reason="needs the extra [mcp]")

SERVER = str(Path(__file__).with_name("mcp_server.py"))
STDIO = {"command": sys.executable, "args": [SERVER, "stdio"]}
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def stdio() -> Iterator[ToolProvider]:
    provider = ToolProvider((), read_servers({"test": STDIO}), PATIENCE_S)
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, SERVER, "http", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


def call(provider: ToolProvider, tool: str, **arguments: Any) -> Result:
    return provider.perform([Request("0/0", "tool", ToolRequest(tool, json.dumps(arguments)), 1)])[0]


def listing(provider: ToolProvider, server: str = "test") -> Result:
    return provider.perform([Request("0/0", "tool", ToolRequest(server, ""), 1)])[0]


def test_a_server_tells_its_tools_and_asking_costs_nothing(stdio: ToolProvider) -> None:
    result = listing(stdio)
    specs = {spec.name: spec for spec in read_specs(result.value)}
    assert result.usage == Usage() and not result.error
    assert {"test__add", "test__shout_loud", "test__fail"} <= specs.keys()
    assert specs["test__add"].description.startswith("Add two whole numbers.")
    assert json.loads(specs["test__add"].schema)["required"] == ["a", "b"]


def test_a_tool_of_a_server_answers_with_text(stdio: ToolProvider) -> None:
    assert call(stdio, "test__add", a=2, b=3) == Result("0/0", "5", Usage(env_steps=1))
    assert call(stdio, "test__shout_loud", text="é").value == "É!"  # its own name, "shout.loud", no model could write


def test_what_a_server_finds_wrong_is_told_to_the_model(stdio: ToolProvider) -> None:
    for result in (call(stdio, "test__fail"), call(stdio, "test__nothing"), call(stdio, "test__add", a="x", b=1)):
        assert not result.error and result.value.startswith("error: ") and result.usage == Usage(env_steps=1)


def test_many_calls_at_once_get_their_own_answers(stdio: ToolProvider) -> None:
    requests = [Request(f"{i}/0", "tool", ToolRequest("test__add", json.dumps({"a": i, "b": i})), i) for i in range(50)]
    assert [result.value for result in stdio.perform(requests)] == [str(2 * i) for i in range(50)]

    async def side_by_side() -> list[Result]:
        return list(await asyncio.gather(*map(stdio.answer, requests)))

    assert [result.value for result in asyncio.run(side_by_side())] == [str(2 * i) for i in range(50)]


def test_one_server_process_serves_every_loop_and_thread(stdio: ToolProvider) -> None:
    request = Request("0/0", "tool", ToolRequest("test__process", "{}"), 1)
    processes = {stdio.perform([request])[0].value, *(asyncio.run(stdio.answer(request)).value for _ in range(2))}
    assert len(processes) == 1 and int(processes.pop()) != os.getpid()


def test_a_server_that_dies_is_an_outage_and_is_started_again(stdio: ToolProvider) -> None:
    before = call(stdio, "test__process").value
    result = call(stdio, "test__die")
    assert result.value is None and result.usage == Usage() and "MCP server 'test'" in result.error
    assert call(stdio, "test__process").value != before
    os.kill(int(call(stdio, "test__process").value), signal.SIGKILL)  # between two calls
    assert call(stdio, "test__add", a=1, b=1).error and call(stdio, "test__add", a=1, b=1).value == "2"


FORK = """
import gc, multiprocessing, sys
from nextstep_envs.providers.tools import ToolProvider
from nextstep_envs.requests import Request, ToolRequest
from nextstep_envs.tools.mcp import read_servers

provider = ToolProvider((), read_servers({"test": {"command": sys.executable, "args": [sys.argv[1], "stdio"]}}), 30.0)

def process():
    return provider.perform([Request("0/0", "tool", ToolRequest("test__process", "{}"), 1)])[0].value

def child(told):
    told.put(process())
    gc.collect()  # what it has of its parent's is not to be ended

fork = multiprocessing.get_context("fork")
mine, told = process(), fork.Queue()
forked = fork.Process(target=child, args=(told,))
forked.start()
assert told.get(timeout=60) != mine
forked.join(60)
assert forked.exitcode == 0 and process() == mine
provider.close()
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_starts_a_server_of_its_own_and_leaves_its_parents_alone() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, SERVER]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=4 * PATIENCE_S)
    assert (ended.stdout, ended.stderr) == ("fine\n", "")


def test_a_call_that_takes_too_long_is_an_outage_and_others_go_on() -> None:
    provider = ToolProvider((), read_servers({"test": STDIO}), timeout_s=6.0)
    listing(provider)
    requests = [
        Request("0/0", "tool", ToolRequest("test__wait", '{"seconds": 60}'), 1),
        Request("1/0", "tool", ToolRequest("test__add", '{"a": 1, "b": 2}'), 1),
    ]
    slow, quick = provider.perform(requests)
    assert slow.error.endswith("did not answer within 6 s") and slow.value is None and quick.value == "3"
    provider.close()


@pytest.mark.parametrize(
    ("server", "timeout_s", "why"),
    [
        ({"command": "/nonexistent/server"}, PATIENCE_S, "No such file"),
        ({"command": sys.executable, "args": ["-c", "raise SystemExit(1)"]}, PATIENCE_S, "could not be reached"),
        ({"command": sys.executable, "args": ["-c", "print('hello')"]}, PATIENCE_S, "could not be reached"),
        ({"command": sys.executable, "args": ["-c", "import time; time.sleep(60)"]}, 0.2, "no answer in time"),
        ({"url": "http://127.0.0.1:9/mcp"}, PATIENCE_S, "could not be reached"),
    ],
)
def test_a_server_that_cannot_be_reached_is_an_outage(server: dict[str, Any], timeout_s: float, why: str) -> None:
    provider = ToolProvider((), read_servers({"away": server}), timeout_s)
    for _ in range(2):
        result = listing(provider, "away")
        assert "MCP server 'away'" in result.error and why in result.error and result.value is None
    provider.close()


def test_a_server_by_http(http: str) -> None:
    provider = ToolProvider((), read_servers({"web": {"url": http}}), PATIENCE_S)
    assert "web__add" in [spec.name for spec in read_specs(listing(provider, "web").value)]
    assert call(provider, "web__add", a=20, b=3).value == "23"
    provider.close()
    assert call(provider, "web__add", a=1, b=3).value == "4"  # closing only disconnects
    provider.close()


def test_closing_ends_the_server_that_was_started() -> None:
    provider = ToolProvider((), read_servers({"test": STDIO}), PATIENCE_S)
    process = int(call(provider, "test__process").value)
    provider.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_server_gets_the_variables_it_is_promised_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCS_TOKEN", "not-for-everyone")
    monkeypatch.setenv("OTHER_TOKEN", "not-for-anyone")
    servers = read_servers({"test": {**STDIO, "env": ["DOCS_TOKEN"]}})
    assert "not-for" not in repr(servers)
    provider = ToolProvider((), servers, PATIENCE_S)
    assert call(provider, "test__variable", name="DOCS_TOKEN").value == "not-for-everyone"
    assert call(provider, "test__variable", name="OTHER_TOKEN").value == "not set"
    provider.close()


def test_a_token_is_sent_to_the_address_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCS_TOKEN", "hush-hush-hush")
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        servers = read_servers({"web": {"url": url, "token": "DOCS_TOKEN"}})
        provider = ToolProvider((), servers, timeout_s=2.0)

        async def visit() -> Result:
            waiting = asyncio.create_task(provider.answer(Request("0/0", "tool", ToolRequest("web", ""), 1)))
            connection, _ = await asyncio.to_thread(listener.accept)
            heard.extend(await asyncio.to_thread(connection.recv, 65536))
            connection.close()
            return await waiting

        result = asyncio.run(visit())
        provider.close()
    assert b"Bearer hush-hush-hush" in heard and result.error and "hush" not in result.error + repr(servers)


@pytest.mark.parametrize(
    ("servers", "match"),
    [
        (["x"], "must map names to servers"),
        ({"a__b": STDIO}, "'a__b'.*name"),
        ({"": STDIO}, "name"),
        ({3: STDIO}, "name"),
        ({"a": "python"}, "mapping with `command` or `url`"),
        ({"a": {}}, "either a `command` or a `url`"),
        ({"a": {"command": "x", "url": "http://x"}}, "either"),
        ({"a": {"command": ["x", "y"]}}, "command=.*must be a text"),
        ({"a": {"command": "x", "args": "y"}}, "args='y' must be a list"),
        ({"a": {"command": "x", "env": {"KEY": "secret"}}}, "names of variables, not their values"),
        ({"a": {"command": "x", "port": 3}}, "no setting 'port'"),
        ({"a": {"url": "ftp://x"}}, "must look like"),
        ({"a": {"url": "http://me:pw@x"}}, "no password"),
        ({"a": {"url": "http://x", "token": "NO_SUCH_TOKEN"}}, "needs the variable NO_SUCH_TOKEN"),
        ({"a": {"command": "x", "env": ["NO_SUCH_TOKEN"]}}, "needs the variable NO_SUCH_TOKEN"),
    ],
)
def test_a_wrong_setting_of_a_server_is_named_without_its_secrets(servers: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        read_servers(servers)
    assert "pw" not in str(caught.value) and "secret'" not in str(caught.value)


def test_settings_become_plain_data() -> None:
    servers = read_servers({"a": {**STDIO, "cwd": "/tmp"}, "b-1": {"url": "https://example.org/mcp"}})
    assert servers == (
        McpServer("a", sys.executable, (SERVER, "stdio"), "/tmp"),
        McpServer("b-1", url="https://example.org/mcp"),
    )

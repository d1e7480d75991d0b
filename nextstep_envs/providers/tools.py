"""Answers tool requests: runs registered functions, and asks MCP servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.loop import BackgroundLoop
from nextstep_envs.requests import Request, Result, ToolRequest
from nextstep_envs.tools.arguments import fault, read_arguments
from nextstep_envs.tools.functions import SEPARATOR, Tool
from nextstep_envs.tools.listing import write_specs
from nextstep_envs.tools.mcp import McpServer, McpSession, ServerDown
from nextstep_envs.types import Usage

TIMEOUT_S = 30.0


class ToolProvider:
    """A `Provider` for requests of the kind "tool".

    A call counts as one action (`env_steps`), a list of tools as nothing. What a tool reports or raises is its answer,
    as text that starts with "error: ", for the model to read. A tool or server that does not answer in time, or a
    server that has died, is an outage: that depends on the machine, not on the model. Calls are never repeated, since
    they may have effects.

    Servers are connected to at first use, on an event loop of this provider's own, so there is one of each whoever
    calls, from whatever loop or thread. A forked process starts its own.

    Args:
        tools: registered functions.
        servers: MCP servers.
        timeout_s: of each call, and of connecting to a server.
    """

    def __init__(
        self, tools: Sequence[Tool] = (), servers: Sequence[McpServer] = (), timeout_s: float = TIMEOUT_S
    ) -> None:
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s > 0:
            raise ConfigError(f"timeout_s={timeout_s!r} must be a number of seconds > 0")
        self.timeout_s = timeout_s
        self._tools: Mapping[str, Tool] = {tool.spec.name: tool for tool in tools}
        self._servers = tuple(servers)
        # By process id. A forked child inherits its parent's entry, which it must neither use nor finalize.
        self._sites: dict[int, _Site] = {}

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order."""
        return self._site().loop.run(self._all(requests))

    async def answer(self, request: Request) -> Result:
        """The result of one request."""
        return await self._site().loop.wait(self._answer(request))

    def close(self) -> None:
        """Disconnect from servers and end those that were started; the next call connects again."""
        site = self._site()
        if any(session.connected for session in site.sessions.values()):
            site.loop.run(site.disconnect())
        site.loop.close()

    def _site(self) -> _Site:
        pid = os.getpid()
        site = self._sites.get(pid)
        return site or self._sites.setdefault(pid, _Site(self._servers, self.timeout_s))

    async def _all(self, requests: Sequence[Request]) -> list[Result]:
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Result:
        asked = request.payload
        if not isinstance(asked, ToolRequest):
            raise ConfigError(f"the tool provider answers tool requests, not {request.kind!r}")
        try:
            if not asked.arguments:
                return Result(request.id, write_specs(await self._session(asked.name).specs()))
            text = await self._call(asked)
            # Halves of surrogate pairs, which no service takes, become "?".
            return Result(request.id, text.encode("utf-8", "replace").decode(), Usage(env_steps=1))
        except ServerDown as error:
            return Result(request.id, error=str(error))
        except TimeoutError:
            return Result(request.id, error=f"tool {asked.name!r} did not answer within {self.timeout_s:g} s")

    async def _call(self, asked: ToolRequest) -> str:
        arguments = read_arguments(asked.arguments)
        if arguments is None:
            return "error: the arguments must be one JSON object"
        if asked.name not in self._tools:
            return await self._session(asked.name.partition(SEPARATOR)[0]).call(asked.name, arguments)
        tool = self._tools[asked.name]
        if wrong := fault(tool.spec.schema, arguments):
            return f"error: {wrong}"
        try:
            value = await asyncio.wait_for(_run(tool, arguments), self.timeout_s)
            return value if isinstance(value, str) else json.dumps(value)
        except TimeoutError:
            raise
        except Exception as error:
            return f"error: {type(error).__name__}: {error}"

    def _session(self, name: str) -> McpSession:
        sessions = self._site().sessions
        if name not in sessions:
            known = [*self._tools, *sessions]
            raise ConfigError(f"there is no tool or MCP server {name!r}; there are: {', '.join(known) or 'none'}")
        return sessions[name]


class _Site:
    """All that changes, of one process."""

    def __init__(self, servers: Sequence[McpServer], timeout_s: float) -> None:
        self.loop = BackgroundLoop()
        self.sessions = {server.name: McpSession(server, timeout_s) for server in servers}

    async def disconnect(self) -> None:
        await asyncio.gather(*(session.close() for session in self.sessions.values()))


async def _run(tool: Tool, arguments: Mapping[str, Any]) -> Any:
    """Run a function in a thread of its own, which a time-out leaves behind: a daemon, so that it holds up no exit."""
    if asyncio.iscoroutinefunction(tool.run):
        return await tool.run(**arguments)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: Exception | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(value)

    def work() -> None:
        value, error = None, None
        try:
            value = tool.run(**arguments)
        except Exception as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name=f"tool {tool.spec.name}", daemon=True).start()
    return await future

"""Tools of MCP servers (modelcontextprotocol.io), over standard input and output of a command or over HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nextstep_envs.errors import ConfigError, MissingExtraError, NextStepError
from nextstep_envs.providers.secrets import find_secret, redact
from nextstep_envs.requests import ToolSpec
from nextstep_envs.tools.functions import SEPARATOR

_NAME = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")  # without the separator
_MODEL_NAME = 64  # characters of a tool's name that every provider accepts


class ServerDown(NextStepError):
    """A server did not start, has ended, or did not answer in time."""


@dataclass(frozen=True)
class McpServer:
    """Where a server is, as plain data without secrets.

    Attributes:
        name: its tools are called "<name>__<tool>".
        command, args, cwd: what to start, and where; the server speaks over standard input and output.
        env: names of variables (or of entries of the secrets file) that the command is given, beside PATH and the like.
        url: address of a server that speaks streamable HTTP, instead of a command.
        token: name of the variable (or entry of the secrets file) with the bearer token for that address; "" for none.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: tuple[str, ...] = ()
    url: str = ""
    token: str = ""


def read_servers(servers: Mapping[str, Any]) -> tuple[McpServer, ...]:
    """The servers that a crew's `mcp` describes: by name, a mapping with `command` or `url`.

    Raises:
        ConfigError: a name or a setting that is wrong, or a variable that is not set. Settings must hold no secrets,
            only the names of variables.
        MissingExtraError: the client is not installed.
    """
    if not isinstance(servers, Mapping):
        raise ConfigError(f"mcp={servers!r} must map names to servers: {{'files': {{'command': ..., 'args': [...]}}}}")
    found = tuple(_server(name, entry) for name, entry in servers.items())
    if found and importlib.util.find_spec("mcp") is None:
        raise MissingExtraError("mcp", "mcp", "calling tools of MCP servers")
    return found


def _server(name: Any, entry: Any) -> McpServer:
    where = f"mcp[{name!r}]"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a server's name has letters and digits, and single '_' or '-' between them")
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a mapping with `command` or `url`")
    texts, lists = ("command", "cwd", "url", "token"), ("args", "env")
    for key, value in entry.items():
        if key not in (*texts, *lists):
            raise ConfigError(f"{where}: there is no setting {key!r}; choose from {', '.join((*texts, *lists))}")
        if key == "env" and isinstance(value, Mapping):
            raise ConfigError(f"{where}: env must list names of variables, not their values, which may be secret")
        if key in texts and not isinstance(value, str):
            raise ConfigError(f"{where}: {key}={value!r} must be a text")
        if key in lists and not (isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)):
            raise ConfigError(f"{where}: {key}={value!r} must be a list of texts")
    if ("command" in entry) == ("url" in entry):
        raise ConfigError(f"{where} needs either a `command` or a `url`")
    if "url" in entry:
        _check_url(where, entry["url"])
    settings: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in entry.items()}
    server = McpServer(name, **settings)
    for variable in (*server.env, *([server.token] if server.token else [])):
        if find_secret(variable) is None:
            raise ConfigError(f"{where} needs the variable {variable}: set it, or name it in the secrets file")
    return server


def _check_url(where: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ConfigError(f"{where}: a url must hold no password; put a token in a variable and name it as `token`")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{where}: url={url!r} must look like 'http://host:port/mcp'")


class McpSession:
    """The connection to one server: opened when first needed, opened anew after the server has ended.

    It belongs to one event loop. Whatever the server remembers is shared by all that call it, so its tools should not
    depend on calls before.

    Args:
        server: where it is.
        timeout_s: of connecting, and of each call.
    """

    def __init__(self, server: McpServer, timeout_s: float) -> None:
        self.server, self.timeout_s = server, timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop: asyncio.Event | None = None  # of the newest connection
        self._ready: asyncio.Future[Any]
        self._specs: tuple[ToolSpec, ...] | None = None
        self._names: dict[str, str] = {}

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or one being made or ended."""
        return bool(self._tasks)

    async def specs(self) -> tuple[ToolSpec, ...]:
        """The server's tools, in its order, as it told when it was first asked.

        Raises:
            ServerDown: it cannot be asked, or two of its tools have names that models could not tell apart.
        """
        from mcp import MCPError

        if self._specs is not None:
            return self._specs
        client, found, cursor = await self._client(), [], None
        while True:
            try:
                page = await self._asked(client.list_tools(cursor=cursor))
            except MCPError as error:
                raise self._down(f"does not list its tools: {redact(str(error))}") from None
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        names = [self._name(tool.name) for tool in found]
        if len(set(names)) < len(names):
            raise self._down(f"has tools whose names differ only in what models cannot write: {', '.join(names)}")
        self._names = {name: tool.name for name, tool in zip(names, found, strict=True)}
        self._specs = tuple(
            ToolSpec(name, " ".join((tool.description or tool.name).split()), json.dumps(tool.input_schema))
            for name, tool in zip(names, found, strict=True)
        )
        return self._specs

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What a tool answers, as text; an error that the server reports starts with "error: ".

        Args:
            name: as in `specs`, with the server's name before it.
            arguments: by name.

        Raises:
            ServerDown: the server has ended or does not answer in time.
        """
        from mcp import MCPError

        await self.specs()
        client = await self._client()
        try:
            answer = await self._asked(client.call_tool(self._names.get(name, name), dict(arguments)))
        except MCPError as error:
            return f"error: {redact(str(error))}"
        text = "\n".join(_text(part) for part in answer.content)
        if not text and answer.structured_content is not None:
            text = json.dumps(answer.structured_content)
        return f"error: {text}" if answer.is_error else text

    async def close(self) -> None:
        """Disconnect, and end a server that was started. Idempotent."""
        if self._stop is not None:
            self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _name(self, tool: str) -> str:
        return re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.server.name}{SEPARATOR}{tool}")[:_MODEL_NAME]

    async def _asked(self, coroutine: Any) -> Any:
        """The answer of a server that works; what it finds wrong with the call stays an `MCPError`."""
        from mcp import MCPError
        from mcp.types import REQUEST_TIMEOUT

        stop = self._stop
        try:
            return await coroutine
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise self._down(f"did not answer within {self.timeout_s:g} s") from None
            if error.code not in _broken():
                raise
            failure = f"has failed: {redact(str(error))}"
        except Exception as error:
            failure = f"has failed: {type(error).__name__}"
        if stop is not None:
            stop.set()  # the next call connects anew
        raise self._down(failure)

    async def _client(self) -> Any:
        if self._stop is None or self._stop.is_set():
            self._stop, self._ready = asyncio.Event(), asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._serve(self._ready, self._stop))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._ready)

    async def _serve(self, ready: asyncio.Future[Any], stop: asyncio.Event) -> None:
        """Hold a connection open: a client must be left by the task that entered it."""
        try:
            async with AsyncExitStack() as stack, asyncio.timeout(self.timeout_s) as limit:
                client = await stack.enter_async_context(await self._connection(stack))
                limit.reschedule(None)
                ready.set_result(client)
                await stop.wait()
        except Exception as error:
            stop.set()
            if not ready.done():
                ready.set_exception(self._down(f"could not be reached: {redact(_cause(error))}"))
                ready.exception()  # whoever waits is told; if nobody does any more, that is no error

    async def _connection(self, stack: AsyncExitStack) -> Any:
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        server = self.server
        if server.url:
            headers = {"Authorization": f"Bearer {find_secret(server.token)}"} if server.token else {}
            # How long an answer may take is bounded call by call.
            patience = httpx2.Timeout(self.timeout_s, read=None)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=patience))
            transport = streamable_http_client(server.url, http_client=http)
        else:
            env = {name: find_secret(name) or "" for name in server.env}
            started = StdioServerParameters(command=server.command, args=list(server.args), env=env, cwd=server.cwd)
            # What a server prints may hold anything, its variables included, so it goes nowhere.
            silent = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115
            transport = stdio_client(started, errlog=silent)
        return Client(transport, read_timeout_seconds=self.timeout_s)

    def _down(self, what: str) -> ServerDown:
        where = urlsplit(self.server.url).netloc or self.server.command  # what else is there may be private
        return ServerDown(f"MCP server {self.server.name!r} ({where}) {what}")


def _broken() -> tuple[int, ...]:
    """Codes of errors that are the server's own, whatever it was asked."""
    from mcp import types

    return (
        types.CONNECTION_CLOSED,
        types.INTERNAL_ERROR,
        types.INVALID_REQUEST,
        types.METHOD_NOT_FOUND,
        types.PARSE_ERROR,
    )


def _text(part: Any) -> str:
    if part.type == "text":
        return str(part.text)
    text = getattr(getattr(part, "resource", None), "text", None)
    return f"[{part.type} left out]" if text is None else str(text)


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

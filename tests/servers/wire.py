"""HTTP/1.1 in plain asyncio, and a server that lives in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
JSON = "application/json"


class Message(NamedTuple):
    """An HTTP request or response: its first line in three parts, headers by lower-case name, body."""

    start: tuple[str, str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start[1])


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message with a Content-Length (or no body); None where the peer has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = first.split(" ", 2)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Message((parts[0], parts[1], parts[2] if len(parts) > 2 else ""), headers, body)


def response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response; JSON unless `headers` names another content type."""
    given = {"content-type": JSON, "content-length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n{lines}\r\n".encode("latin-1") + body


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response that carries JSON."""
    return response(status, json.dumps(value).encode(), headers)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the peer sees a connection reset, not an end."""
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """Listens on a free loopback port in a thread with its own event loop; a context manager.

    Subclasses say in `converse` what happens on one connection.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=type(self).__name__, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError(f"{type(self).__name__} did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError(f"{type(self).__name__} did not stop")

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        raise NotImplementedError

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        open_now: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            open_now.add(task)
            try:
                await self.converse(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the peer has gone, or the server is stopping
            finally:
                open_now.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(converse, "127.0.0.1", self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tuple(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

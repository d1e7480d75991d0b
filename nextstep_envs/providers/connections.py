"""Connections for thousands of calls at once."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2

CALLS = 16  # at once in one pool


@dataclass(eq=False, slots=True)
class Pool:
    """A client with a pool of its own, and how many calls it has under way."""

    client: httpx2.AsyncClient
    calls: int = 0


class Connections(httpx2.AsyncClient):
    """An HTTP client for the official libraries that spreads its calls over many small pools of connections.

    A pool looks at all of its connections whenever a call begins or ends: with 500 under way that takes longer than
    everything else about a call. There are as many pools as are needed and no other limits: a gateway bounds calls.

    Redirects are not followed, since they could carry an API key to another host.
    """

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {
            "verify": ssl_context(),
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            "follow_redirects": False,
            "timeout": None,
        }
        super().__init__(**self._settings)
        self._pools: list[Pool] = []

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request over the first pool that has room."""
        pool = next((pool for pool in self._pools if pool.calls < CALLS), None)
        if pool is None:
            pool = Pool(httpx2.AsyncClient(**self._settings))
            self._pools.append(pool)
        pool.calls += 1
        try:
            return await pool.client.send(request, **options)
        finally:
            pool.calls -= 1

    async def aclose(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.client.aclose()
        await super().aclose()


@cache
def ssl_context() -> ssl.SSLContext:
    """The library's own; made once, as it takes longer than hundreds of clients."""
    return httpx2.create_ssl_context()

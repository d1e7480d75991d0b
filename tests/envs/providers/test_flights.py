"""Calls under way are shared within a process, and never with the one it was forked from."""

from __future__ import annotations

import asyncio
import os

import pytest

from nextstep_envs.providers.flights import Flights
from nextstep_envs.requests import Result


def test_a_forked_process_waits_for_no_call_of_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    flights, parent, landed = Flights(), os.getpid(), asyncio.Event()

    async def from_parent() -> Result:
        await landed.wait()
        return Result("0/0", "the parent's")

    async def from_child() -> Result:
        return Result("0/0", "the child's")

    async def main() -> None:
        waiting = asyncio.create_task(flights.join("key", "0/0", from_parent))
        await asyncio.sleep(0)
        monkeypatch.setattr("nextstep_envs.providers.flights.os.getpid", lambda: -1)
        async with asyncio.timeout(20):
            assert (await flights.join("key", "1/0", from_child)).value == "the child's"
        monkeypatch.setattr("nextstep_envs.providers.flights.os.getpid", lambda: parent)
        sharing = asyncio.create_task(flights.join("key", "2/0", from_child))
        await asyncio.sleep(0)
        landed.set()
        assert await sharing == Result("2/0", "the parent's") and await waiting == Result("0/0", "the parent's")

    asyncio.run(main())

"""Of equal calls under way at the same time, one is made and all get its answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace

from nextstep_envs.requests import Result

Flight = concurrent.futures.Future[Result | None]  # unlike asyncio's, one that any event loop can wait for


class Flights:
    """The calls under way, by key. Coroutines of any event loop in any thread may join.

    A forked process joins none of its parent's: what brings them home was not forked.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    async def join(self, key: Hashable, id: str, make: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for the call of this key that is under way, or make it.

        Where the one who makes it is cancelled or fails with an exception, one of those who wait makes it instead.

        Args:
            key: equal for equal calls.
            id: that the result is to have.
            make: makes the call.
        """
        key = os.getpid(), key
        while True:
            mine: Flight = concurrent.futures.Future()
            mine.set_running_or_notify_cancel()  # from here on the cancellation of one who waits cannot reach it
            flight = self._flights.setdefault(key, mine)
            if flight is mine:
                break
            shared = await asyncio.wrap_future(flight)
            if shared is not None:
                return replace(shared, id=id)
        result: Result | None = None
        try:
            result = await make()
            return result
        finally:
            del self._flights[key]
            mine.set_result(result)

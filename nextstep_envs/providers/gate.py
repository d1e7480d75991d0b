"""Who may call now: first come, first served, within the bounds on concurrency, requests and tokens per minute."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable

from nextstep_envs.providers.limits import Entry, Limits, Window

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


class Ticket:
    """One attempt's place, in the queue and then inside.

    Attributes:
        weight: the most tokens that it can take.
        inside: whether it was let in.
        look: set by whoever has changed something for it.
        until: when it will look again by itself.
        taken: what it took from each window.
    """

    __slots__ = ("inside", "look", "taken", "until", "weight")

    def __init__(self, weight: int) -> None:
        self.weight, self.inside, self.until = weight, False, math.inf
        self.look: asyncio.Future[None] | None = None
        self.taken: tuple[Entry, ...] = ()


class Gate:
    """A first-in-first-out semaphore with rates. One gate serves the coroutines of any event loop in any thread.

    Whoever is at the head of the queue and kept out by a rate alone sleeps until the rate lets it in; everybody else
    waits to be woken. (`asyncio.Semaphore` belongs to one loop and knows no rates.)

    Args:
        limits: the bounds.
        sleep, clock: in seconds.
    """

    def __init__(self, limits: Limits, sleep: Sleep, clock: Clock) -> None:
        self.limits, self._sleep, self._clock = limits, sleep, clock
        self._lock = threading.Lock()
        self._free = limits.concurrency
        self._queue: deque[Ticket] = deque()
        # Requests weigh one each, tokens what a ticket says; a gate without rates has no windows.
        self._windows = [
            (Window(limit), by_weight)
            for limit, by_weight in ((limits.requests_per_minute, False), (limits.tokens_per_minute, True))
            if limit is not None
        ]

    @property
    def inside(self) -> int:
        """Attempts under way."""
        return self.limits.concurrency - self._free

    @property
    def waiting(self) -> int:
        """Attempts in the queue."""
        return len(self._queue)

    async def enter(self, weight: int) -> Ticket:
        """Wait for a place; `leave` or `withdraw` gives it back.

        Args:
            weight: the most tokens that the attempt can take.
        """
        ticket = Ticket(weight)
        with self._lock:
            self._queue.append(ticket)
        try:
            while True:
                with self._lock:
                    delay = self._admit()
                    if ticket.inside:
                        return ticket
                    look = ticket.look = asyncio.get_running_loop().create_future()
                    mine = delay is not None and self._queue[0] is ticket
                    ticket.until = self._clock() + delay if delay is not None and mine else math.inf
                if delay is not None and mine:
                    timer = asyncio.ensure_future(self._sleep(delay))
                    try:
                        await asyncio.wait((timer, look), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        timer.cancel()
                else:
                    await look
        except BaseException:
            self.withdraw(ticket)
            raise

    def leave(self, ticket: Ticket, used: int | None) -> None:
        """The attempt has ended; it took `used` tokens (None: unknown, its bound stays counted)."""
        with self._lock:
            self._free += 1
            if used is not None:
                for (window, by_weight), entry in zip(self._windows, ticket.taken, strict=True):
                    if by_weight:
                        window.settle(entry, used)
            self._admit()

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt is not made: nothing of it counts."""
        with self._lock:
            if ticket.inside:
                self._give_back(ticket)
            else:
                self._queue.remove(ticket)
            self._admit()

    def _admit(self) -> float | None:
        """Let in all that fit; seconds until the next one fits, where rates alone keep it out."""
        queue = self._queue
        while queue and self._free:
            head = queue[0]
            if self._windows:
                now = self._clock()
                delay = max(window.wait(head.weight if heavy else 1, now) for window, heavy in self._windows)
                if delay > 0:
                    if now + delay < head.until:
                        _wake(head)
                    return delay
                head.taken = tuple(window.take(head.weight if heavy else 1, now) for window, heavy in self._windows)
            queue.popleft()
            self._free -= 1
            head.inside = True
            if not _wake(head):
                self._give_back(head)
        return None

    def _give_back(self, ticket: Ticket) -> None:
        self._free += 1
        for (window, _), entry in zip(self._windows, ticket.taken, strict=True):
            window.settle(entry, 0)


def _wake(ticket: Ticket) -> bool:
    """Make a waiting ticket look; False where its event loop is closed and nobody ever will."""
    look, ticket.look = ticket.look, None
    if look is None:  # it is looking
        return True
    loop = look.get_loop()
    if loop is asyncio.get_running_loop():
        _set(look)
        return True
    try:
        loop.call_soon_threadsafe(_set, look)
    except RuntimeError:
        return False
    return True


def _set(look: asyncio.Future[None]) -> None:
    if not look.done():
        look.set_result(None)

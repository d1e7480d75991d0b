"""Makes a client dependable: timeouts, retries, limits, a circuit breaker, a store, and books of all of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.base import NOTHING, RETRYABLE, CallError, Client, Completion, Fault, add_waste
from nextstep_envs.providers.breaker import Breaker
from nextstep_envs.providers.flights import Flights
from nextstep_envs.providers.gate import Clock, Gate, Sleep
from nextstep_envs.providers.limits import Limits as Limits  # re-exported
from nextstep_envs.providers.limits import bound
from nextstep_envs.providers.loop import BackgroundLoop
from nextstep_envs.providers.metrics import Counts, Metrics
from nextstep_envs.providers.retry import backoff
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import ChatRequest, Request, Result

ALIVE: frozenset[Fault] = frozenset(("rate limit", "refused"))  # a service that says so is there
AGAIN = RETRYABLE | {"circuit open"}  # it closes again
UNMETERED: frozenset[Fault] = frozenset(("timeout", "connection", "malformed"))  # it may have billed; it did not say


class Gateway:
    """A `Provider` over one service.

    `perform` works on an event loop in a thread of the gateway's own, `answer` in the caller's; both share all limits.
    An asynchronous client belongs to one event loop, so each loop gets one of its own, which is closed when that loop
    ends (`asyncio.run` sees to it) or with `close`. A forked or spawned process starts afresh, with limits of its own.

    Every call is tried `1 + limits.retries` times where the fault may go away (`RETRYABLE`), with exponential backoff
    and full jitter drawn from the request's seed, no sooner than the service's Retry-After allows. What stays down is a
    result with an error. Usage that the service reported for failed attempts is `Result.waste`.

    After `limits.breaker_failures` failures in a row, of whichever calls, attempts fail at once for a pause.
    A call that has attempts left waits for its end, so that a short outage masks nothing.

    Args:
        client_factory: makes a client; called in the event loop that it is for, at its first call.
        limits: timeouts, retries, rates.
        store: where answers are looked up before anything is spent, and kept. Of equal calls under way at once one is
            made.
        sleep, clock: in seconds; for tests.
    """

    def __init__(
        self,
        client_factory: Callable[[], Client],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        store: Store | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self.client_factory, self.limits, self.store = client_factory, limits, store
        self._sleep, self._clock = sleep, clock
        # By process id. A forked child inherits its parent's entry, which it must neither use nor finalize.
        self._sites: dict[int, _Site] = {}
        weakref.finalize(self, _close, self._sites)

    def __reduce__(self) -> tuple[Any, ...]:
        return Gateway, (self.client_factory, self.limits, self.store, self._sleep, self._clock)

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order; all of them at once, as far as the limits allow.

        Raises:
            ConfigError: a request is not for a chat model; nothing was spent.
        """
        for request in requests:
            _check(request)
        return self._site().loop.run(self._all(requests)) if requests else []

    async def answer(self, request: Request) -> Result:
        """The result of one request. If the caller is cancelled, the call is, and nothing of it stays behind.

        Raises:
            ConfigError: the request is not for a chat model; nothing was spent.
        """
        _check(request)
        site, store = self._site(), self.store
        if store is None:
            return await self._call(site, request)

        async def make() -> Result:
            known = store.get(request)
            if known is not None:
                site.counts.add("hits")
                return known
            return store.put(request, await self._call(site, request))

        return await site.flights.join((request.payload, request.seed), request.id, make)

    def metrics(self) -> Metrics:
        """What this process's calls have come to so far."""
        site = self._site()
        return site.counts.snapshot(site.gate.inside, site.gate.waiting, site.breaker.circuit)

    def close(self) -> None:
        """Cancel what `perform` has under way, close all clients and the store. A later call would open them anew."""
        _close(self._sites)
        if self.store is not None:
            self.store.close()

    def _site(self) -> _Site:
        pid = os.getpid()
        site = self._sites.get(pid)
        return site or self._sites.setdefault(pid, _Site(self.limits, self._sleep, self._clock))

    async def _all(self, requests: Sequence[Request]) -> list[Result]:
        if len(requests) == 1:
            return [await self.answer(requests[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.answer(request)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _call(self, site: _Site, request: Request) -> Result:
        """All attempts at one call."""
        chat: ChatRequest = request.payload
        weight = bound(chat) if self.limits.tokens_per_minute is not None else 0
        chat = replace(chat, model=chat.model.partition(":")[2])
        client = await site.client(self.client_factory)
        waste, attempt = NOTHING, 0
        try:
            while True:
                try:
                    completion = await self._attempt(site, client, chat, request.seed, weight)
                    return Result(request.id, completion.reply, completion.usage, "", waste)
                except CallError as error:
                    waste = waste.plus(error.usage)
                    asked, last = error.retry_after, attempt == self.limits.retries
                    if last or error.fault not in AGAIN or (asked or 0) > self.limits.timeout_s:
                        site.counts.add("calls", "outages")
                        return Result(request.id, error=f"{error} (attempt {attempt + 1})", waste=waste)
                await self._sleep(backoff(self.limits, request.seed, attempt, asked))
                site.counts.add("retries")
                attempt += 1
        except asyncio.CancelledError as cancelled:
            site.counts.add("cancelled")
            add_waste(cancelled, waste)
            raise

    async def _attempt(self, site: _Site, client: Client, chat: ChatRequest, seed: int, weight: int) -> Completion:
        """One attempt, from the queue to the books."""
        limits, gate, breaker = self.limits, site.gate, site.breaker
        if breaker.refuses():
            raise self._open(breaker)
        ticket = await gate.enter(weight)
        permit = breaker.admit()
        if permit == "none":
            gate.withdraw(ticket)
            raise self._open(breaker)
        used: int | None = None
        try:
            async with asyncio.timeout(limits.timeout_s):
                completion = await client.complete(chat, seed, limits.timeout_s)
            used = completion.usage.tokens
            breaker.report(permit, True)
            site.counts.success(completion.usage)
            return completion
        except (CallError, OSError) as caught:
            error = caught if isinstance(caught, CallError) else self._fault(caught)
            unmetered = error.fault in UNMETERED and not any(error.usage)
            used = None if unmetered else error.usage.tokens
            breaker.report(permit, error.fault in ALIVE)
            site.counts.failure(error.fault, error.usage, unmetered)
            raise error from None
        except asyncio.CancelledError:
            site.counts.add("attempts", "unmetered")
            raise
        finally:
            breaker.abandon(permit)
            gate.leave(ticket, used)

    def _fault(self, error: OSError) -> CallError:
        if isinstance(error, TimeoutError):
            return CallError("timeout", f"no whole answer within {self.limits.timeout_s:g} s")
        return CallError("connection", str(error))

    def _open(self, breaker: Breaker) -> CallError:
        n, pause = self.limits.breaker_failures, self.limits.breaker_pause_s
        message = f"{n} attempts in a row failed; none is made for {pause:g} s"
        return CallError("circuit open", message, retry_after=breaker.left())


class _Site:
    """All that changes, of one process."""

    def __init__(self, limits: Limits, sleep: Sleep, clock: Clock) -> None:
        self.loop = BackgroundLoop()
        self.gate = Gate(limits, sleep, clock)
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_pause_s, clock)
        self.counts = Counts()
        self.flights = Flights()
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Client, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()

    async def client(self, factory: Callable[[], Client]) -> Client:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            client = factory()
            # An event loop closes its asynchronous generators before it ends: the one moment, known to no one else, at
            # which a client of a loop that is not ours can still be closed.
            keeper = self._keep(loop, client)
            held = client, keeper
            with self._lock:
                self._clients = {of: it for of, it in self._clients.items() if not of.is_closed()} | {loop: held}
            await anext(keeper)
        return held[0]

    async def _keep(self, loop: asyncio.AbstractEventLoop, client: Client) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                if self._clients.get(loop, (None,))[0] is client:
                    del self._clients[loop]
            await client.close()

    def close(self) -> None:
        """End our loop, and with it its client; those of other loops close where they live."""
        self.loop.close()
        with self._lock:
            held, self._clients = self._clients, {}
        for loop, (_, keeper) in held.items():
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(_aclose(keeper), loop)


async def _aclose(keeper: AsyncGenerator[None, None]) -> None:
    await keeper.aclose()


def _close(sites: dict[int, _Site]) -> None:
    site = sites.get(os.getpid())
    if site is not None:
        site.close()


def _check(request: Request) -> None:
    chat = request.payload
    if not isinstance(chat, ChatRequest):
        raise ConfigError(
            f"a model's provider answers chat requests, not {request.kind!r}; give it to a sandbox or tool"
        )
    if ":" not in chat.model:
        raise ConfigError(f"model {chat.model!r} names no provider; write '<provider>:{chat.model}'")

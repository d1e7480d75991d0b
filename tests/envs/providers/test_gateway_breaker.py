"""The circuit breaker: when calls fail at once, and how it finds out that the service is back."""

from __future__ import annotations

import asyncio

import pytest

from nextstep_envs.providers.base import CallError, Completion, Fault
from nextstep_envs.providers.breaker import Breaker
from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.requests import ChatRequest, Result
from tests.envs.providers.calls import DEADLINE_S, Client, Clock, ask, done

LIMITS = Limits(retries=0, breaker_failures=3, breaker_pause_s=30.0)
DOWN = "circuit open: 3 attempts in a row failed; none is made for 30 s (attempt 1)"


class Service(Client):
    """Up or down."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.fault: Fault | None = "server"
        self.held: asyncio.Event | None = None

    async def _answer(self, chat: ChatRequest, seed: int) -> Completion:
        if self.held:
            await self.held.wait()
        if self.fault:
            raise CallError(self.fault, "it says")
        return done()


def setup(limits: Limits = LIMITS) -> tuple[Service, Clock, Gateway]:
    service, clock = Service(), Clock()
    return service, clock, Gateway(lambda: service, limits, sleep=clock.sleep, clock=clock)


async def errors(gateway: Gateway, n: int) -> list[str]:
    return [(await gateway.answer(ask(i))).error for i in range(n)]


def test_after_failures_in_a_row_calls_fail_at_once_then_one_probe_decides() -> None:
    service, clock, gateway = setup()

    async def main() -> None:
        assert await errors(gateway, 3) == ["server: it says (attempt 1)"] * 3
        assert gateway.metrics().circuit == "open"
        assert await errors(gateway, 5) == [DOWN] * 5
        assert service.starts == 3
        clock.now += 30
        assert await errors(gateway, 2) == ["server: it says (attempt 1)", DOWN]  # the probe fails: open again
        assert service.starts == 4
        clock.now += 29
        assert await errors(gateway, 1) == [DOWN]
        clock.now += 1
        service.fault = None
        assert await errors(gateway, 4) == [""] * 4
        assert gateway.metrics().circuit == "closed"

    asyncio.run(main())


def test_only_one_probe_is_under_way() -> None:
    service, clock, gateway = setup()

    async def main() -> None:
        await errors(gateway, 3)
        clock.now += 30
        service.fault, service.held = None, asyncio.Event()
        probe = asyncio.create_task(gateway.answer(ask()))
        await asyncio.sleep(0.01)
        assert gateway.metrics().circuit == "probing"
        assert await errors(gateway, 3) == [DOWN] * 3
        service.held.set()
        assert not (await probe).error and service.starts == 4

    asyncio.run(main())


def test_a_cancelled_probe_leaves_the_probe_to_the_next_call() -> None:
    service, clock, gateway = setup()

    async def main() -> None:
        await errors(gateway, 3)
        clock.now += 30
        service.fault, service.held = None, asyncio.Event()
        probe = asyncio.create_task(gateway.answer(ask()))
        await asyncio.sleep(0.01)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        service.held = None
        assert await errors(gateway, 1) == [""]

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["rate limit", "refused"])
def test_a_service_that_answers_no_is_there(fault: Fault) -> None:
    service, _, gateway = setup()
    service.fault = fault

    async def main() -> None:
        assert await errors(gateway, 20) == [f"{fault}: it says (attempt 1)"] * 20

    asyncio.run(main())
    assert gateway.metrics().circuit == "closed"


def test_a_success_in_between_starts_the_count_anew() -> None:
    service, _, gateway = setup()

    async def main() -> None:
        for _ in range(5):
            service.fault = "connection"
            await errors(gateway, 2)
            service.fault = None
            assert await errors(gateway, 1) == [""]

    asyncio.run(main())


def test_an_outage_that_ends_within_the_pause_masks_nothing() -> None:
    clock, starts = Clock(), []

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        starts.append(clock.now)
        if clock.now < 120:
            raise CallError("connection", "refused")
        return done()

    limits = Limits(retries=2, breaker_failures=3, breaker_pause_s=30.0)
    gateway = Gateway(lambda: Client(behave), limits, sleep=clock.sleep, clock=clock)

    async def main() -> list[Result]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*(gateway.answer(ask(i)) for i in range(40)))

    assert not any(result.error for result in asyncio.run(main()))
    assert gateway.metrics().circuit == "closed"
    assert not any(101 < start < 130 for start in starts)  # the service was left alone


def test_an_outage_that_lasts_ends_a_call_after_its_attempts() -> None:
    service, clock, gateway = setup(Limits(retries=4, breaker_failures=3, breaker_pause_s=30.0))

    async def main() -> None:
        (error,) = await errors(gateway, 1)
        assert error == "server: it says (attempt 5)"

    asyncio.run(main())
    assert service.starts == 4  # the fourth attempt was not made, the fifth was a probe
    assert 130 < clock.now < 140


def test_a_pause_longer_than_the_timeout_is_not_waited_for() -> None:
    service, clock, gateway = setup(Limits(retries=10, breaker_failures=3, breaker_pause_s=90.0, timeout_s=60.0))

    async def main() -> None:
        (error,) = await errors(gateway, 1)
        assert error.startswith("circuit open: ") and error.endswith("(attempt 4)")

    asyncio.run(main())
    assert service.starts == 3 and clock.now < 130
    assert dict(gateway.metrics().faults) == {"server": 3}


def test_those_who_queue_fail_at_once_when_the_circuit_opens() -> None:
    service, _, gateway = setup(Limits(concurrency=1, retries=0, breaker_failures=3))

    async def main() -> list[Result]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*(gateway.answer(ask(i)) for i in range(50)))

    results = asyncio.run(main())
    assert service.starts == 3 and sum("circuit open" in result.error for result in results) == 47


def test_where_the_circuit_is_open_nobody_waits_for_a_rate() -> None:
    service, clock, gateway = setup(Limits(retries=0, requests_per_minute=3, breaker_failures=3))

    async def main() -> None:
        assert await errors(gateway, 6) == ["server: it says (attempt 1)"] * 3 + [DOWN] * 3

    asyncio.run(main())
    assert clock.now == 100 and service.starts == 3


def test_stragglers_neither_prolong_the_pause_nor_fail_the_probe() -> None:
    clock = Clock()
    breaker = Breaker(2, 30.0, clock)
    permits = [breaker.admit() for _ in range(4)]
    breaker.report(permits[0], False)
    breaker.report(permits[1], False)
    assert breaker.circuit == "open"
    clock.now += 20
    breaker.report(permits[2], False)
    clock.now += 10
    assert breaker.admit() == "probe"
    breaker.report(permits[3], False)
    assert breaker.circuit == "probing" and breaker.admit() == "none"
    breaker.report("probe", True)
    breaker.abandon("probe")
    assert breaker.circuit == "closed" and breaker.admit() == "call"

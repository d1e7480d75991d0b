"""Thousands of calls through a proxy that breaks every fifth attempt: all end, and the books agree to the token."""

from __future__ import annotations

import asyncio

from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.providers.metrics import Metrics
from nextstep_envs.requests import Result
from nextstep_envs.types import Usage
from tests.envs.providers.calls import DEADLINE_S, ask
from tests.servers.chaos import FAULTS, ChaosProxy, seeded
from tests.servers.client import HttpClient
from tests.servers.openai_like import OpenAIServer

CALLS = 2000
# A timeout that strikes a healthy call would make what reached the caller a matter of opinion: far above any answer.
LIMITS = Limits(concurrency=250, timeout_s=3.0, retries=2, backoff_s=0.01, breaker_failures=1000)


def calls(proxy: ChaosProxy, n: int) -> tuple[list[Result], Metrics]:
    gateway = Gateway(lambda: HttpClient(proxy.port), LIMITS)

    async def main() -> list[Result]:
        async with asyncio.timeout(2 * DEADLINE_S):
            return await asyncio.gather(*(gateway.answer(ask(i, f"question {i}")) for i in range(n)))

    return asyncio.run(main()), gateway.metrics()


def total(usages: list[Usage]) -> Usage:
    return Usage(*map(sum, zip(*usages, strict=True)))


def test_books_of_caller_server_and_proxy_agree_to_the_token(openai_server: OpenAIServer) -> None:
    with ChaosProxy(openai_server, seeded(0, 0.2)) as proxy:
        results, metrics = calls(proxy, CALLS)
        faults, lost, attempts = proxy.faults(), proxy.lost(), len(proxy.events)
        broken = sum(event.billed is not None and not event.told for event in proxy.events)
    assert set(faults) == set(FAULTS)
    used, waste = total([result.usage for result in results]), total([result.waste for result in results])
    assert used.plus(waste).plus(lost) == openai_server.total()
    assert (metrics.used, metrics.waste) == (used, waste) and waste.calls == faults["empty"]
    # A call is in the ledger once, with the bill of the attempt that answered it.
    bills = {bill.id: bill.usage for bill in openai_server.bills}
    assert used.calls == sum(not result.error for result in results) == len(bills) - waste.calls - broken
    outages = sum(bool(result.error) for result in results)
    assert 0 < outages < CALLS * 0.03  # about 0.2^3
    assert (metrics.calls, metrics.outages, metrics.attempts) == (CALLS, outages, attempts)
    assert metrics.attempts == metrics.calls + metrics.retries
    assert metrics.unmetered >= broken and sum(metrics.faults.values()) == sum(faults.values())
    assert (metrics.in_flight, metrics.waiting, metrics.circuit) == (0, 0, "closed")


def test_the_same_calls_fare_alike_in_any_order(openai_server: OpenAIServer) -> None:
    quick = [fault for fault in FAULTS if fault not in ("hang", "slow")]
    with ChaosProxy(openai_server, seeded(3, 0.3, quick)) as proxy:
        first, _ = calls(proxy, 300)
    with ChaosProxy(openai_server, seeded(3, 0.3, quick)) as proxy:
        gateway = Gateway(lambda: HttpClient(proxy.port), LIMITS)
        backwards = gateway.perform([ask(i, f"question {i}") for i in reversed(range(300))])
        gateway.close()
    assert list(reversed(backwards)) == first

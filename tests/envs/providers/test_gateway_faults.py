"""What a gateway makes of each way in which a service can fail, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate

import pytest

from nextstep_envs.providers.base import CallError
from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.providers.retry import backoff
from nextstep_envs.requests import Result
from nextstep_envs.types import Usage
from tests.envs.providers.calls import DEADLINE_S, Client, Clock, ask, done, script
from tests.servers.chaos import AFTER, BEFORE, FAULTS, ChaosProxy, scripted, seeded
from tests.servers.client import HttpClient
from tests.servers.openai_like import OpenAIServer

HANGS = ("hang", "slow")


@pytest.fixture
def fault() -> str:
    """What goes wrong; tests that hang set it, so that only they have a short timeout."""
    return ""


@pytest.fixture
def stays() -> bool:
    """Whether it never ends; then even a timeout that is too short for a good answer will do."""
    return False


@pytest.fixture
def gateway(chaos: ChaosProxy, fault: str, stays: bool) -> Iterator[Gateway]:
    timeout = (0.2 if stays else 2.0) if fault in HANGS else 30.0
    limits = Limits(timeout_s=timeout, retries=3, backoff_s=0.0, max_backoff_s=0.0)
    made = Gateway(lambda: HttpClient(chaos.port), limits)
    yield made
    made.close()


def run(gateway: Gateway, n: int = 1) -> Sequence[Result]:
    return gateway.perform([ask(i) for i in range(n)])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_goes_away_is_retried(fault: str, gateway: Gateway, chaos: ChaosProxy) -> None:
    chaos.plan = scripted(fault)
    (result,) = run(gateway)
    assert result.value.text and not result.error
    metrics = gateway.metrics()
    assert (metrics.calls, metrics.attempts, metrics.retries, sum(metrics.faults.values())) == (1, 2, 1, 1)
    assert chaos.upstream.requests == 1 + (fault in AFTER)


@pytest.mark.parametrize("stays", [True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_an_outage_after_all_attempts(fault: str, gateway: Gateway, chaos: ChaosProxy) -> None:
    chaos.plan = lambda digest, attempt: fault
    (result,) = run(gateway)
    assert result.value is None and result.error.endswith("(attempt 4)")
    assert len(chaos.events) == 4 and gateway.metrics().outages == 1
    assert result.usage == Usage()


@pytest.mark.parametrize("stays", [True])
@pytest.mark.parametrize(
    ("fault", "name"),
    [("429", "rate limit"), ("500", "server"), ("503", "overloaded"), ("reset", "connection"), ("cut", "connection")]
    + [("hang", "timeout"), ("slow", "timeout"), ("html", "malformed"), ("truncated", "malformed")],
)
def test_an_outage_names_its_fault(fault: str, name: str, gateway: Gateway, chaos: ChaosProxy) -> None:
    chaos.plan = lambda digest, attempt: fault
    (result,) = run(gateway)
    assert result.error.startswith(f"{name}: ")
    assert gateway.metrics().faults == {name: 4}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_succeed_is_not_tried_again(
    status: int, gateway: Gateway, chaos: ChaosProxy, openai_server: OpenAIServer
) -> None:
    chaos.plan = scripted()
    openai_server.refuse = lambda body: status
    (result,) = run(gateway)
    assert result.error == f"refused: {status}: This request is refused with {status}. (attempt 1)"
    assert openai_server.requests == 1


def test_waste_is_what_the_service_said_that_it_billed(
    gateway: Gateway, chaos: ChaosProxy, openai_server: OpenAIServer
) -> None:
    chaos.plan = scripted("empty", "500", "empty")
    (result,) = run(gateway)
    first, second, third = (bill.usage for bill in openai_server.bills)
    assert result.usage == third and result.waste == first.plus(second)
    metrics = gateway.metrics()
    assert (metrics.used, metrics.waste, metrics.unmetered) == (result.usage, result.waste, 0)


def test_waste_of_a_call_that_is_given_up_is_not_forgotten(
    gateway: Gateway, chaos: ChaosProxy, openai_server: OpenAIServer
) -> None:
    chaos.plan = lambda digest, attempt: "empty"
    (result,) = run(gateway)
    assert result.error and result.waste == openai_server.total() != Usage()


@pytest.mark.parametrize("fault", ["lost", "cut", "truncated", "slow", "page", "hang", "html", "reset"])
def test_what_may_have_been_billed_unsaid_is_counted(fault: str, gateway: Gateway, chaos: ChaosProxy) -> None:
    chaos.plan = scripted(fault)
    (result,) = run(gateway)
    assert result.waste == Usage() and gateway.metrics().unmetered == 1
    assert (chaos.lost() != Usage()) == (fault not in BEFORE)


def test_retry_after_in_seconds_is_honoured(chaos: ChaosProxy) -> None:
    chaos.plan, chaos.retry_after = scripted("429 after", "429"), "7"
    clock = Clock()
    limits = Limits(retries=3)
    gateway = Gateway(lambda: HttpClient(chaos.port), limits, sleep=clock.sleep, clock=clock)
    (result,) = run(gateway)
    gateway.close()
    assert not result.error
    seed = ask().seed
    assert clock.naps == [7 + backoff(limits, seed, 0), backoff(limits, seed, 1)]


def test_retry_after_as_a_date_is_honoured(chaos: ChaosProxy) -> None:
    chaos.plan, chaos.retry_after = scripted("429 after"), formatdate(time.time() + 30, usegmt=True)
    clock = Clock()
    gateway = Gateway(lambda: HttpClient(chaos.port), Limits(), sleep=clock.sleep, clock=clock)
    (result,) = run(gateway)
    gateway.close()
    assert not result.error and len(clock.naps) == 1
    assert 10 < clock.naps[0] <= 30.5


def test_a_wait_longer_than_the_timeout_is_an_outage() -> None:
    clock = Clock()
    client = Client(script(CallError("rate limit", "429: come back tomorrow", retry_after=86_400)))
    gateway = Gateway(lambda: client, Limits(timeout_s=60), sleep=clock.sleep, clock=clock)
    (result,) = run(gateway)
    gateway.close()
    assert result.error == "rate limit: 429: come back tomorrow (attempt 1)"
    assert clock.naps == []


def test_backoff_doubles_up_to_its_bound_and_is_the_requests_own() -> None:
    limits = Limits(backoff_s=0.5, max_backoff_s=8.0)
    for attempt, longest in ((0, 0.5), (1, 1.0), (3, 4.0), (4, 8.0), (9, 8.0), (5000, 8.0)):
        drawn = [backoff(limits, seed, attempt) for seed in range(400)]
        assert 0 <= min(drawn) < 0.05 * longest and 0.95 * longest < max(drawn) <= longest
    assert backoff(limits, 7, 2) == backoff(limits, 7, 2) != backoff(limits, 8, 2)


def test_an_attempt_has_the_whole_timeout_and_no_more() -> None:
    seen: list[float] = []

    class Slow(Client):
        async def complete(self, chat: object, seed: int, timeout_s: float) -> object:  # type: ignore[override]
            seen.append(timeout_s)
            for _ in range(1000):  # every read is quick, the whole is not
                await asyncio.sleep(0.01)
            return done()

    gateway = Gateway(Slow, Limits(timeout_s=0.05, retries=1, backoff_s=0, max_backoff_s=0))
    (result,) = run(gateway)
    gateway.close()
    assert seen == [0.05, 0.05]
    assert result.error == "timeout: no whole answer within 0.05 s (attempt 2)"


def test_a_mistake_in_a_client_is_not_taken_for_an_outage() -> None:
    async def broken(*_: object) -> object:
        raise KeyError("choices")

    gateway = Gateway(lambda: Client(broken), Limits())  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="choices"):
        gateway.perform([ask(0), ask(1)])
    assert gateway.metrics().in_flight == 0
    gateway.close()


def test_answers_come_in_order_however_they_arrive(chaos: ChaosProxy, gateway: Gateway) -> None:
    async def main() -> list[Result]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*(gateway.answer(ask(i)) for i in range(50)))

    chaos.plan = seeded(1, 0.2, [fault for fault in FAULTS if fault not in HANGS])
    done_by_perform = run(gateway, 50)
    assert [result.id for result in done_by_perform] == [f"{i}/0" for i in range(50)]
    assert [result.value for result in asyncio.run(main())] == [result.value for result in done_by_perform]

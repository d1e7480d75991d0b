"""How hard a gateway drives a service: concurrency, requests and tokens a minute, first come, first served."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.base import CallError, Completion
from nextstep_envs.providers.gate import Gate
from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.providers.limits import MINUTE, Window, bound
from nextstep_envs.requests import ChatRequest, Message, Result, ToolSpec
from tests.envs.providers.calls import DEADLINE_S, Client, Clock, ask, done, script


def answers(gateway: Gateway, requests: list[Any]) -> list[Result]:
    async def main() -> list[Result]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*map(gateway.answer, requests))

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 2.5),
        ("concurrency", True),
        ("requests_per_minute", 0),
        ("tokens_per_minute", -1),
        ("timeout_s", 0),
        ("timeout_s", float("inf")),
        ("timeout_s", "60"),
        ("retries", -1),
        ("backoff_s", -0.5),
        ("backoff_s", float("nan")),
        ("max_backoff_s", 0.1),
        ("breaker_failures", 0),
        ("breaker_pause_s", 0),
    ],
)
def test_a_bad_limit_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value!r}".replace(".", r"\.")):
        replace(Limits(), **{name: value})


def test_never_more_calls_at_once_than_allowed_over_all_event_loops() -> None:
    clients: list[Client] = []
    now = most = 0
    lock = threading.Lock()

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        await asyncio.sleep(0.0005)
        with lock:
            now -= 1
        return done(str(seed))

    def factory() -> Client:
        clients.append(Client(behave))
        return clients[-1]

    gateway = Gateway(factory, Limits(concurrency=5))
    results: dict[int, list[Result]] = {}

    def work(i: int) -> None:
        requests = [ask(100 * i + j) for j in range(100)]
        results[i] = gateway.perform(requests) if i % 2 else answers(gateway, requests)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads)
    gateway.close()
    assert most == 5
    assert len(clients) == 3 and all(client.closed == 1 for client in clients)  # two loops of asyncio.run, one of ours
    for i, made in results.items():
        assert [result.value.text for result in made] == [str(1000 + 100 * i + j) for j in range(100)]
    assert (gateway.metrics().in_flight, gateway.metrics().waiting) == (0, 0)


def test_calls_are_made_first_come_first_served() -> None:
    order: list[int] = []

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        order.append(seed)
        await asyncio.sleep(0)
        return done()

    answers(Gateway(lambda: Client(behave), Limits(concurrency=3)), [ask(i) for i in range(200)])
    assert order == [1000 + i for i in range(200)]


def test_nobody_overtakes_who_waits_for_a_rate() -> None:
    async def main() -> None:
        clock, entered = Clock(), []
        gate = Gate(Limits(tokens_per_minute=100), clock.sleep, clock)

        async def visit(i: int, weight: int) -> None:
            ticket = await gate.enter(weight)
            entered.append(i)
            gate.leave(ticket, None)

        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            for i, weight in enumerate((60, 90, 1, 1, 95, 1)):  # small ones would fit beside the 60
                group.create_task(visit(i, weight))
        assert entered == sorted(entered)

    asyncio.run(main())


def test_no_minute_has_more_requests_than_allowed() -> None:
    clock, starts = Clock(), []

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        starts.append(clock.now)
        clock.now += random.Random(seed).random()
        return done()

    limits = Limits(requests_per_minute=30)
    gateway = Gateway(lambda: Client(behave), limits, sleep=clock.sleep, clock=clock)
    answers(gateway, [ask(i) for i in range(200)])
    assert len(starts) == 200
    for i in range(200 - 30):
        assert starts[i + 30] - starts[i] >= MINUTE - 1e-6
    assert starts[-1] - starts[0] < 60 * 200 / 30 + 60  # and it does not dawdle


def test_retries_count_as_requests() -> None:
    clock = Clock()
    client = Client(script(*[CallError("server", "500")] * 3))
    limits = Limits(requests_per_minute=2, backoff_s=0, max_backoff_s=0)
    gateway = Gateway(lambda: client, limits, sleep=clock.sleep, clock=clock)
    (result,) = answers(gateway, [ask()])
    assert not result.error and client.starts == 4
    assert clock.now == pytest.approx(100 + MINUTE)


def test_tokens_a_minute_reserve_the_bound_and_settle_with_the_real_usage() -> None:
    clock = Clock()
    request = ask(max_tokens=98)  # 2 of prompt + 98
    client = Client(script(*[done(prompt=2, completion=8)] * 20))
    limits = Limits(concurrency=100, tokens_per_minute=250)
    gateway = Gateway(lambda: client, limits, sleep=clock.sleep, clock=clock)
    assert bound(request.payload) == 100
    answers(gateway, [replace(request, id=str(i)) for i in range(16)])
    assert clock.naps == []  # two reserve 200 of 250; each settles to 10: 150 + 100 fit
    assert client.most == 2
    answers(gateway, [replace(request, id=str(i)) for i in range(16, 20)])
    assert clock.now == pytest.approx(100 + MINUTE)


def test_an_attempt_whose_bill_is_unknown_keeps_its_bound_reserved() -> None:
    clock = Clock()
    client = Client(script(CallError("timeout", "hung")))
    limits = Limits(tokens_per_minute=150, backoff_s=0, max_backoff_s=0)
    gateway = Gateway(lambda: client, limits, sleep=clock.sleep, clock=clock)
    answers(gateway, [ask(max_tokens=98)])
    assert clock.now == pytest.approx(100 + MINUTE)


def test_an_attempt_that_was_turned_away_takes_no_tokens() -> None:
    clock = Clock()
    client = Client(script(CallError("overloaded", "503")))
    limits = Limits(tokens_per_minute=150, backoff_s=0, max_backoff_s=0)
    gateway = Gateway(lambda: client, limits, sleep=clock.sleep, clock=clock)
    answers(gateway, [ask(max_tokens=98)])
    assert clock.now == 100


def test_a_call_larger_than_a_minutes_tokens_goes_alone() -> None:
    clock = Clock()
    gateway = Gateway(Client, Limits(tokens_per_minute=50), sleep=clock.sleep, clock=clock)
    results = answers(gateway, [ask(i, max_tokens=500) for i in range(3)])
    assert not any(result.error for result in results)


def test_tools_and_calls_are_part_of_a_calls_bound() -> None:
    chat = ChatRequest("test:model", (Message("user", "12345678"),), 10)
    with_tool = replace(chat, tools=(ToolSpec("find", "finds", '{"type": "object"}'),))
    assert bound(chat) == 12 and bound(with_tool) == 12 + 1 + 2 + 5


@pytest.mark.parametrize("seed", range(20))
def test_a_window_equals_its_definition(seed: int) -> None:
    rng, window, now = random.Random(seed), Window(100), 0.0
    taken: list[list[float]] = []  # [when, how much]
    entries = []
    for _ in range(400):
        amount = rng.randint(1, 60)
        wait = window.wait(amount, now)

        def fits(at: float, amount: int = amount) -> bool:
            return sum(much for when, much in taken if at - MINUTE < when <= at) + amount <= 100

        assert (wait == 0) == fits(now)
        if wait:
            assert not fits(now + wait - 1e-6) and fits(now + wait + 1e-6)
            now += wait + 1e-6
            assert window.wait(amount, now) == 0
        entries.append((window.take(amount, now), len(taken)))
        taken.append([now, amount])
        if rng.random() < 0.5:
            entry, i = rng.choice(entries)
            real = rng.randint(0, 60)
            if real <= taken[i][1]:
                window.settle(entry, real)  # even if it is long past
                taken[i][1] = real
        now += rng.random() * 8


@pytest.mark.parametrize("rates", [{}, {"requests_per_minute": 40}, {"tokens_per_minute": 900}])
def test_a_gate_under_random_cancellation_loses_no_place(rates: dict[str, int]) -> None:
    async def main() -> None:
        rng, clock = random.Random(5), Clock()
        gate = Gate(replace(Limits(concurrency=4), **rates), clock.sleep, clock)
        most = 0

        async def visit() -> None:
            nonlocal most
            ticket = await gate.enter(rng.randint(1, 100))
            try:
                most = max(most, gate.inside)
                await asyncio.sleep(0)
            finally:
                gate.leave(ticket, rng.choice((None, 5)))

        tasks = [asyncio.create_task(visit()) for _ in range(500)]
        while not all(task.done() for task in tasks):
            for task in rng.sample(tasks, 3):
                task.cancel()
            await asyncio.sleep(0)
        assert 1 <= most <= 4 and (gate.inside, gate.waiting) == (0, 0)
        assert any(task.cancelled() for task in tasks) and not all(task.cancelled() for task in tasks)
        for ticket in [await gate.enter(1) for _ in range(4)]:  # all places are there
            gate.leave(ticket, 1)

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main()

    asyncio.run(bounded())


def test_a_place_given_to_an_event_loop_that_is_gone_goes_to_the_next() -> None:
    gate = Gate(Limits(concurrency=1), asyncio.sleep, Clock())
    lost = asyncio.new_event_loop()

    async def occupy() -> None:
        async with asyncio.timeout(DEADLINE_S):
            ticket = await gate.enter(1)
            stuck = asyncio.ensure_future(gate.enter(1), loop=lost)
            lost.call_soon(lost.stop)
            await asyncio.to_thread(lost.run_forever)
            waiting = asyncio.create_task(gate.enter(1))
            await asyncio.sleep(0)
            assert gate.waiting == 2
            lost.close()
            gate.leave(ticket, 1)
            gate.leave(await waiting, 1)
            assert (gate.inside, gate.waiting) == (0, 0)
            del stuck

    asyncio.run(occupy())

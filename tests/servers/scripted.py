"""A server that answers the same bytes to every request, for whatever a service may say."""

from __future__ import annotations

import asyncio

from tests.servers.wire import Message, Server, read_message


class ScriptedServer(Server):
    """Answers `answers` in order, the last of them for ever.

    Args:
        answers: whole HTTP responses.
    """

    def __init__(self, *answers: bytes, port: int = 0) -> None:
        super().__init__(port)
        self.answers = answers
        self.requests: list[Message] = []

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while (message := await read_message(reader)) is not None:
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(message)
            writer.write(answer)
            await writer.drain()

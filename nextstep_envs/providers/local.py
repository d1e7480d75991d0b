"""What providers share whose models live in this process: one thread that answers batch after batch."""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from nextstep_envs.errors import ConfigError
from nextstep_envs.requests import ChatRequest, Request, Result

OUTAGES = (RuntimeError, MemoryError, OSError)  # a device out of memory, an engine that died: torch's are RuntimeErrors


_inherited: list[dict[str, Any]] = []  # models of a parent process: never finalized here, as engines are stopped then


class Ticket(NamedTuple):
    """A request, and where its result goes. Whoever gave up on it has cancelled the future."""

    request: Request
    future: Future[Result]


class LocalProvider(ABC):
    """A `Provider` that computes answers itself, in batches.

    Requests that arrive while a batch is computed go into the next one, those for the same model together, in order of
    arrival. All models of a process are computed in one thread, which lives as long as there is something to do. What
    one request is answered does not depend on its company, but for the rounding of batched arithmetic.

    An instance can be pickled, and used in a forked process (with OMP_NUM_THREADS=1: threads of OpenMP do not survive a
    fork); either starts without a model.

    Args:
        max_rows: the most requests in a batch.
    """

    def __init__(self, max_rows: int) -> None:
        if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1:
            raise ConfigError(f"max_rows={max_rows!r} must be a whole number >= 1")
        self.max_rows = max_rows
        self._start()

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order.

        Raises:
            ConfigError: a request that the model cannot answer (nothing was computed), or a folder without a model.
        """
        tickets = self._submit(requests)
        try:
            return [ticket.future.result() for ticket in tickets]
        except BaseException:
            for ticket in tickets:
                ticket.future.cancel()
            raise

    async def answer(self, request: Request) -> Result:
        """The result of one request. If the caller is cancelled, it leaves its batch at the next token."""
        return await asyncio.wrap_future(self._submit([request])[0].future)

    def close(self) -> None:
        """Cancel what is under way and release the models; a later call loads them again."""
        if self._pid != os.getpid():
            return  # all that is here is the parent's
        with self._lock:
            thread = self._thread
            for ticket in (*self._waiting, *self._running):
                ticket.future.cancel()
        if thread is not None:
            thread.join()
        while self._models:
            self._unload(self._models.popitem()[1])

    @staticmethod
    def folder_state(folder: str) -> list[list[Any]]:
        """Name, size and time of change of the files that make a model what it is: when they differ, it may."""
        files = sorted(path for end in ("safetensors", "json", "jinja") for path in Path(folder).glob(f"*.{end}"))
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

    @abstractmethod
    def _load(self, folder: str) -> Any:
        """The model in a folder. Called once, in the thread of the models, as is `_generate`."""

    @abstractmethod
    def _generate(self, model: Any, tickets: Sequence[Ticket]) -> Sequence[Result]:
        """One result for each ticket, in order; what a cancelled one gets is of no interest."""

    @abstractmethod
    def _unload(self, model: Any) -> None:
        """Stop what a model has running."""

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._thread: threading.Thread | None = None
        self._models: dict[str, Any] = {}

    def _submit(self, requests: Sequence[Request]) -> list[Ticket]:
        for request in requests:
            _check(request)
        if self._pid != os.getpid():  # a fork takes no threads along
            _inherited.append(self._models)
            self._start()
        tickets = [Ticket(request, Future()) for request in requests]
        with self._lock:
            self._waiting += tickets
            if tickets and self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="nextstep-model", daemon=True)
                self._thread.start()
        return tickets

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._running = self._next()
                if not self._running:
                    self._thread = None
                    return
            try:
                folder = _folder(self._running[0])
                if folder not in self._models:
                    self._models[folder] = self._load(folder)
                results = self._generate(self._models[folder], self._running)
            except OUTAGES as error:
                told = f"{type(error).__name__}: {error}"
                results = [Result(ticket.request.id, error=told) for ticket in self._running]
            except BaseException as error:
                for ticket in self._running:
                    if ticket.future.set_running_or_notify_cancel():
                        ticket.future.set_exception(error)
                continue
            for ticket, result in zip(self._running, results, strict=True):
                if ticket.future.set_running_or_notify_cancel():
                    ticket.future.set_result(result)

    def _next(self) -> list[Ticket]:
        """The next batch: whoever waits longest, and others for the same model."""
        waiting = [ticket for ticket in self._waiting if not ticket.future.cancelled()]
        batch = [ticket for ticket in waiting if _folder(ticket) == _folder(waiting[0])][: self.max_rows]
        chosen = {id(ticket) for ticket in batch}
        self._waiting = [ticket for ticket in waiting if id(ticket) not in chosen]
        return batch


def _folder(ticket: Ticket) -> str:
    folder: str = ticket.request.payload.model.partition(":")[2]
    return folder


def _check(request: Request) -> None:
    chat = request.payload
    if not isinstance(chat, ChatRequest):
        raise ConfigError(f"a model in this process answers chat requests, not {request.kind!r}")
    if chat.tools or any(message.calls or message.role == "tool" for message in chat.messages):
        raise ConfigError(f"model {chat.model!r}, in this process, has no native tool calls: set tool_calls='json'")
    if not chat.model.partition(":")[2]:
        raise ConfigError(f"model {chat.model!r} must name a folder, as in 'transformers:/models/small'")

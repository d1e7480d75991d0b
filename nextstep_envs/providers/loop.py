"""An event loop in a thread of its own, for callers that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for any thread. The thread starts at first use and ends with `close`; a daemon."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine; it is cancelled where the wait is interrupted (Ctrl-C)."""
        loop = self._started()
        waiting: Future[T] = Future()  # made before the coroutine is handed over: an interrupt may come in between
        try:
            loop.call_soon_threadsafe(_start, coroutine, waiting)
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise

    async def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine in another event loop; cancelling the wait cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._started()))

    def close(self) -> None:
        """Cancel what runs, end the thread. Idempotent; the next `run` starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            if thread is not threading.current_thread():  # a garbage collector may close from anywhere
                thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None:
                ready = threading.Event()
                thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)), name="nextstep", daemon=True)
                thread.start()
                ready.wait()
                self._thread = thread
            return self._loop

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()


def _start(coroutine: Coroutine[Any, Any, T], waiting: Future[T]) -> None:
    """Run a coroutine in this loop; what becomes of it is told to `waiting`, whose cancellation cancels it."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(coroutine)

    def ended(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            waiting.cancel()
        elif not waiting.set_running_or_notify_cancel():
            task.exception()  # seen: nobody waits for it any more
        elif (error := task.exception()) is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(task.result())

    task.add_done_callback(ended)
    waiting.add_done_callback(lambda waiting: loop.call_soon_threadsafe(task.cancel) if waiting.cancelled() else None)

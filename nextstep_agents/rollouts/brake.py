"""How a run is stopped before its end: nothing new begins, or what has begun is discarded too."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

FINISHED, CEILING, INTERRUPTED = "", "usd_ceiling", "interrupted"


class Brake:
    """Whether a run is stopping, and why.

    Attributes:
        reason: `CEILING`, `INTERRUPTED`, or "" while it goes on.
        cut: set by the run: discards the episodes that have begun.
    """

    def __init__(self) -> None:
        self.reason = FINISHED
        self.cut: Callable[[], None] = lambda: None

    def stop(self, reason: str) -> None:
        """Begin no new episode; the first reason stays."""
        self.reason = self.reason or reason

    def discard(self, reason: str) -> None:
        """Begin no new episode and discard those that have begun."""
        self.stop(reason)
        self.cut()


@contextmanager
def on_interrupt(brake: Brake, discard: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C pulls the brake: at first it lets episodes finish (unless `discard`), the second time it discards them.

    After that a Ctrl-C is what it always was, in case something hangs. Python hands signals to the main thread alone;
    in any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    pulled = 0

    def pull(number: int, frame: FrameType | None) -> None:
        nonlocal pulled
        pulled += 1
        if pulled == 1 and not discard:
            loop.call_soon_threadsafe(finish)
        else:
            signal.signal(signal.SIGINT, before)
            loop.call_soon_threadsafe(end)

    def finish() -> None:
        brake.stop(INTERRUPTED)
        say("Interrupted: the episodes that have begun are finished. Ctrl-C again discards them.")

    def end() -> None:
        say("Interrupted: the episodes that have begun are discarded.")
        brake.discard(INTERRUPTED)

    signal.signal(signal.SIGINT, pull)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

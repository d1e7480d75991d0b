"""A circuit breaker: leaves a service alone that is down, and notices when it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

Circuit = Literal["closed", "open", "probing"]
Permit = Literal["call", "probe", "none"]


class Breaker:
    """Counts failures in a row, whichever calls they belong to.

    *closed*: attempts are made; after `failures` in a row it opens. *open*: none is made for `pause_s`; the first one
    after that is the probe. *probing*: none but the probe is under way; it closes the circuit or opens it again. Any
    thread may ask.

    Args:
        failures: in a row that open it.
        pause_s: how long it stays open.
        clock: seconds.
    """

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float]) -> None:
        self.failures, self.pause_s, self.clock = failures, pause_s, clock
        self.circuit: Circuit = "closed"
        self._row = 0
        self._until = 0.0
        self._lock = threading.Lock()

    def refuses(self) -> bool:
        """Whether an attempt would get no permit now."""
        return self.circuit != "closed" and (self.circuit == "probing" or self.clock() < self._until)

    def left(self) -> float:
        """Seconds of the pause that are left."""
        return max(self._until - self.clock(), 0.0) if self.circuit == "open" else 0.0

    def admit(self) -> Permit:
        """Ask to make one attempt; `report` or `abandon` ends it."""
        if self.circuit == "closed":
            return "call"
        with self._lock:
            if self.refuses():
                return "none"
            if self.circuit == "open":
                self.circuit = "probing"
                return "probe"
            return "call"

    def report(self, permit: Permit, alive: bool) -> None:
        """An attempt ended; `alive`: the service was there, whatever it said."""
        if alive and self.circuit == "closed":
            self._row = 0
            return
        with self._lock:
            if alive:
                self.circuit, self._row = "closed", 0
                return
            self._row += 1
            # Stragglers from before it opened neither prolong the pause nor fail the probe.
            if permit == "probe" or (self.circuit == "closed" and self._row >= self.failures):
                self.circuit, self._until = "open", self.clock() + self.pause_s

    def abandon(self, permit: Permit) -> None:
        """An attempt was cancelled and says nothing about the service; the next one may be the probe."""
        with self._lock:
            if permit == "probe" and self.circuit == "probing":
                self.circuit = "open"

"""What a gateway has done so far."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from nextstep_envs.providers.base import Fault
from nextstep_envs.providers.breaker import Circuit
from nextstep_envs.types import Usage


@dataclass(frozen=True, slots=True)
class Metrics:
    """A snapshot of a gateway's own books.

    Attributes:
        calls: answered by the service, or given up.
        hits: answered from the store; no call.
        outages: calls given up.
        cancelled: calls that their caller cancelled.
        attempts: what the calls took; retries: pauses after which a call was tried again.
        faults: failed attempts by fault.
        used, waste: billed for attempts that succeeded, and for failed ones as far as the service said so.
        unmetered: attempts that the service may have billed without our learning it (it hung, the answer was cut off).
        in_flight, waiting: attempts under way and in the queue now.
        circuit: whether calls are made now.
    """

    calls: int = 0
    hits: int = 0
    outages: int = 0
    cancelled: int = 0
    attempts: int = 0
    retries: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    used: Usage = Usage()
    waste: Usage = Usage()
    unmetered: int = 0
    in_flight: int = 0
    waiting: int = 0
    circuit: Circuit = "closed"


class Counts:
    """The counters behind `Metrics`; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._used, self._waste = Usage(), Usage()

    def add(self, *names: str) -> None:
        """Add one to each."""
        with self._lock:
            for name in names:
                self._numbers[name] += 1

    def success(self, usage: Usage) -> None:
        """An attempt, and with it a call, succeeded."""
        with self._lock:
            self._numbers["attempts"] += 1
            self._numbers["calls"] += 1
            self._used = self._used.plus(usage)

    def failure(self, fault: Fault, waste: Usage, unmetered: bool) -> None:
        """An attempt failed."""
        with self._lock:
            self._numbers["attempts"] += 1
            self._numbers["unmetered"] += unmetered
            self._faults[fault] += 1
            self._waste = self._waste.plus(waste)

    def snapshot(self, in_flight: int, waiting: int, circuit: Circuit) -> Metrics:
        """All of them at one moment."""
        with self._lock:
            return Metrics(
                **self._numbers,
                faults=dict(self._faults),
                used=self._used,
                waste=self._waste,
                in_flight=in_flight,
                waiting=waiting,
                circuit=circuit,
            )

"""How hard a service may be driven: the settings of a gateway, and an exact count of any minute's consumption."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from nextstep_envs.errors import ConfigError
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.requests import ChatRequest

MINUTE = 60.0
ROUNDING = 1e-9  # of clocks: who sleeps until an entry ends must find it ended


@dataclass(frozen=True, slots=True)
class Limits:
    """What a gateway allows itself.

    Attributes:
        concurrency: attempts under way at once.
        requests_per_minute: attempts started in any 60 s; None for no limit.
        tokens_per_minute: tokens of the attempts started in any 60 s, a call that is under way counted with its bound
            (prompt estimate + max_tokens); None for no limit.
        timeout_s: of a whole attempt, from the first byte sent to the last received. Also the longest Retry-After that
            is waited for.
        retries: attempts after the first one.
        backoff_s: the first pause is drawn from [0, backoff_s]; the range doubles with each attempt.
        max_backoff_s: where it stops doubling.
        breaker_failures: failures in a row, whichever calls they belong to, after which attempts fail at once.
        breaker_pause_s: for how long they do, until one is made to see whether the service is back. A call that has
            attempts left waits for that, unless it is longer than `timeout_s`.

    Raises:
        ConfigError: a value is out of its range.
    """

    concurrency: int = 32
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout_s: float = 60.0
    retries: int = 5
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    breaker_failures: int = 10
    breaker_pause_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "breaker_failures"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("retries", self.retries, 0)
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1, " or None for no limit")
        for name in ("timeout_s", "breaker_pause_s"):
            _check_seconds(name, getattr(self, name), "> 0")
        for name in ("backoff_s", "max_backoff_s"):
            _check_seconds(name, getattr(self, name), ">= 0")
        if self.max_backoff_s < self.backoff_s:
            raise ConfigError(f"limit max_backoff_s={self.max_backoff_s} must be >= backoff_s={self.backoff_s}")


def _check_whole(name: str, value: object, least: int, alternative: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"limit {name}={value!r} must be a whole number >= {least}{alternative}")


def _check_seconds(name: str, value: object, range_: str) -> None:
    number = not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < math.inf
    if not number or (range_ == "> 0" and value == 0):
        raise ConfigError(f"limit {name}={value!r} must be a number of seconds {range_}")


def bound(chat: ChatRequest) -> int:
    """The most tokens that a call can take: an estimate of its prompt, and `max_tokens`."""
    texts = [m.content for m in chat.messages] + [call.arguments for m in chat.messages for call in m.calls]
    texts += [text for tool in chat.tools for text in tool]
    return sum(map(estimate_tokens, texts)) + chat.max_tokens


class Entry:
    """What one attempt took from a window."""

    __slots__ = ("amount", "until")

    def __init__(self, amount: int, until: float) -> None:
        self.amount, self.until = amount, until


class Window:
    """At most `limit` in any 60 s: a sliding window, so that no way of counting minutes at the service is overrun."""

    def __init__(self, limit: int) -> None:
        self.limit, self._total = limit, 0
        self._entries: deque[Entry] = deque()

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits; 0 if it does. What is larger than the limit fits when the window is empty."""
        entries = self._entries
        while entries and entries[0].until <= now + ROUNDING:
            self._drop(entries.popleft())
        over = self._total + min(amount, self.limit) - self.limit
        if over <= 0:
            return 0.0
        for entry in entries:
            over -= entry.amount
            if over <= 0:
                return entry.until - now
        raise AssertionError("a window's entries add up to its total")

    def take(self, amount: int, now: float) -> Entry:
        """Take `amount`, which fits."""
        entry = Entry(min(amount, self.limit), now + MINUTE)
        self._entries.append(entry)
        self._total += entry.amount
        return entry

    def settle(self, entry: Entry, amount: int) -> None:
        """It was `amount` in the end."""
        if entry.until:
            self._total += amount - entry.amount
            entry.amount = amount

    def _drop(self, entry: Entry) -> None:
        self._total -= entry.amount
        entry.until = 0.0  # too old to settle

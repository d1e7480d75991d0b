"""Answers requests from a recording and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nextstep_envs.errors import DataError
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import Request, Result

EXCERPT = 40  # characters shown on either side of a difference
OTHER_SEED = "another episode seed, sample, step or turn"


class MissingCallError(DataError):
    """A replay was asked for a call that was not recorded."""


class ReplayProvider:
    """A `Provider` that answers from a store. What was recorded as an outage is that outage again.

    Args:
        store: the recording.

    Raises:
        MissingCallError: (when asked) the call was not recorded; the message says which it is and how it differs from
            the nearest one that was.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One recorded result for each request, in order."""
        return [self._recorded(request) for request in requests]

    async def answer(self, request: Request) -> Result:
        """The recorded result of one request."""
        return self._recorded(request)

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def _recorded(self, request: Request) -> Result:
        result = self.store.get(request, outages=True)
        if result is None:
            raise MissingCallError(explain(request, self.store))
        return result


def explain(request: Request, store: Store) -> str:
    """Which call is missing, and how it differs from the nearest recorded one.

    The nearest has the same seed, which names a place in an attempt; then the most leading messages in common and the
    fewest other differences.
    """
    asked: dict[str, Any] = json.loads(store.text(request))
    best = max(store.requests(), key=lambda recorded: _closeness(asked, recorded), default=None)
    last = asked["messages"][-1][1] if asked.get("messages") else asked.get("arguments", "")
    who = asked.get("model") or asked.get("name")
    what = f"call {request.id!r} to {who!r} ({_excerpt(last, 0)}) is not in {str(store.path)!r}"
    if best is None:
        return f"{what}, which holds no call at all"
    differences = "; ".join(_differences(asked, best))
    return f"{what}. The nearest of {store.count()} recorded calls differs in {differences}"


def _closeness(asked: dict[str, Any], recorded: dict[str, Any]) -> tuple[int, ...]:
    equal = sum(recorded.get(name) == value for name, value in asked.items() if name != "messages")
    mine, theirs = asked.get("messages", []), recorded.get("messages", [])
    return asked["seed"] == recorded["seed"], _common(mine, theirs), -abs(len(mine) - len(theirs)), equal


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many leading entries two sequences share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _differences(asked: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    found = []
    for name in dict.fromkeys((*asked, *recorded)):
        mine, theirs = asked.get(name), recorded.get(name)
        if mine == theirs:
            continue
        if name == "messages" and mine and theirs:
            found.append(_message_difference(mine, theirs))
        elif isinstance(mine, str) and isinstance(theirs, str) and len(mine) + len(theirs) > 4 * EXCERPT:
            found.append(f"{name} {_text_difference(mine, theirs)}")
        else:
            hint = f" ({OTHER_SEED})" if name == "seed" else ""
            found.append(f"{name}: asked {_short(mine)}, recorded {_short(theirs)}{hint}")
    return found


def _message_difference(asked: list[Any], recorded: list[Any]) -> str:
    i = _common(asked, recorded)
    if i in (len(asked), len(recorded)):
        return f"the number of messages: asked {len(asked)}, recorded {len(recorded)}, the first {i} are equal"
    (role, mine, *rest), (their_role, theirs, *their_rest) = asked[i], recorded[i]
    where = f"message {i} ({role})"
    if role != their_role:
        return f"{where}: recorded as {their_role}"
    if mine == theirs:
        return f"{where}: asked tool calls {_short(rest)}, recorded {_short(their_rest)}"
    return f"{where} {_text_difference(mine, theirs)}"


def _text_difference(asked: str, recorded: str) -> str:
    at = _common(asked, recorded)
    return f"from character {at}: asked {_excerpt(asked, at)}, recorded {_excerpt(recorded, at)}"


def _excerpt(text: str, at: int) -> str:
    start, end = max(at - EXCERPT, 0), at + EXCERPT
    return repr(("..." if start else "") + text[start:end] + ("..." if end < len(text) else ""))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 4 * EXCERPT else text[: 4 * EXCERPT] + "..."

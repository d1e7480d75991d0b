"""The only code that waits: takes requests to a provider and brings the results back.

Every driver gives the same records: nothing in an episode depends on arrival order. Only where a provider stays down,
and the episode is masked, is it a matter of time what had started before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from nextstep_envs.machine import Machine
from nextstep_envs.providers.base import waste_of
from nextstep_envs.requests import Request, Result

Perform = Callable[[Sequence[Request]], Sequence[Result]]
"""Answers a batch of requests in order: a provider, a sandbox, a replay, a fake."""

Answer = Callable[[Request], Awaitable[Result]]
"""Answers one request while others are under way: the same, in an event loop."""

CANCELLED = "cancelled"


def one_by_one(episode: Machine, perform: Perform) -> None:
    """Answer the requests of one episode, one at a time, until none is left."""
    while asked := episode.poll():
        episode.deliver(_checked(perform(asked[:1]), asked[:1])[0])


def batched(episodes: Sequence[Machine], perform: Perform) -> None:
    """Answer the requests of all episodes in one call, again and again until none is left."""
    while asked := [(episode, request) for episode in episodes for request in episode.poll()]:
        requests = [request for _, request in asked]
        for (episode, _), result in zip(asked, _checked(perform(requests), requests), strict=True):
            episode.deliver(result)


async def concurrent(episode: Machine, answer: Answer, slots: asyncio.Semaphore) -> None:
    """Answer every request of one episode as soon as it is asked, until none is left.

    What a result makes possible is asked at once, whatever else is still under way.

    Args:
        episode: after `act`.
        answer: brings one result.
        slots: shared by all episodes, it bounds the requests under way. Whoever asked first goes first, so an episode
            with many requests never holds up another by more than the requests it had asked before.

    Raises:
        asyncio.CancelledError: it was cancelled, and has cancelled what it waited for. For the episode this is an
            outage: a request without a result is charged nothing, what its failed attempts were billed is waste, and
            `transition` tells what was used.
    """
    asked: set[str] = set()

    def news() -> list[Request]:
        found = [request for request in episode.poll() if request.id not in asked]
        asked.update([request.id for request in found])
        return found

    async def bring(request: Request) -> None:
        while True:
            try:
                async with slots:
                    result = await answer(request)
            except asyncio.CancelledError as cancelled:
                episode.deliver(Result(request.id, error=CANCELLED, waste=waste_of(cancelled)))
                raise
            if result.id != request.id:
                raise _unasked([request], [result])
            episode.deliver(result)
            if not (possible := news()):
                return
            request, *others = possible
            for other in others:
                group.create_task(bring(other))
            if not slots.locked():  # where answers are there at once, other episodes have their turn between them
                await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            for first in news():
                group.create_task(bring(first))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None  # one error is what a caller expects of one call
    finally:  # requests whose task was cancelled before it began
        for request in episode.poll():
            episode.deliver(Result(request.id, error=CANCELLED))


def _checked(results: Sequence[Result], requests: Sequence[Request]) -> Sequence[Result]:
    # A provider that skips or reorders would otherwise make the loop spin for ever.
    if [r.id for r in results] != [r.id for r in requests]:
        raise _unasked(requests, results)
    return results


def _unasked(requests: Sequence[Request], results: Sequence[Result]) -> RuntimeError:
    return RuntimeError(
        f"a provider must answer every request in order: asked {[r.id for r in requests]}, "
        f"got {[r.id for r in results]}"
    )

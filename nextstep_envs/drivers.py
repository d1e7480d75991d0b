"""The only code that waits: takes requests to a provider and brings the results back.

Every driver gives the same records: nothing in an episode depends on arrival order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nextstep_envs.machine import Machine
from nextstep_envs.requests import Request, Result

Perform = Callable[[Sequence[Request]], Sequence[Result]]
"""Answers a batch of requests in order: a provider, a sandbox, a replay, a fake."""


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


def _checked(results: Sequence[Result], requests: Sequence[Request]) -> Sequence[Result]:
    # A provider that skips or reorders would otherwise make the loop spin for ever.
    if [r.id for r in results] != [r.id for r in requests]:
        raise RuntimeError(
            f"a provider must answer every request in order: asked {[r.id for r in requests]}, "
            f"got {[r.id for r in results]}"
        )
    return results

"""A provider with a store before it: what was answered once is not asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nextstep_envs.providers.base import Provider
from nextstep_envs.providers.flights import Flights
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import Request, Result


class CachedProvider:
    """A `Provider` that looks a request up before it asks another provider, and keeps what that one answers.

    A stored answer is the recorded result to the last field: its usage is charged to the episode's ledger and its
    waste is shown as if it had been asked anew, so that an episode has the same bytes whether or not money was spent.

    Args:
        provider: who is asked.
        store: what is known.
    """

    def __init__(self, provider: Provider, store: Store) -> None:
        self.provider, self.store = provider, store
        self._flights = Flights()

    def __reduce__(self) -> tuple[type[CachedProvider], tuple[Provider, Store]]:
        return CachedProvider, (self.provider, self.store)

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order; only those that are not known are asked, equal ones once."""
        different = {_content(request): request for request in requests}
        known = {content: result for content, request in different.items() if (result := self.store.get(request))}
        missing = [request for content, request in different.items() if content not in known]
        answers = self.provider.perform(missing) if missing else ()
        for request, answer in zip(missing, answers, strict=True):
            known[_content(request)] = self.store.put(request, answer)
        return [replace(known[_content(request)], id=request.id) for request in requests]

    async def answer(self, request: Request) -> Result:
        """The result of one request; where an equal one is under way in another `answer`, the result of that."""

        async def make() -> Result:
            known = self.store.get(request)
            return self.store.put(request, await self.provider.answer(request)) if known is None else known

        return await self._flights.join(_content(request), request.id, make)

    def close(self) -> None:
        """Release the provider and close the store's file."""
        try:
            self.provider.close()
        finally:
            self.store.close()


def _content(request: Request) -> tuple[Any, int]:
    """Equal for equal requests, whoever asks."""
    return request.payload, request.seed

"""A provider with a store before it: what was answered once is not asked again."""

from __future__ import annotations

from collections.abc import Sequence

from nextstep_envs.providers.base import Provider
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

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order; only those that are not known are asked."""
        known = [self.store.get(request) for request in requests]
        missing = [request for request, result in zip(requests, known, strict=True) if result is None]
        answers = self.provider.perform(missing) if missing else ()
        kept = iter([self.store.put(request, answer) for request, answer in zip(missing, answers, strict=True)])
        return [next(kept) if result is None else result for result in known]

    async def answer(self, request: Request) -> Result:
        """The result of one request."""
        known = self.store.get(request)
        return self.store.put(request, await self.provider.answer(request)) if known is None else known

    def close(self) -> None:
        """Release the provider and close the store's file."""
        try:
            self.provider.close()
        finally:
            self.store.close()

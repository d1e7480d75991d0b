"""Sends each request to the provider that is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.base import Provider
from nextstep_envs.requests import ChatRequest, Request, Result, ToolRequest


class Router:
    """A `Provider` made of providers: a chat with "<name>:<model>" goes to the provider of that name.

    Args:
        providers: of models, by name.
        tools: what answers tool requests, if there are any.
    """

    def __init__(self, providers: Mapping[str, Provider], tools: Provider | None = None) -> None:
        self.providers, self.tools = providers, tools

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        """One result for each request, in order; providers work side by side."""
        groups: dict[int, list[int]] = {}
        chosen = [self._chosen(request) for request in requests]
        for i, provider in enumerate(chosen):
            groups.setdefault(id(provider), []).append(i)
        results: dict[int, Result] = {}

        def ask(which: list[int]) -> None:
            results.update(zip(which, chosen[which[0]].perform([requests[i] for i in which]), strict=True))

        if len(groups) == 1:
            ask(*groups.values())
        elif groups:
            with ThreadPoolExecutor(len(groups)) as pool:
                list(pool.map(ask, groups.values()))
        return [results[i] for i in range(len(requests))]

    async def answer(self, request: Request) -> Result:
        """The result of one request."""
        return await self._chosen(request).answer(request)

    def close(self) -> None:
        """Close every provider, also where closing another one fails."""
        with ExitStack() as stack:
            for provider in (*self.providers.values(), *([self.tools] if self.tools else [])):
                stack.callback(provider.close)

    def _chosen(self, request: Request) -> Provider:
        payload = request.payload
        if isinstance(payload, ToolRequest) and self.tools:
            return self.tools
        if not isinstance(payload, ChatRequest):
            raise ConfigError(f"nothing here answers requests of kind {request.kind!r}")
        name, colon, _ = payload.model.partition(":")
        if not colon or name not in self.providers:
            known = ", ".join(self.providers)
            raise ConfigError(f"model {payload.model!r} must look like 'provider:model'; providers: {known}")
        return self.providers[name]

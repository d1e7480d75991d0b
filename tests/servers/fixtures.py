"""Pytest fixtures: import them in a `conftest.py` next to the tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.chaos import ChaosProxy, seeded
from tests.servers.openai_like import OpenAIServer


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    """A server that answers at once; base URL of the API: `server.url + "/v1"`."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def chaos(openai_server: OpenAIServer) -> Iterator[ChaosProxy]:
    """A proxy before `openai_server` that breaks every fifth call; set `chaos.plan` for another plan."""
    with ChaosProxy(openai_server, seeded(0, 0.2)) as proxy:
        yield proxy

"""Fixtures of the shop's tests."""

from __future__ import annotations

import pytest

from nextstep_envs.worlds.webshop.shop import Shop
from tests.envs.worlds.webshop.tiny import tiny_shop


@pytest.fixture(scope="session")
def shop() -> Shop:
    """The hand-written shop."""
    return tiny_shop()

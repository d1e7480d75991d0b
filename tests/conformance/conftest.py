"""Runs every test that takes a `case` once for each id and interface."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conformance import CASES, Case  # noqa: E402


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """One id with one interface."""
    return request.param

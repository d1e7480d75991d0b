"""Runs every test that takes a `case` once for each id and interface."""

from __future__ import annotations

import pytest

from tests.conformance.cases import CASES, Case


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """One id with one interface."""
    return request.param

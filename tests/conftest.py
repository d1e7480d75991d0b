"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("NEXTSTEP_SHARED", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def webshop_data() -> Path:
    """The published 1,000-product files with recorded reference behaviour."""
    folder = SHARED / "webshop"
    if not (folder / "golden.json.gz").exists():
        pytest.skip(f"no reference data at {folder}; set NEXTSTEP_SHARED to the folder that holds webshop/")
    return folder

"""Folders of recorded answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.envs.recorded.tiny import write_compact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny one, in the compact form."""
    return write_compact(tmp_path)


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """What real models answered."""
    folder = SHARED / "recorded"
    if not (folder / "answers.jsonl.gz").exists():
        pytest.skip(f"no recorded answers at {folder}; set NEXTSTEP_SHARED to the folder that holds recorded/")
    return folder

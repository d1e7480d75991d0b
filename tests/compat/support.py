"""What the tests of all libraries share: which ids they run on, and how a library that is absent skips its tests."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest

import nextstep_envs  # noqa: F401  (registers)
import registry

ORCHESTRATION = [entry.id for entry in registry.entries() if entry.protocol and entry.entry_point]
"""Every single-agent id on which an orchestrator is trained."""

STEPS = 100
"""What each library does on each of them."""


def library(module: str, extra: str) -> ModuleType:
    """A module of a library, or skip the tests of this file.

    What a library warns of while it is imported is its own affair; whatever it warns of later is an error, as always.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise  # the library is there, but it cannot be imported
            pytest.skip(f"needs the extra [{extra}]", allow_module_level=True)

"""Agents: policies, trainers and evaluation. `nextstep_agents.train(...)` is the one call."""

from __future__ import annotations

from typing import Any

from nextstep_envs.shadow import require_own

require_own("wrappers")

_HOMES = {"TrainResult": "learning.result", "load_policy": "policies.trained", "train": "training"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    # Lazy: the command must be able to say that torch is missing.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

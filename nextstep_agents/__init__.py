"""Agents: policies, trainers and evaluation. `nextstep_agents.train(...)` is the one call."""

from __future__ import annotations

from typing import Any

from nextstep_envs.shadow import require_own

require_own("wrappers")

__all__ = ["TrainResult", "train"]


def __getattr__(name: str) -> Any:
    # Lazy: the command must be able to say that torch is missing.
    if name in __all__:
        from nextstep_agents import training

        return getattr(training, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

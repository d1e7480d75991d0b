"""Dialects of other libraries: the same environments, renamed and reordered as each library expects them.

A module is imported when one of its names is asked for, so `import wrappers.interfaces` needs none of the libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wrappers.interfaces.masks import RLlibObservation, TianshouObservation
    from wrappers.interfaces.openenv import NextStepEnvironment, openenv_app
    from wrappers.interfaces.safety import SafetyGymnasium
    from wrappers.interfaces.sb3 import SB3VecEnv, make_sb3_vec_env
    from wrappers.interfaces.torchrl import TorchRLAEC, TorchRLParallel
    from wrappers.interfaces.trl import task_rows, trl_environment
    from wrappers.interfaces.verifiers import verifiers_env

_MODULES = {
    "NextStepEnvironment": "openenv",
    "RLlibObservation": "masks",
    "SB3VecEnv": "sb3",
    "SafetyGymnasium": "safety",
    "TianshouObservation": "masks",
    "TorchRLAEC": "torchrl",
    "TorchRLParallel": "torchrl",
    "make_sb3_vec_env": "sb3",
    "openenv_app": "openenv",
    "task_rows": "trl",
    "trl_environment": "trl",
    "verifiers_env": "verifiers",
}

__all__ = [
    "NextStepEnvironment",
    "RLlibObservation",
    "SB3VecEnv",
    "SafetyGymnasium",
    "TianshouObservation",
    "TorchRLAEC",
    "TorchRLParallel",
    "make_sb3_vec_env",
    "openenv_app",
    "task_rows",
    "trl_environment",
    "verifiers_env",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

"""Names of environments and parts. Imports nothing heavy, and nothing else of this project."""

from __future__ import annotations

from registry import components
from registry.catalog import EnvEntry, add, entries
from registry.errors import ConflictError, NextStepError, PluginError, TargetError, UnknownNameError
from registry.plugins import load_plugins

__all__ = [
    "ConflictError",
    "EnvEntry",
    "NextStepError",
    "PluginError",
    "TargetError",
    "UnknownNameError",
    "components",
    "entries",
    "env_ids",
    "load_plugins",
    "register_env",
    "register_envs",
]


def env_ids() -> tuple[str, ...]:
    """The ids of every known environment, sorted. Plugins count once `load_plugins` has run."""
    return tuple(sorted(entry.id for entry in entries()))


def register_env(entry: EnvEntry) -> None:
    """Add an environment to the catalog and to Gymnasium; what a plugin calls."""
    add(entry)
    register_envs()


def register_envs() -> None:
    """Tell Gymnasium about every single-agent environment of the catalog. Doing it again changes nothing."""
    import gymnasium as gym

    for entry in entries():
        # Gymnasium warns when an id is overridden, and a subprocess may import us twice.
        if entry.agents == "single" and entry.id not in gym.registry:
            gym.register(
                id=entry.id,
                entry_point=entry.entry_point,
                vector_entry_point=entry.vector_entry_point,
                reward_threshold=entry.reward_threshold,
                nondeterministic=entry.nondeterministic,
                kwargs=dict(entry.kwargs),
            )

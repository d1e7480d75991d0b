"""Names of environments and parts. Imports nothing heavy, and nothing else of this project."""

from __future__ import annotations

from registry import components
from registry.catalog import EnvEntry, add, entries
from registry.errors import ConflictError, NextStepError, PluginError, TargetError, UnknownNameError
from registry.making import make_aec, make_parallel
from registry.plugins import load_plugins
from registry.snapshots import Snapshot, SnapshotError, restore, snapshot

__all__ = [
    "ConflictError",
    "EnvEntry",
    "NextStepError",
    "PluginError",
    "Snapshot",
    "SnapshotError",
    "TargetError",
    "UnknownNameError",
    "components",
    "entries",
    "env_ids",
    "load_plugins",
    "make_aec",
    "make_parallel",
    "register_env",
    "register_envs",
    "restore",
    "snapshot",
]


def env_ids() -> tuple[str, ...]:
    """The ids of every known environment, sorted. Plugins count once `load_plugins` has run."""
    return tuple(sorted(entry.id for entry in entries()))


def register_env(entry: EnvEntry) -> None:
    """Add an environment to the catalog, to Gymnasium and to PettingZoo; what a plugin calls."""
    add(entry)
    register_envs()


def register_envs() -> None:
    """Tell Gymnasium and PettingZoo about every environment of the catalog. Doing it again changes nothing."""
    import gymnasium as gym
    import pettingzoo

    for entry in entries():
        # Both warn when an id is overridden, and a subprocess may import us twice.
        if entry.entry_point is not None and entry.id not in gym.registry:
            gym.register(
                id=entry.id,
                entry_point=entry.entry_point,
                vector_entry_point=entry.vector_entry_point,
                reward_threshold=entry.reward_threshold,
                nondeterministic=entry.nondeterministic,
                kwargs=dict(entry.kwargs),
            )
        if not hasattr(pettingzoo, "register"):  # before 1.27 it had no registry; `make_aec` and `make_parallel` do
            continue
        if entry.aec_entry_point is not None and entry.id not in pettingzoo.aec_registry:
            pettingzoo.register("aec", entry.id, entry.aec_entry_point, kwargs=dict(entry.kwargs))
        if entry.parallel_entry_point is not None and entry.id not in pettingzoo.parallel_registry:
            pettingzoo.register("parallel", entry.id, entry.parallel_entry_point, kwargs=dict(entry.kwargs))

"""Snapshots of a whole wrapper stack: the environment's state and every wrapper's counters, without deep copies."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from registry.errors import NextStepError


class SnapshotError(NextStepError, TypeError):
    """Something in a wrapper stack cannot be captured, or a snapshot belongs to another stack."""


@dataclass(frozen=True)
class Snapshot:
    """A wrapper stack at one moment. Picklable, and can be restored any number of times, into any equal stack.

    Attributes:
        layers: the frozen attributes of each wrapper, outermost first, with its type's name.
        state: what the innermost environment's own `snapshot()` returned.
        chance: the frozen random generators of the innermost environment, from which `reset()` goes on.
    """

    layers: tuple[tuple[str, Mapping[str, Any]], ...]
    state: Any
    chance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A mutable value. `kind`: how to thaw it; `data`: its parts, frozen."""

    kind: str
    data: Any


def snapshot(env: Any) -> Snapshot:
    """Capture an environment with all its wrappers, Gymnasium's and PettingZoo's own included.

    Arrays and containers are copied, frozen data is shared, so the cost does not grow with the world.

    Raises:
        SnapshotError: the innermost environment has no `snapshot`, or a wrapper holds what cannot be captured (an open
            file, a socket); the message names it.
    """
    layers, base = _layers(env)
    frozen = tuple((type(layer).__name__, _freeze_layer(layer)) for layer in layers)
    return Snapshot(frozen, base.snapshot(), _freeze_chance(base))


def restore(env: Any, snapshot: Snapshot, sample: int | None = None) -> None:
    """Put a wrapper stack back to where `snapshot` was taken; what follows is the same, byte for byte.

    Args:
        env: the same stack, or one built alike.
        snapshot: from `snapshot`.
        sample: continue as another attempt, with other chance (see `Episode.restore`).

    Raises:
        SnapshotError: the stack has other wrappers.
    """
    layers, base = _layers(env)
    names, expected = [type(layer).__name__ for layer in layers], [name for name, _ in snapshot.layers]
    if names != expected:
        raise SnapshotError(f"the snapshot is of the wrappers {expected}, but this environment has {names}")
    for layer, (_, attributes) in zip(layers, snapshot.layers, strict=True):
        _replace_attributes(layer, attributes)
    base.restore(snapshot.state, sample)
    for name, frozen in snapshot.chance.items():
        setattr(base, name, _thaw(frozen, getattr(base, name)))


def _layers(env: Any) -> tuple[list[Any], Any]:
    """The wrappers, outermost first, and what they wrap."""
    layers = []
    while not hasattr(type(env), "snapshot"):
        if "env" not in vars(env):
            raise SnapshotError(f"{type(env).__name__} has no snapshot() and restore(), so it cannot be captured")
        layers.append(env)
        env = env.env
    return layers, env


def _freeze_layer(layer: Any) -> dict[str, Any]:
    where = type(layer).__name__
    return {name: _freeze(value, f"{where}.{name}") for name, value in vars(layer).items() if name != "env"}


def _freeze_chance(base: Any) -> dict[str, Any]:
    from numpy.random import Generator

    kept = {name: value for name, value in vars(base).items() if isinstance(value, Generator)}
    if "_np_random_seed" in vars(base):
        kept["_np_random_seed"] = base._np_random_seed
    return {name: _freeze(value, name) for name, value in kept.items()}


_SHARED = (
    type(None), bool, int, float, complex, str, bytes, frozenset, range, type, PurePath, Enum,
    FunctionType, BuiltinFunctionType, MethodType, ModuleType,
)  # fmt: skip


def _freeze(value: Any, where: str) -> Any:
    """What must be kept of a value: itself where it cannot change, else its parts."""
    if _is_description(type(value)):  # type: ignore[arg-type]  # types are hashable
        return value
    if isinstance(value, Mapping):
        return _Frozen("dict", {key: _freeze(part, f"{where}[{key!r}]") for key, part in value.items()})
    if isinstance(value, tuple | list | set | deque):
        return _freeze_sequence(value, where)
    if isinstance(value, random.Random):
        return _Frozen("random", value.getstate())
    return _freeze_object(value, where)


def _freeze_sequence(value: Any, where: str) -> Any:
    parts = tuple(_freeze(part, f"{where}[{i}]") for i, part in enumerate(value))
    if not isinstance(value, tuple):
        return _Frozen(type(value).__name__, (parts, getattr(value, "maxlen", None)))
    if not any(isinstance(part, _Frozen) for part in parts):
        return value
    if type(value) is not tuple:
        raise SnapshotError(f"{where} is a {type(value).__name__} of what can change, which cannot be captured")
    return _Frozen("tuple", (parts, None))


def _freeze_object(value: Any, where: str) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        return _Frozen("array", value.copy())
    if isinstance(value, np.generic):
        return value
    if isinstance(value, np.random.Generator):
        return _Frozen("generator", value.bit_generator.state)
    if hasattr(value, "snapshot") and hasattr(value, "restore"):
        return _Frozen("own", value.snapshot())
    # Anything beyond a dict and a weak reference is state that attributes do not show: a file, a socket, slots.
    if hasattr(value, "__dict__") and type(value).__basicsize__ <= object.__basicsize__ + 16:
        parts = {name: _freeze(part, f"{where}.{name}") for name, part in vars(value).items()}
        return _Frozen("object", (type(value), parts))
    raise SnapshotError(f"{where} is a {type(value).__name__}, which cannot be captured")


@cache
def _is_description(kind: type) -> bool:
    """Whether values of a type are frozen data, spaces or specs: what describes an environment and does not change."""
    from gymnasium import Space
    from gymnasium.envs.registration import EnvSpec

    parameters = getattr(kind, "__dataclass_params__", None)
    return (parameters is not None and parameters.frozen) or issubclass(kind, _SHARED + (Space, EnvSpec))


def _replace_attributes(target: Any, attributes: Mapping[str, Any]) -> None:
    """Give an object exactly these attributes; the environment that it wraps stays."""
    current = vars(target)
    for name in [name for name in current if name not in attributes and name != "env"]:
        del current[name]
    for name, frozen in attributes.items():
        current[name] = _thaw(frozen, current.get(name))


def _thaw(frozen: Any, current: Any) -> Any:
    """The value, fresh, so that a snapshot can be restored again; objects are changed in place."""
    if not isinstance(frozen, _Frozen):
        return frozen
    kind, data = frozen.kind, frozen.data
    if kind == "array":
        return data.copy()
    if kind == "dict":
        old = current if isinstance(current, Mapping) else {}
        return {key: _thaw(part, old.get(key)) for key, part in data.items()}
    if kind in ("tuple", "list", "set", "deque"):
        parts, maxlen = data
        olds = list(current) if type(current).__name__ == kind and len(current) == len(parts) else [None] * len(parts)
        fresh = [_thaw(part, old) for part, old in zip(parts, olds, strict=True)]
        if kind == "deque":
            return deque(fresh, maxlen)
        return tuple(fresh) if kind == "tuple" else set(fresh) if kind == "set" else fresh
    if kind == "random":
        chance = random.Random()
        chance.setstate(data)
        return chance
    if kind == "generator":
        return _generator(data, current)
    if kind == "own":
        if current is None:
            raise SnapshotError("the snapshot holds an object that this environment lacks; restore into an equal stack")
        current.restore(data)
        return current
    made, attributes = data
    target = current if type(current) is made else object.__new__(made)
    _replace_attributes(target, attributes)
    return target


def _generator(state: Mapping[str, Any], current: Any) -> Any:
    import numpy as np

    kind = state["bit_generator"]
    if not isinstance(current, np.random.Generator) or type(current.bit_generator).__name__ != kind:
        current = np.random.Generator(getattr(np.random, kind)())
    current.bit_generator.state = state
    return current

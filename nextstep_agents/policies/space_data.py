"""Gymnasium spaces as plain data and back, so that a saved policy needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nextstep_envs.errors import ConfigError, DataError


def to_data(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON holds it.

    Raises:
        ConfigError: a kind of space that no policy here can take.
    """
    match space:
        case spaces.Box():
            bounds = {"low": _bounds(space.low), "high": _bounds(space.high)}
            return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "n": np.asarray(space.n).tolist()}
        case spaces.Dict():
            return {"kind": "Dict", "spaces": {str(name): to_data(inner) for name, inner in space.items()}}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [to_data(inner) for inner in space]}
    raise ConfigError(f"a policy on the space {space} cannot be saved; wrap the environment to make it a Box")


def from_data(data: Mapping[str, Any]) -> spaces.Space[Any]:
    """The space that `to_data` described.

    Raises:
        DataError: it describes none.
    """
    match data:
        case {"kind": "Box", "low": low, "high": high, "shape": shape, "dtype": dtype}:
            kind = np.dtype(dtype)
            return spaces.Box(_array(low, shape, kind), _array(high, shape, kind), dtype=kind.type)
        case {"kind": "Discrete", "n": n, "start": start}:
            return spaces.Discrete(n, start=start)
        case {"kind": "MultiDiscrete", "nvec": nvec, "start": start}:
            return spaces.MultiDiscrete(np.array(nvec), start=np.array(start))
        case {"kind": "MultiBinary", "n": n}:
            return spaces.MultiBinary(n)
        case {"kind": "Dict", "spaces": inner}:
            return spaces.Dict({name: from_data(one) for name, one in inner.items()})
        case {"kind": "Tuple", "spaces": inner}:
            return spaces.Tuple([from_data(one) for one in inner])
    raise DataError(f"{data!r} describes no space")


def _bounds(values: npt.NDArray[Any]) -> str | list[str]:
    """Bounds as text, which holds infinities as well: one where all are equal."""
    texts = [repr(value) for value in values.reshape(-1).tolist()]
    return texts[0] if len(set(texts)) == 1 else texts


def _array(bounds: str | list[str], shape: list[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    number = float if np.issubdtype(dtype, np.floating) else int
    values = number(bounds) if isinstance(bounds, str) else [number(bound) for bound in bounds]
    return np.broadcast_to(np.array(values, dtype).reshape(shape if isinstance(bounds, list) else ()), shape).copy()

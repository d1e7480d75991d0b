"""Reads what one step of a vector environment said, also where a finished sub-environment was reset at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def step_column(infos: Mapping[str, Any], name: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of `info[name]` that belong to the step just taken, one row per sub-environment.

    With SAME_STEP autoreset the top level of `infos` already describes the next episode where one ended; the step's
    own values are under `final_info`.

    Args:
        infos: what `VectorEnv.step` returned.
        name: the entry, a number or an array of one shape in every sub-environment.
        like: zeros of the wanted shape and type, `[num_envs, ...]`; rows without a value stay zero.
    """
    column = like.copy()
    for source, owner in ((infos, None), (infos.get("final_info"), infos.get("_final_info"))):
        if source is None or name not in source:
            continue
        rows = np.asarray(source.get(f"_{name}", True)) & (True if owner is None else np.asarray(owner))
        rows = np.broadcast_to(rows, len(column))
        column[rows] = np.asarray(source[name])[rows]
    return column

"""Follows the episodes of a vector environment: where each stands, and what the step just taken said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode


def step_column(infos: Mapping[str, Any], name: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of `info[name]` that belong to the step just taken, one row per sub-environment.

    With SAME_STEP autoreset the top level of `infos` already describes the next episode where one ended; the step's
    own values are under `final_info`.

    Args:
        infos: what `VectorEnv.step` returned.
        name: the entry, a number or an array of one shape in every sub-environment; "outer/inner" for an entry of a
            dict such as `cost_terms`.
        like: zeros of the wanted shape and type, `[num_envs, ...]`; rows without a value stay zero.
    """
    column = like.copy()
    *outer, name = name.split("/")
    for source, rows in ((infos, True), (infos.get("final_info", {}), infos.get("_final_info", True))):
        for key in outer:
            source = source.get(key, {})
        if name in source:
            chosen = np.broadcast_to(np.asarray(rows) & source.get(f"_{name}", True), len(column))
            column[chosen] = np.asarray(source[name])[chosen]
    return column


class Progress:
    """How far the episode of each sub-environment is, whatever its way to reset itself.

    Attributes:
        decisions: int [num_envs], decisions taken before the coming step.
        live: bool [num_envs], whether the coming step is a decision (with NEXT_STEP autoreset, the step after an
            episode's end only resets).
    """

    def __init__(self, num_envs: int, metadata: Mapping[str, Any]) -> None:
        self.decisions = np.zeros(num_envs, dtype=np.int64)
        self.live = np.ones(num_envs, dtype=np.bool_)
        self._mode = metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)

    def reset(self, options: Mapping[str, Any] | None) -> None:
        """Start episodes: all, or those of `options["reset_mask"]`. Call before the environment takes that out."""
        chosen = (options or {}).get("reset_mask", slice(None))
        self.decisions[chosen] = 0
        self.live[chosen] = True

    def step(self, ended: npt.NDArray[np.bool_]) -> None:
        """Count the step just taken; `ended`: whose episode it ended."""
        self.decisions = np.where(self.live, self.decisions + 1, 0)
        if self._mode == AutoresetMode.SAME_STEP:
            self.decisions[ended] = 0
        elif self._mode == AutoresetMode.NEXT_STEP:
            self.live = ~ended

"""Spaces survive JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from nextstep_agents.policies.space_data import from_data, to_data
from nextstep_envs.errors import ConfigError, DataError


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3), np.float32),
        spaces.Box(np.array([-np.inf, 0.1], np.float32), np.array([1 / 3, np.inf], np.float32)),
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Box(-1.0, 1.0, (), np.float64),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([3, 4], start=[1, 0]),
        spaces.MultiBinary(4),
        spaces.MultiBinary([2, 3]),
        spaces.Dict(observation=spaces.Box(0, 1, (3,), np.float32), action_mask=spaces.Box(0, 1, (2,), np.int8)),
        spaces.Tuple([spaces.Discrete(2), spaces.Dict(a=spaces.MultiBinary(1))]),
    ],
    ids=str,
)
def test_a_space_survives_json(space: spaces.Space[Any]) -> None:
    assert from_data(json.loads(json.dumps(to_data(space), allow_nan=False))) == space


def test_what_is_no_space_for_a_policy_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Text"):
        to_data(spaces.Text(5))
    with pytest.raises(DataError, match="Sphere"):
        from_data({"kind": "Sphere"})

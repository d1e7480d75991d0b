"""Many environments at once give what each would give alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from tests.conformance.cases import Case, assert_same

N = 3


def vectors(case: Case, mode: str) -> VectorEnv[Any, Any, Any]:
    if mode == "vector_entry_point":
        return gym.make_vec(case.id, num_envs=N, vectorization_mode=mode, **case.kwargs)
    vector_kwargs: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    if mode == "async":
        vector_kwargs |= {"context": "spawn"} | ({"shared_memory": False} if case.text else {})
    # The prefix makes a spawned process import the package.
    return gym.make_vec(
        f"nextstep_envs:{case.id}", num_envs=N, vectorization_mode=mode, vector_kwargs=vector_kwargs, **case.kwargs
    )


def row(batch: Any, index: int) -> Any:
    """What one sub-environment sees."""
    return {key: batch[key][index] for key in sorted(batch)} if isinstance(batch, Mapping) else batch[index]


def ordered(observation: Any) -> Any:
    """Entries by name: spaces and environments may order them differently."""
    return dict(sorted(observation.items())) if isinstance(observation, Mapping) else observation


def info_row(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The info of one sub-environment, out of columns."""
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") or not infos.get(f"_{key}", np.ones(N, bool))[index]:
            continue
        info[key] = info_row(value, index) if isinstance(value, Mapping) else value[index]
    return info


def assert_same_info(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Equal up to what columns change: order, and Python scalars become numpy's."""
    assert set(left) == set(right)
    for key, value in left.items():
        other = right[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            assert_same_info(value, other)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other, strict=True)
        else:
            assert value == other, f"{key}: {value!r} is not {other!r}"


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", "async"])
def test_a_vector_is_its_parts(case: Case, mode: str) -> None:
    if mode == "vector_entry_point" and not case.vector:
        pytest.skip("this id has no batched form")
    many = vectors(case, mode)
    try:
        assert many.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        singles = [case.make() for _ in range(N)]
        policies = [case.policy(seed) for seed in range(N)]
        observations, infos = many.reset(seed=[11, 12, 13])
        current = [env.reset(seed=seed) for env, seed in zip(singles, (11, 12, 13), strict=True)]
        ended = 0
        for _ in range(25):
            for i, (observation, info) in enumerate(current):
                assert_same(row(observations, i), ordered(observation), f"observation {i}")
                assert_same_info(info, {k: v for k, v in info_row(infos, i).items() if not k.startswith("final_")})
            actions = [policy(*seen) for policy, seen in zip(policies, current, strict=True)]
            observations, rewards, terminations, truncations, infos = many.step(
                tuple(actions) if case.text else np.array(actions)
            )
            for i, (env, action) in enumerate(zip(singles, actions, strict=True)):
                observation, reward, terminated, truncated, info = env.step(action)
                assert (rewards[i], terminations[i], truncations[i]) == (reward, terminated, truncated)
                if terminated or truncated:
                    ended += 1
                    assert infos["_final_info"][i]
                    assert_same(ordered(infos["final_obs"][i]), ordered(observation), f"final observation {i}")
                    assert_same_info(info, info_row(infos["final_info"], i))
                    observation, info = env.reset()
                current[i] = observation, info
        assert ended >= N  # automatic resets were part of it
    finally:
        many.close()

"""Infos of numbers only, of one shape in every step: what TorchRL's PettingZoo wrapper makes tensors of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pettingzoo.test import api_test, parallel_api_test

import nextstep_envs  # noqa: F401  (registers)
import registry
from tests.conformance.cases import assert_same
from wrappers.interfaces import TorchRLAEC, TorchRLParallel

TEAMS = [entry.id for entry in registry.entries() if entry.parallel_entry_point]
PIPELINES = [entry.id for entry in registry.entries() if entry.aec_entry_point]


def assert_numbers(infos: dict[str, dict[str, Any]]) -> None:
    for info in infos.values():
        assert set(info) == {"cost", "costs", "invalid_action", "sample"}
        assert all(np.asarray(value).dtype.kind in "bif" for value in info.values())


@pytest.mark.parametrize("env_id", TEAMS)
def test_a_team_keeps_its_numbers_and_nothing_else_changes(env_id: str) -> None:
    env, plain = TorchRLParallel(registry.make_parallel(env_id)), registry.make_parallel(env_id)
    rng = np.random.default_rng(0)
    (observations, infos), (expected, infos_there) = env.reset(seed=2), plain.reset(seed=2)
    while env.agents:
        assert_numbers(infos)
        assert_same(observations, expected)
        masks = {agent: infos_there[agent]["action_mask"] for agent in env.agents}
        actions = {agent: int(rng.choice(np.flatnonzero(mask))) for agent, mask in masks.items()}
        observations, rewards, terminated, truncated, infos = env.step(actions)
        expected, *there, infos_there = plain.step(actions)
        assert [rewards, terminated, truncated] == there
    assert_numbers(infos)
    for agent, info in infos.items():
        assert_same(info, {key: infos_there[agent][key] for key in info})


@pytest.mark.parametrize("env_id", PIPELINES)
def test_a_pipeline_keeps_its_numbers(env_id: str) -> None:
    env, plain = TorchRLAEC(registry.make_aec(env_id)), registry.make_aec(env_id)
    env.reset(seed=2), plain.reset(seed=2)
    for agent in env.agent_iter():
        assert_numbers(env.infos)
        assert_same(env.observe(agent), plain.observe(agent))
        over = env.terminations[agent] or env.truncations[agent]
        action = None if over else int(np.flatnonzero(plain.infos[agent]["action_mask"])[-1])
        env.step(action), plain.step(action)
        assert env.rewards == plain.rewards
    assert not plain.agents


# PettingZoo says this of every dictionary but those of its own games, which it knows by name.
@pytest.mark.filterwarnings("ignore:Observation is not a NumPy array:UserWarning")
@pytest.mark.filterwarnings("ignore:Observation space for each agent probably:UserWarning")
def test_they_stay_pettingzoo_environments() -> None:
    parallel_api_test(TorchRLParallel(registry.make_parallel(TEAMS[0])), num_cycles=20)
    api_test(TorchRLAEC(registry.make_aec(PIPELINES[0])), num_cycles=20)

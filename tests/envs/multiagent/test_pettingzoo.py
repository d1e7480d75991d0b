"""PettingZoo's own tests, for every form and interface (conformance runs them for the vector interface only)."""

from __future__ import annotations

import warnings
from typing import Any

import pettingzoo
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

import nextstep_envs  # noqa: F401
import registry
from tests.envs.multiagent.flows import PIPELINE, TEAM

# What PettingZoo says of every dictionary and every text, save those of its own games, which it knows by name.
UNAVOIDABLE = {
    "vector": {
        "Observation is not a NumPy array",
        "Observation space for each agent probably should be gymnasium.spaces.box or gymnasium.spaces.discrete",
    },
    "text": {
        "Observation is not a NumPy array",
        "Observation space for each agent probably should be gymnasium.spaces.box or gymnasium.spaces.discrete",
        "Action space for each agent probably should be gymnasium.spaces.box or gymnasium.spaces.discrete",
    },
}


@pytest.mark.parametrize("interface", ["vector", "text"])
def test_the_aec_tests_are_content(interface: str) -> None:
    def make() -> Any:
        return registry.make_aec(PIPELINE, interface=interface)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        api_test(make(), num_cycles=60)
    assert {str(warning.message) for warning in caught} == UNAVOIDABLE[interface]
    seed_test(make, num_cycles=40)


@pytest.mark.parametrize("interface", ["vector", "text"])
@pytest.mark.parametrize("id", [PIPELINE, TEAM])
def test_the_parallel_tests_are_content(id: str, interface: str) -> None:
    def make() -> Any:
        return registry.make_parallel(id, interface=interface)

    parallel_api_test(make(), num_cycles=60)
    parallel_seed_test(make, num_cycles=40)


def test_arguments_pass_through_pettingzoos_registry() -> None:
    env = pettingzoo.make("parallel", TEAM, rounds=2, interface="text")
    assert env.rules.rounds == 2 and env.setup.text
    assert pettingzoo.make("aec", PIPELINE, split="dev").split == "dev"
    assert pettingzoo.make("parallel", PIPELINE, reward="none").scored is False

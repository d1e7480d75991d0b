"""What every multi-agent environment promises: PettingZoo's own tests, determinism, masks, snapshots, copies."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

import nextstep_envs  # noqa: F401
import registry
from tests.conformance.cases import assert_same

FORMS = {"aec": registry.make_aec, "parallel": registry.make_parallel}


@dataclass(frozen=True)
class Team:
    """One id in one form, with vector actions."""

    id: str
    form: str

    def __str__(self) -> str:
        return f"{self.id.partition('/')[2]}-{self.form}"

    def make(self) -> Any:
        return FORMS[self.form](self.id)


TEAMS = [
    Team(entry.id, form)
    for entry in registry.entries()
    for form in FORMS
    if getattr(entry, f"{form}_entry_point") is not None
]


@pytest.fixture(params=TEAMS, ids=str)
def team(request: pytest.FixtureRequest) -> Team:
    """One multi-agent id in one form."""
    return request.param


def masks(env: Any) -> Mapping[str, Any]:
    """What each living agent may do now."""
    return {agent: env.action_masks(agent) for agent in env.agents}


def go_on(env: Any, form: str, rng: random.Random, steps: int = 20) -> list[Any]:
    """Everything that a random legal walk meets, episodes one after the other."""
    seen: list[Any] = []
    for _ in range(steps):
        if not env.agents:
            seen.append(env.reset())
        if form == "aec":
            observation, reward, terminated, truncated, info = env.last()
            seen.append((env.agent_selection, observation, reward, terminated, truncated, info))
            mask = info.get("action_mask")
            env.step(None if terminated or truncated else int(rng.choice(np.flatnonzero(mask))))
        else:
            actions = {agent: int(rng.choice(np.flatnonzero(mask))) for agent, mask in masks(env).items()}
            seen.append(env.step(actions))
    return seen


# PettingZoo says this of every dictionary but those of its own games, which it knows by name.
@pytest.mark.filterwarnings("ignore:Observation is not a NumPy array:UserWarning")
@pytest.mark.filterwarnings("ignore:Observation space for each agent probably should be:UserWarning")
def test_pettingzoos_own_tests_are_content(team: Team) -> None:
    if team.form == "aec":
        api_test(team.make(), num_cycles=60)
        seed_test(team.make, num_cycles=20)
    else:
        parallel_api_test(team.make(), num_cycles=60)
        parallel_seed_test(team.make, num_cycles=20)


def test_pettingzoos_registry_has_it(team: Team) -> None:
    env = pettingzoo.make(team.form, team.id)
    assert type(env) is type(team.make())


def test_equal_seeds_and_actions_give_equal_everything(team: Team) -> None:
    runs = []
    for env in (team.make(), team.make()):
        env.reset(seed=3)
        runs.append(go_on(env, team.form, random.Random(0)))
    assert_same(runs[1], runs[0])


def test_seeds_differ(team: Team) -> None:
    runs = set()
    for seed in range(6):
        env = team.make()
        env.reset(seed=seed)
        runs.add(repr(go_on(env, team.form, random.Random(0), steps=6)))
    assert len(runs) > 1


def test_every_living_agent_can_always_do_something_and_the_masks_agree(team: Team) -> None:
    env = team.make()
    env.reset(seed=0)
    rng = random.Random(1)
    for _ in range(40):
        if not env.agents:
            env.reset()
        if team.form == "aec":
            observation, _, terminated, truncated, info = env.last()
            agents = [] if terminated or truncated else [(env.agent_selection, observation, info)]
        else:
            actions = {agent: int(rng.choice(np.flatnonzero(mask))) for agent, mask in masks(env).items()}
            observations, _, _, _, infos = env.step(actions)
            agents = [(agent, observations[agent], infos[agent]) for agent in env.agents]
        for agent, observation, info in agents:
            mask = info["action_mask"]
            assert mask.dtype == np.int8 and mask.any() and mask.shape == (env.action_space(agent).n,)
            np.testing.assert_array_equal(observation["action_mask"], mask)
            np.testing.assert_array_equal(env.action_masks(agent), mask.astype(bool))
            assert info["costs"].dtype == np.float64 and info["cost"] == info["costs"][0] >= 0.0
            assert isinstance(info["task_id"], str) and info["sample"] == 0
        if team.form == "aec":
            env.step(None if not agents else int(rng.choice(np.flatnonzero(agents[0][2]["action_mask"]))))


def test_a_snapshot_continues_alike_resets_included(team: Team) -> None:
    env, twin = team.make(), team.make()
    env.reset(seed=5), twin.reset(seed=77)
    go_on(env, team.form, random.Random(0), steps=3)
    taken = pickle.loads(pickle.dumps(registry.snapshot(env)))
    expected = go_on(env, team.form, random.Random(1))
    for other in (env, twin):
        registry.restore(other, taken)
        assert_same(go_on(other, team.form, random.Random(1)), expected)


@pytest.mark.parametrize("clone", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_copy_in_mid_episode_continues_alike(team: Team, clone: Any) -> None:
    env = team.make()
    env.reset(seed=2)
    go_on(env, team.form, random.Random(0), steps=2)
    twin = clone(env)
    assert_same(go_on(twin, team.form, random.Random(1)), go_on(env, team.form, random.Random(1)))


def test_an_unknown_id_or_form_is_named() -> None:
    with pytest.raises(registry.UnknownNameError, match="WebShop-Tema-v0"):
        registry.make_parallel("NextStep/WebShop-Tema-v0")
    with pytest.raises(registry.UnknownNameError, match="aec environment 'NextStep/WebShop-v0' is unknown; known: "):
        registry.make_aec("NextStep/WebShop-v0")

"""What every environment promises, whatever its world and protocol."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import nextstep_envs
import registry
from nextstep_envs.errors import ActionError, ConfigError
from tests.conformance.cases import CASES, Case, assert_same, go_on, play
from wrappers import CostPenalty, RecordCost, RecordTrace
from wrappers.jsonl import plain

ROOT = Path(nextstep_envs.__file__).parents[1]


def test_gymnasiums_own_checker_is_content(case: Case) -> None:
    check_env(case.make(disable_env_checker=True).unwrapped)


def test_equal_seeds_and_actions_give_equal_everything(case: Case) -> None:
    first, second = case.make(), case.make()
    expected = play(case, first)
    assert_same(play(case, second), expected)
    assert_same(play(case, first), expected)  # and again in an environment that has been used


def test_equal_seeds_agree_across_processes(case: Case) -> None:
    """Python's hashes of texts differ from process to process; results must not."""
    code = (
        "import hashlib, sys\n"
        "from tests.conformance.cases import CASES, play\n"
        "from wrappers.jsonl import plain\n"
        "case = CASES[int(sys.argv[1])]\n"
        "seen = play(case, case.make())\n"
        "print(hashlib.sha256(repr(plain(seen)).encode()).hexdigest())\n"
    )
    digests = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(CASES.index(case))]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_another_seed_gives_another_episode(case: Case) -> None:
    assert len({repr(plain(play(case, case.make(), steps=4, seed=seed))) for seed in range(8)}) > 1


def test_a_task_can_be_named_and_sampled_again(case: Case) -> None:
    env = case.make()
    task_id = env.reset(seed=5)[1]["task_id"]
    observation, info = env.reset(seed=6, options={"task_id": task_id})
    assert info["task_id"] == task_id and info["sample"] == 0
    again, other = env.reset(seed=6, options={"task_id": task_id, "sample": 3})
    assert_same(again, observation)  # the sample changes what happens, not what is asked
    assert other["sample"] == 3
    with pytest.raises(ConfigError, match="no such task"):
        env.reset(options={"task_id": "no such task"})


def test_every_step_is_billed_and_labelled(case: Case) -> None:
    env = case.make()
    names = env.get_wrapper_attr("cost_names")
    ended = 0
    for item in play(case, env, steps=60):
        info = item[-1]
        assert isinstance(info["task_id"], str) and isinstance(info["sample"], int)
        assert info["costs"].dtype == np.float64 and info["costs"].shape == (len(names),)
        assert np.all(info["costs"] >= 0)
        assert type(info["cost"]) is float and info["cost"] == info["costs"][0]
        assert [info["cost_terms"][name] for name in names] == info["costs"].tolist()
        if len(item) == 2:
            assert info["cost"] == 0.0 and "outcome" not in info
            continue
        _, reward, terminated, truncated, _ = item
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        assert not truncated  # scripted workers have no outages, and truncation has no other use
        ended += terminated
        if case.pays == "end":
            assert ("outcome" in info) == terminated
            assert reward == (info["outcome"]["score"] if terminated else 0.0) and 0.0 <= reward <= 1.0
    assert ended


def test_masks_are_three_views_of_one(case: Case) -> None:
    env = case.make()
    if "action_mask" not in env.reset(seed=0)[1]:
        pytest.skip("this id has open-ended actions and no mask")
    policy = case.policy(1)
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            mask = info["action_mask"]
            assert mask.dtype == np.int8 and mask.ndim == 1
            assert mask.any(), "while an episode runs, something must be possible"
            method = env.get_wrapper_attr("action_masks")()
            assert method.dtype == np.bool_
            np.testing.assert_array_equal(method, mask.astype(bool))
            if not case.text:
                assert mask.shape == (env.action_space.n,)
                np.testing.assert_array_equal(observation["action_mask"], mask)
            observation, _, terminated, truncated, info = env.step(policy(observation, info))
            over = terminated or truncated


def test_a_snapshot_of_the_wrapped_environment_continues_alike(case: Case) -> None:
    env = RecordCost(CostPenalty(case.make(), weight=0.5, form="log", max_steps=9))
    policy, twin_policy = case.policy(0), case.policy(0)
    observation, info = env.reset(seed=4)
    assert policy(observation, info) == twin_policy(observation, info)
    taken, runs = registry.snapshot(env), []
    for chosen in (policy, twin_policy):
        registry.restore(env, pickle.loads(pickle.dumps(taken)))
        runs.append(go_on(chosen, env, (observation, info)))
    assert_same(runs[1], runs[0])


def test_a_spec_survives_json(case: Case) -> None:
    env = case.make()
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert_same(play(case, again), play(case, env))


def test_a_wrapped_spec_survives_json(case: Case, tmp_path: Path) -> None:
    env = RecordCost(CostPenalty(case.make(), weight=0.5, form="log", max_steps=9))
    env = RecordTrace(env, tmp_path / "trace.jsonl")
    text = env.spec.to_json()
    json.loads(text)
    again = gym.make(EnvSpec.from_json(text))
    assert [type(w) for w in _stack(again)] == [type(w) for w in _stack(env)]
    assert_same(play(case, again), play(case, env))


def _stack(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    return [env, *_stack(env.env)] if isinstance(env, gym.Wrapper) else [env]


@pytest.mark.parametrize("clone", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_copy_in_mid_episode_continues_alike(case: Case, clone: Any) -> None:
    env = case.make()
    policy, twin_policy = case.policy(0), case.policy(0)
    observation, info = env.reset(seed=2)
    action = policy(observation, info)
    assert action == twin_policy(observation, info)
    observation, _, terminated, truncated, info = env.step(action)
    twin = clone(env)
    twin_observation, twin_info = observation, info
    for _ in range(8):
        if terminated or truncated:
            mine, other = env.reset(), twin.reset()
            terminated = truncated = False
        else:
            mine = env.step(policy(observation, info))
            other = twin.step(twin_policy(twin_observation, twin_info))
            _, _, terminated, truncated, _ = mine
        assert_same(other, mine)
        observation, info, twin_observation, twin_info = mine[0], mine[-1], other[0], other[-1]


def test_render_shows_the_task(case: Case) -> None:
    env = case.make(render_mode="ansi")
    observation, info = env.reset(seed=0)
    shown = env.render()
    assert isinstance(shown, str) and shown.strip()
    env.step(case.policy(0)(observation, info))
    assert env.render() != shown


def test_an_action_of_the_wrong_type_is_named(case: Case) -> None:
    env = case.make(disable_env_checker=True)
    for action in (None, 1.5, "1" if not case.text else 1):
        env.reset(seed=0)
        with pytest.raises(ActionError, match=str(action)):
            env.step(action)

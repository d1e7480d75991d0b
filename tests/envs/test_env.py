"""The orchestration environment: reset options, chat workers through the fake provider, failures, bad input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ActionError, ConfigError

ID = "NextStep/WebShop-Workflow-v0"
PLAN = json.dumps(
    {
        "workflow": [
            {"subtask": "List the requirements of: {task}", "worker_id": "planning", "access_list": []},
            {"subtask": "Buy what the requirements describe.", "worker_id": "tool_use", "access_list": ["0"]},
        ]
    }
)


def make(**kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make(ID, **{"interface": "text", "split": "test", **kwargs})


def test_seed_and_task_fix_everything_but_the_sample() -> None:
    env = make(split="train")
    first, info = env.reset(seed=4, options={"task_id": "1600", "sample": 0})
    again, other = env.reset(seed=4, options={"task_id": "1600", "sample": 3})
    assert first == again and (info["sample"], other["sample"]) == (0, 3)
    assert info["task_id"] == other["task_id"] == "1600"


def test_train_draws_three_of_four_workers_and_options_choose() -> None:
    env = make(split="train")
    pools = {tuple(s.worker_id for s in _state(env, seed).pool) for seed in range(30)}
    assert {len(pool) for pool in pools} == {3} and len(pools) == 4
    assert len(_state(make(), 0).pool) == 4
    env.reset(seed=0, options={"pool": ["planning"]})
    assert [s.worker_id for s in env.unwrapped.episode.state.pool] == ["planning"]  # type: ignore[attr-defined]


def _state(env: gym.Env[Any, Any], seed: int) -> Any:
    env.reset(seed=seed)
    return env.unwrapped.episode.state  # type: ignore[attr-defined]


def test_costs_follow_their_names() -> None:
    env = make(cost=["usd", "tokens"])
    env.reset(seed=0)
    _, _, _, _, info = env.step(PLAN)
    terms = info["cost_terms"]
    assert info["costs"].tolist() == [terms["usd"], terms["tokens"]] and info["cost"] == terms["usd"]
    assert terms["tokens"] == sum(r.usage.tokens for r in info["records"])
    assert env.unwrapped.cost_names == ("usd", "tokens")  # type: ignore[attr-defined]


def test_reward_none_leaves_the_outcome_in_info_only() -> None:
    env = make(reward="none")
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(PLAN)
    assert terminated and reward == 0.0 and info["outcome"].score >= 0


@pytest.mark.parametrize("invalid", [0.0, 0.3, 1.0])
def test_chat_workers_through_the_fake_provider(invalid: float) -> None:
    env = make(workers={"kind": "fake", "invalid_rate": invalid})
    env.reset(seed=2)
    step = {"subtask": "find {task}", "worker_id": "tool_use", "access_list": []}
    _, _, _, truncated, info = env.step(json.dumps(step))
    (record,) = info["records"]
    assert not truncated and record.usage.calls >= 1 and record.usage.usd_nano > 0
    assert bool(record.tools) == (invalid < 1)
    first = json.dumps([record.output, record.usage])
    env.reset(seed=2)
    (again,) = env.step(json.dumps(step))[4]["records"]
    assert json.dumps([again.output, again.usage]) == first
    env.reset(seed=2, options={"sample": 1})
    (other,) = env.step(json.dumps(step))[4]["records"]
    assert invalid == 1.0 or json.dumps([other.output, other.usage, other.tools]) != first


def test_a_dead_provider_masks_the_sample() -> None:
    env = make(workers={"kind": "fake", "failure_rate": 1.0})
    env.reset(seed=2)
    _, reward, terminated, truncated, info = env.step(PLAN)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["mask_sample"] is True and info["error"]["kind"] == "outage" and "outcome" not in info


def test_a_pool_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(
        "kind: fake\ninvalid_rate: 0.5\npool:\n"
        "- {worker_id: solo, description: does it all, usd_per_mtok_in: 1,\n"
        "   usd_per_mtok_out: 2, skills: {garden: 0.5}}\n"
    )
    env = make(workers=str(path))
    message, _ = env.reset(seed=0)
    assert "solo: does it all" in message


def test_snapshots_and_pickles_continue_identically() -> None:
    env = make(interface="vector").unwrapped
    env.reset(seed=1)
    env.step(0)
    saved = env.snapshot()  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(env))
    ahead = env.step(1)
    env.restore(saved)  # type: ignore[attr-defined]
    for other in (env.step(1), copy.step(1)):
        assert np.array_equal(other[0]["observation"], ahead[0]["observation"]) and other[1:4] == ahead[1:4]
    assert np.array_equal(env.reset()[0]["observation"], copy.reset()[0]["observation"])
    assert len(pickle.dumps(env)) < 200_000


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"split": "validation"}, "split='validation'.*'train'"),
        ({"interface": "json"}, "interface='json'"),
        ({"workers": "robots"}, "'robots'.*scripted"),
        ({"workers": "none.yaml"}, "none.yaml.*no such file"),
        ({"workers": {"invalid_rate": 0.1}}, "kind"),
        ({"workers": {"kind": "fake", "rate": 0.1}}, "rate"),
        ({"workers": {"kind": "fake", "invalid_rate": 2}}, "invalid_rate=2"),
        ({"workers": {"kind": "fake", "pool": [{"worker_id": "a"}]}}, r"pool\[0\]"),
        ({"budget": {"tokens": 0}}, "tokens=0"),
        ({"budget": {"token": 5}}, "'token'.*'tokens'"),
        ({"budget": {"usd": -1.0}}, "usd=-1"),
        ({"budget": 5}, "budget=5"),
        ({"cost": "euros"}, "'euros'.*'usd'"),
        ({"cost": []}, "names no cost"),
        ({"cost_limits": {"usd": 0}}, "usd"),
        ({"pool_size": 5}, "pool_size=5.*4"),
        ({"reward": "profit"}, "'profit'"),
        ({"world": "mars"}, "'mars'.*webshop"),
        ({"num_product": 5}, "'num_product'.*'num_products'"),
        ({"protocol": "chaos"}, "'chaos'.*workflow"),
        ({"render_mode": "rgb"}, "'rgb'"),
    ],
)
def test_bad_arguments_are_named_with_the_fix(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(Exception, match=match):
        OrchestrationEnv(**kwargs)


@pytest.mark.parametrize("options", [{"task": "1"}, {"task_id": "zzz"}, {"pool": []}, {"pool": ["x"]}, {"sample": -1}])
def test_bad_reset_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make().reset(options=options)


def test_actions_of_the_wrong_type() -> None:
    text = OrchestrationEnv(interface="text")
    text.reset(seed=0)
    with pytest.raises(ActionError, match="int 3"):
        text.step(3)
    vector = OrchestrationEnv()
    vector.reset(seed=0)
    for bad in ("3", 2.5, None, True, np.array([1, 2])):
        with pytest.raises(ActionError):
            vector.step(bad)
    assert not vector.step(np.int64(0))[2] and not vector.step(np.array([1]))[2]


def test_stepping_after_the_end_is_an_error() -> None:
    env = OrchestrationEnv(interface="text")
    env.reset(seed=0)
    env.step('{"finish": true}')
    with pytest.raises(RuntimeError, match="reset"):
        env.step('{"finish": true}')

"""Policies without parameters, on both interfaces of the real environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401 - registers the ids
from nextstep_agents.policies.scripted import (
    PLANS,
    WARM_START_PLANS,
    FixedPlanPolicy,
    PlanStep,
    RandomPolicy,
    action_index,
    available_plans,
    finish_index,
    plan_text,
)
from nextstep_envs.errors import ConfigError
from nextstep_envs.workers.pool import DEFAULT_POOL

POOL = tuple(spec.worker_id for spec in DEFAULT_POOL)
ENV = "NextStep/WebShop-Workflow-v0"


@pytest.fixture(scope="module", params=["text", "vector"])
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env[Any, Any]]:
    env = gym.make(ENV, interface=request.param, split="dev")
    yield env
    env.close()


def play(env: gym.Env[Any, Any], policy: FixedPlanPolicy | RandomPolicy, seed: int) -> tuple[float, list[Any]]:
    observation, info = env.reset(seed=seed)
    policy.reset()
    total, records, over = 0.0, [], False
    while not over:
        observation, reward, over, truncated, info = env.step(policy.act(observation, info))
        total += float(reward)
        records += info["records"]
        assert not truncated
    return total, records


def interface_of(env: gym.Env[Any, Any]) -> Any:
    return "text" if env.unwrapped.setup.text else "vector"  # type: ignore[attr-defined]


def test_the_plan_space_is_rich_and_has_the_warm_start() -> None:
    assert 30 <= len(PLANS) <= 80
    assert len(set(PLANS.values())) == len(PLANS)
    assert set(WARM_START_PLANS) <= set(PLANS)


@pytest.mark.parametrize("name", WARM_START_PLANS)
def test_a_plan_runs_as_written_on_both_interfaces(env: gym.Env[Any, Any], name: str) -> None:
    _, records = play(env, FixedPlanPolicy(name, interface_of(env)), seed=5)
    assert [record.step.worker_id for record in records] == [step.worker_id for step in PLANS[name]]
    assert [record.step.reads for record in records] == [tuple(range(i)) for i in range(len(records))]


def test_both_interfaces_give_a_plan_the_same_outcome() -> None:
    results = []
    for interface in ("text", "vector"):
        env = gym.make(ENV, interface=interface, split="dev")
        policy = FixedPlanPolicy("planner.plan>tool.open>verifier.check", interface)
        results.append([play(env, policy, seed)[0] for seed in range(10)])
    assert results[0] == results[1]
    assert np.mean(results[0]) > 0.3


def test_a_whole_plan_is_one_json_action() -> None:
    action = json.loads(plan_text(PLANS["planner.plan>tool.open>verifier.check"]))
    assert [step["worker_id"] for step in action["workflow"]] == ["planning", "tool_use", "verification"]
    assert [step["access_list"] for step in action["workflow"]] == [[], ["last"], ["all"]]


def test_vector_actions_are_numbered_by_worker_template_and_context() -> None:
    env = gym.make(ENV, interface="vector", split="dev")
    rules = env.unwrapped.setup.rules  # type: ignore[attr-defined]
    assert finish_index() == rules.n_actions - 1
    seen = {action_index(PlanStep(w, t, c)) for w in POOL for t in ("plan", "check") for c in ("none", "last", "all")}
    assert len(seen) == 24
    assert action_index(PlanStep("general_reasoning", "plan", "none")) == 0
    assert action_index(PlanStep("verification", "check", "all")) == rules.n_actions - 2


def test_the_random_policy_is_seeded_and_always_legal(env: gym.Env[Any, Any]) -> None:
    interface = interface_of(env)
    first, second = ([play(env, RandomPolicy(interface, 3), seed)[0] for seed in range(4)] for _ in range(2))
    assert first == second
    policy = RandomPolicy(interface, 0)
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        before = info["action_mask"]
        action = policy.act(observation, info)
        if interface == "vector":
            assert before[action]
        else:
            assert env.unwrapped.step(action)[2]  # type: ignore[attr-defined] # a whole plan ran and ended it


def test_the_random_policy_names_nobody_who_is_absent() -> None:
    env = gym.make(ENV, interface="text", split="train")
    policy = RandomPolicy("text", 0)
    pool = POOL[:2]
    for seed in range(20):
        observation, info = env.reset(seed=seed, options={"pool": pool})
        steps = json.loads(str(policy.act(observation, info)))["workflow"]
        assert {step["worker_id"] for step in steps} <= set(pool)


def test_plans_of_absent_workers_are_left_out() -> None:
    names = available_plans(("general_reasoning", "tool_use"))
    assert "general.shop" in names
    assert not any("planner" in name or "verifier" in name for name in names)


@pytest.mark.parametrize("absent", POOL)
def test_the_warm_start_has_plans_whoever_is_absent(absent: str) -> None:
    assert len(available_plans([w for w in POOL if w != absent], WARM_START_PLANS)) >= 2


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="'nobody.shop'"):
        FixedPlanPolicy("nobody.shop")
    with pytest.raises(ConfigError, match="'sound'"):
        RandomPolicy("sound")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no step"):
        FixedPlanPolicy(())

"""Environments stepped together: the same turns as one after the other, with their calls side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.errors import ActionError
from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.requests import Request, Result
from nextstep_envs.together import Together
from tests.conformance.cases import CASES, Case, assert_same
from wrappers import CostPenalty, RecordCost

ORCHESTRATION = [case for case in CASES if case.protocol]
ID = "NextStep/WebShop-Workflow-v0"
PLAN = json.dumps({"workflow": [{"subtask": "Buy {task}", "worker_id": "tool_use", "access_list": []}]})
ROWS = range(5)


class Counting(FakeProvider):
    """Knows the most calls that were under way at once; has a little latency, so that there can be several."""

    def __init__(self, **settings: float) -> None:
        super().__init__(**settings)
        self.now = self.most = self.calls = 0

    def perform(self, requests: Sequence[Request]) -> list[Result]:
        raise AssertionError("somebody waits alone")

    async def answer(self, request: Request) -> Result:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.now -= 1
        return self._answer(request)


def make(workers: Any = "fake", **kwargs: Any) -> gym.Env[Any, Any]:
    return CostPenalty(gym.make(ID, interface="text", split="dev", workers=workers, **kwargs), 0.5)


def hire(env: gym.Env[Any, Any], provider: Any) -> None:
    object.__setattr__(env.unwrapped.setup.crew, "provider", provider)  # type: ignore[attr-defined]


def begun(envs: Sequence[gym.Env[Any, Any]]) -> Together:
    for seed, env in enumerate(envs):
        env.reset(seed=seed, options={"pool": ["tool_use"]})
    return Together(envs)


@pytest.mark.parametrize("workers", ["fake", "scripted", {"kind": "fake", "invalid_rate": 0.2}])
@pytest.mark.parametrize("case", ORCHESTRATION, ids=str)
def test_turns_are_those_of_stepping_one_by_one(case: Case, workers: Any) -> None:
    def build() -> list[gym.Env[Any, Any]]:
        made = [gym.make(case.id, **case.kwargs, workers=workers, split="all") for _ in ROWS]
        return [RecordCost(CostPenalty(env, 0.5)) for env in made]

    envs, alone = build(), build()
    together = Together(envs)
    policies = [(case.policy(row), case.policy(row)) for row in ROWS]
    now: list[Any] = [env.reset(seed=row, options={"sample": row}) for row, env in enumerate(envs)]
    other: list[Any] = [env.reset(seed=row, options={"sample": row}) for row, env in enumerate(alone)]
    active = list(ROWS)
    while active:
        turns = together.step(active, [policies[row][0](now[row][0], now[row][-1]) for row in active])
        for row, turn in zip(active, turns, strict=True):
            now[row] = turn
            other[row] = alone[row].step(policies[row][1](other[row][0], other[row][-1]))
            assert_same(now[row], other[row], f"environment {row}")
        active = [row for row in active if not (now[row][2] or now[row][3])]
    together.close()
    for env in (*envs, *alone):
        env.close()


def test_calls_of_all_episodes_are_under_way_at_once_with_the_provider_of_the_first() -> None:
    envs = [make() for _ in ROWS]
    first = Counting()
    hire(envs[0], first)
    together = begun(envs)
    turns = together.step(ROWS, [PLAN] * len(ROWS))
    assert first.most == len(ROWS)
    assert first.calls == sum(turn[-1]["cost_terms"]["calls"] for turn in turns) > len(ROWS)
    together.close()


def test_environments_made_differently_keep_their_own_providers() -> None:
    envs = [make(), make(budget={"calls": 3}), make(), make(budget={"calls": 3})]
    providers = [Counting() for _ in envs]
    for env, provider in zip(envs, providers, strict=True):
        hire(env, provider)
    together = begun(envs)
    together.step(range(4), [PLAN] * 4)
    assert [provider.most for provider in providers] == [2, 2, 0, 0]
    together.close()


def test_an_outage_masks_its_own_episode_alone() -> None:
    class Down(FakeProvider):
        async def answer(self, request: Request) -> Result:
            return Result(request.id, error="down")

    envs = [make(), make(budget={"calls": 9}), make()]
    hire(envs[1], Down())
    together = begun(envs)
    turns = together.step(range(3), [PLAN] * 3)
    assert [bool(turn[-1].get("mask_sample")) for turn in turns] == [False, True, False]
    together.close()


def test_an_error_of_a_provider_comes_out_as_it_is_and_leaves_nothing_under_way() -> None:
    class Broken(Counting):
        async def answer(self, request: Request) -> Result:
            if not self.calls:
                self.calls += 1
                raise ZeroDivisionError("a bug")
            try:
                self.now += 1
                await asyncio.sleep(3600)
                raise AssertionError
            finally:
                self.now -= 1

    envs = [make() for _ in ROWS]
    broken = Broken()
    hire(envs[0], broken)
    together = begun(envs)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        together.step(ROWS, [PLAN] * len(ROWS))
    assert broken.now == 0
    together.close()


def test_below_a_wrapper_that_changes_actions_an_environment_waits_alone() -> None:
    class Wrapping(gym.ActionWrapper[Any, Any, Any]):
        def action(self, action: Any) -> Any:
            return PLAN

    env, same = Wrapping(make()), make()
    together = begun([env])
    (turn,) = together.step([0], ["the plan"])
    same.reset(seed=0, options={"pool": ["tool_use"]})
    assert_same(turn, same.step(PLAN))
    together.close()


def test_a_wrapper_that_changes_actions_unannounced_is_an_error() -> None:
    class Sly(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            return self.env.step(action + " ")

    together = begun([Sly(make())])
    with pytest.raises(ActionError, match="past its wrappers"):
        together.step([0], [PLAN])
    together.close()


@pytest.mark.parametrize("leave", ["reset", "restore"])
def test_a_decision_that_was_begun_is_forgotten_with_its_episode(leave: str) -> None:
    env, same = make("scripted").unwrapped, make("scripted").unwrapped
    assert isinstance(env, OrchestrationEnv)
    for each in (env, same):
        each.reset(seed=3, options={"pool": ["tool_use"]})
    start = env.snapshot()
    env.begin('{"finish": true}')
    if leave == "reset":
        env.reset(seed=3, options={"pool": ["tool_use"]})
    else:
        env.restore(start)
    assert_same(env.step(PLAN), same.step(PLAN))

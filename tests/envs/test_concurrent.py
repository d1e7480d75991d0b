"""The concurrent driver: the same episodes as one by one, in whatever order answers come, and books that add up."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.concurrent import ConcurrentEnv
from nextstep_envs.drivers import concurrent, one_by_one
from nextstep_envs.env import OrchestrationEnv
from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.ledger import total_allowance
from nextstep_envs.providers.base import CallError, Completion
from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.providers.gateway import Gateway
from nextstep_envs.requests import ChatRequest, Request, Result
from nextstep_envs.types import Budget, Step, Usage
from tests.conformance.cases import CASES, Case, assert_same
from tests.envs import toy

ORCHESTRATION = [case for case in CASES if case.protocol]
BUDGET = Budget(steps=6)


class Graph:
    """Rules for tests: an action is a list of (subtask, worker, steps that come before)."""

    def decode(self, state: State, action: Any) -> Decision:
        share = total_allowance(BUDGET).split(len(action))
        steps = [Step(i, text, who, after, after, share) for i, (text, who, after) in enumerate(action)]
        return Decision(tuple(steps), finish=True)

    def may_start(self, state: State, step: Step) -> bool:
        return True

    def interrupt(self, state: State, fresh: Any) -> str:
        return ""


DIAMOND = [("top", "a", ()), ("left", "a", (0,)), ("right", "b", (0,)), ("end", "b", (1, 2))]
PAIR = [("first", "b", ()), ("second", "b", ()), ("after first", "b", (0,))]


def begun(action: Any) -> Episode:
    episode = Episode(toy.Counter(), Graph(), toy.WORKERS, BUDGET)
    episode.reset("7", toy.POOL, seed=5)
    episode.act(action)
    return episode


def drive(answer: Callable[[Request], Awaitable[Result]], *episodes: Episode, slots: int = 8) -> None:
    async def all_of_them() -> None:
        shared = asyncio.Semaphore(slots)
        await asyncio.gather(*(concurrent(episode, answer, shared) for episode in episodes))

    asyncio.run(all_of_them())


class Dawdling:
    """A provider whose answers come in a random order; it keeps count of what is under way."""

    def __init__(self, perform: Callable[[Sequence[Request]], Sequence[Result]], seed: int) -> None:
        self._perform, self._rng = perform, random.Random(seed)
        self.now = self.most = 0
        self.begun: list[Request] = []

    def perform(self, requests: Sequence[Request]) -> Sequence[Result]:
        return self._perform(requests)

    async def answer(self, request: Request) -> Result:
        self.begun.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(self._rng.choice((0, 1, 3, 30))):
            await asyncio.sleep(0)
        self.now -= 1
        return self._perform((request,))[0]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_order_of_answers_the_episode_is_the_same(seed: int) -> None:
    expected, episode = begun(DIAMOND), begun(DIAMOND)
    one_by_one(expected, toy.answer)
    drive(Dawdling(toy.answer, seed).answer, episode)
    assert episode.state == expected.state and list(episode.state.calls) == list(expected.state.calls)
    assert episode.transition() == expected.transition()


@pytest.mark.parametrize("case", ORCHESTRATION, ids=str)
def test_awaited_steps_equal_steps_of_the_environment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    single = gym.make(case.id, **case.kwargs, workers="fake", split="all").unwrapped
    assert isinstance(single, OrchestrationEnv) and single.setup.crew.provider
    provider = Dawdling(FakeProvider().perform, seed=1)
    monkeypatch.setattr(type(single.setup.crew.provider), "answer", lambda _, r: provider.answer(r), raising=False)

    async def play(seed: int, slots: asyncio.Semaphore) -> list[Any]:
        env, policy = ConcurrentEnv(single.setup, slots), case.policy(seed)
        now: Any = env.reset(seed, {"sample": seed})
        seen = [now]
        while len(now) == 2 or not (now[2] or now[3]):
            now = await env.step(policy(now[0], now[-1]))
            seen.append(now)
        return seen

    async def many() -> list[list[Any]]:
        slots = asyncio.Semaphore(3)
        return await asyncio.gather(*(play(seed, slots) for seed in range(12)))

    played = asyncio.run(many())
    assert provider.most == 3
    for seed, seen in enumerate(played):
        policy, now = case.policy(seed), single.reset(seed=seed, options={"sample": seed})
        expected: list[Any] = [now]
        while len(now) == 2 or not (now[2] or now[3]):
            now = single.step(policy(now[0], now[-1]))  # type: ignore[assignment]
            expected.append(now)
        assert_same(seen, expected, f"episode {seed}")


def test_a_node_starts_the_moment_its_dependency_ends_though_another_still_waits() -> None:
    asked: list[str] = []
    released = asyncio.Event()

    async def answer(request: Request) -> Result:
        asked.append(request.id)
        if request.id == "1/0":  # "second" hangs until what follows "first" has asked
            await asyncio.wait_for(released.wait(), 20)
        if request.id == "2/0":
            released.set()
        return toy.answer([request])[0]

    episode = begun(PAIR)
    drive(answer, episode)
    assert asked == ["0/0", "1/0", "2/0"]
    assert [record.error for record in episode.transition().records] == ["", "", ""]


def test_requests_under_way_are_bounded_and_begin_in_the_order_asked() -> None:
    provider = Dawdling(toy.answer, seed=3)
    episodes = [begun(DIAMOND) for _ in range(200)]
    drive(provider.answer, *episodes, slots=7)
    assert provider.most == 7
    # Fair: no episode asks for the second time before every episode has been asked for once.
    assert [request.id for request in provider.begun[:200]] == ["0/0"] * 200
    assert all(not episode.poll() for episode in episodes)


def test_a_cancelled_episode_is_charged_for_what_was_answered_and_masked() -> None:
    release: dict[str, asyncio.Event] = {}

    async def answer(request: Request) -> Result:
        if request.id != "0/0":
            release.setdefault(request.id, asyncio.Event()).set()
            await asyncio.sleep(3600)
        return Result(request.id, "done", Usage(10, 7, 1), waste=Usage(3, 0, 1))

    async def cancel_when_two_hang(episode: Episode) -> int:
        task = asyncio.create_task(concurrent(episode, answer, asyncio.Semaphore(8)))
        while len(release) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    episode = begun(PAIR)  # the first is answered, the two others hang
    assert asyncio.run(cancel_when_two_hang(episode)) == 1  # nothing goes on behind our back
    assert not episode.poll()
    assert episode.state.spent[:4] == (12, 7, 1, 1)  # 10 + 7 of the call, and the action in the world after it
    ended = episode.transition()
    assert ended.truncated and not ended.terminated and ended.outcome is None and ended.error == "cancelled"
    assert ended.usage == episode.state.spent
    assert [(r.usage.calls, r.waste.calls, r.error) for r in ended.records] == [
        (1, 1, ""),
        (0, 0, "outage: cancelled"),
        (0, 0, "outage: cancelled"),
    ]


def test_what_failed_attempts_were_billed_before_a_cancellation_is_waste() -> None:
    class Service:
        """Fails once, with a bill; then it hangs."""

        attempts = 0

        async def complete(self, chat: ChatRequest, seed: int, timeout_s: float) -> Completion:
            self.attempts += 1
            if self.attempts == 1:
                raise CallError("malformed", "not JSON", usage=Usage(11, 5, 1))
            await asyncio.sleep(3600)
            raise AssertionError

        async def close(self) -> None:
            pass

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    async def cancel_the_second_attempt(episode: Episode) -> None:
        service = Service()
        gateway = Gateway(lambda: service, sleep=no_pause)

        def answer(request: Request) -> Awaitable[Result]:
            return gateway.answer(replace(request, payload=replace(request.payload, model="service:model")))

        task = asyncio.create_task(concurrent(episode, answer, asyncio.Semaphore(8)))
        while service.attempts < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gateway.metrics().waste == Usage(11, 5, 1)  # the gateway's own books say the same

    episode = begun([("only", "b", ())])
    asyncio.run(cancel_the_second_attempt(episode))
    (record,) = episode.transition().records
    assert record.usage == Usage()
    assert (record.waste.prompt_tokens, record.waste.completion_tokens, record.waste.calls) == (11, 5, 1)


def test_a_request_that_waits_for_its_turn_is_never_made_once_cancelled() -> None:
    made: list[str] = []

    async def answer(request: Request) -> Result:
        made.append(request.id)
        await asyncio.sleep(3600)
        raise AssertionError

    async def run() -> None:
        slots = asyncio.Semaphore(1)
        tasks = [asyncio.create_task(concurrent(begun(PAIR), answer, slots)) for _ in range(5)]
        while not made:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(slots.acquire(), 20)  # the slot is free again

    asyncio.run(run())
    assert made == ["0/0"]


@pytest.mark.parametrize("seed", range(5))
def test_an_outage_masks_the_episode_and_nothing_new_starts(seed: int) -> None:
    def perform(requests: Sequence[Request]) -> Sequence[Result]:
        down = [r for r in requests if r.id.startswith("0/")]
        return toy.fail(down) if down else toy.answer(requests)  # type: ignore[arg-type]

    provider, episode = Dawdling(perform, seed), begun(DIAMOND)
    drive(provider.answer, episode)
    ended = episode.transition()
    assert [request.id for request in provider.begun] == ["0/0"]
    assert ended.truncated and ended.error == "connection refused"


def test_a_provider_that_answers_something_else_is_an_error_and_no_hang() -> None:
    async def answer(request: Request) -> Result:
        return Result("9/9", "who asked?")

    with pytest.raises(RuntimeError, match="must answer every request"):
        drive(answer, begun(PAIR))


def test_an_error_of_a_provider_comes_out_as_it_is_and_stops_its_siblings() -> None:
    async def answer(request: Request) -> Result:
        if request.id == "1/0":
            raise ZeroDivisionError("a bug")
        await asyncio.sleep(3600)
        raise AssertionError

    with pytest.raises(ZeroDivisionError, match="a bug"):
        drive(answer, begun(PAIR))


def test_a_step_that_was_cancelled_tells_its_bill() -> None:
    made = gym.make("NextStep/WebShop-Workflow-v0", interface="text", workers="fake").unwrapped
    assert isinstance(made, OrchestrationEnv) and made.setup.crew.provider
    fake = FakeProvider()
    calls = 0

    class Stalling:
        async def answer(self, request: Request) -> Result:
            nonlocal calls
            calls += 1
            if calls == 4:
                await asyncio.sleep(3600)
            return fake.perform([request])[0]

    object.__setattr__(made.setup.crew, "provider", Stalling())
    plan = {"workflow": [{"subtask": "Buy {task}", "worker_id": "tool_use", "access_list": []}]}

    async def run() -> dict[str, Any]:
        env = ConcurrentEnv(made.setup, asyncio.Semaphore(1))
        env.reset(3, {"pool": ["tool_use"]})
        task = asyncio.create_task(env.step(json.dumps(plan)))
        while calls < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return env.abandon()

    info = asyncio.run(run())
    assert info["mask_sample"] and info["error"] == {"kind": "outage", "message": "cancelled"}
    assert info["cost_terms"]["calls"] == 3 and info["cost_terms"]["tokens"] > 0

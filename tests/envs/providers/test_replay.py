"""A recording answers what was recorded, byte for byte, and says what it lacks."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.concurrent import ConcurrentEnv
from nextstep_envs.providers.cached import CachedProvider
from nextstep_envs.providers.fake import FakeProvider
from nextstep_envs.providers.replay import MissingCallError, ReplayProvider
from nextstep_envs.providers.router import Router
from nextstep_envs.providers.store import Store
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Request, Result, ToolRequest
from nextstep_envs.types import Usage
from tests.conformance.cases import assert_same

TASK = "Subtask: Buy a lamp that is red, has three legs, costs less than 30 dollars and can be folded."
CHAT = ChatRequest("openai:m", (Message("system", "You shop."), Message("user", TASK)), 64)
STEP = '{"subtask": "Buy {task}", "worker_id": "%s", "access_list": ["all"]}'


def ask(seed: int = 11, chat: Any = CHAT, id: str = "0/0", kind: Any = "chat") -> Request:
    return Request(id, kind, chat, seed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "calls.sqlite")
    yield opened
    opened.close()


def explanation(store: Store, request: Request) -> str:
    with pytest.raises(MissingCallError) as caught:
        ReplayProvider(store).perform([request])
    return str(caught.value)


def test_what_was_recorded_comes_back_in_both_ways_of_asking(store: Store) -> None:
    fake, requests = FakeProvider(invalid_rate=0.3, failure_rate=0.3), [ask(seed, id=f"{seed}/0") for seed in range(40)]
    results = CachedProvider(fake, store).perform(requests)
    assert results == fake.perform(requests)
    assert {bool(result.error) for result in results} == {True, False}
    replay = ReplayProvider(store)
    assert replay.perform(requests) == results
    assert [asyncio.run(replay.answer(request)) for request in requests] == results


def test_a_cache_asks_only_what_it_does_not_know(store: Store) -> None:
    asked: list[int] = []

    class Counting(FakeProvider):
        def _answer(self, request: Request) -> Result:
            asked.append(request.seed)
            return Result(request.id, ChatReply(str(request.seed)))

    cached = CachedProvider(Counting(), store)
    first = cached.perform([ask(1), ask(2)])
    assert cached.perform([ask(3), ask(1), ask(4), ask(2)])[1::2] == first
    assert asyncio.run(cached.answer(ask(1))) == first[0]
    assert cached.perform([ask(1)]) == first[:1]
    assert asked == [1, 2, 3, 4]


class Slow(FakeProvider):
    """Counts what it is asked; each answer tells how many there were before it, and its usage differs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []

    async def answer(self, request: Request) -> Result:
        number = len(self.asked)
        self.asked.append(request)
        for _ in range(20):
            await asyncio.sleep(0)
        return replace(self._answer(request), usage=Usage(10 + number, 5, calls=1), waste=Usage(3, 1, calls=1))


@pytest.mark.parametrize("slots", [1, 16])
def test_equal_calls_under_way_are_asked_once_and_charged_to_each_episode_as_a_hit_is(store: Store, slots: int) -> None:
    made = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="dev", workers="fake").unwrapped
    setup, slow = made.setup, Slow()  # type: ignore[attr-defined]
    assert isinstance(setup.crew.provider, Router)
    cached = CachedProvider(slow, store)
    object.__setattr__(setup.crew, "provider", cached)
    action = json.dumps({"workflow": [{"subtask": "Buy {task}", "worker_id": "tool_use", "access_list": []}]})

    async def play(seeds: list[int]) -> list[Any]:
        shared = asyncio.Semaphore(slots)
        shells = [ConcurrentEnv(setup, shared) for _ in seeds]
        for seed, shell in zip(seeds, shells, strict=True):
            shell.reset(seed, {"pool": ["tool_use"]})
        return await asyncio.gather(*(shell.step(action) for shell in shells))

    first, other, again, same = asyncio.run(play([3, 4, 3, 3]))
    calls = [first[-1]["cost_terms"]["calls"], other[-1]["cost_terms"]["calls"]]
    assert len(slow.asked) == len({(r.payload, r.seed) for r in slow.asked}) == sum(calls) and min(calls) > 1
    assert_same(again, first)
    assert_same(same, first)
    (hit,) = asyncio.run(play([3]))  # long after
    assert_same(hit, first)
    assert first[-1]["books"]["waste"]["calls"] == calls[0] and len(slow.asked) == sum(calls)
    made.close()


def test_where_the_one_who_asks_is_cancelled_another_asks(store: Store) -> None:
    slow = Slow()
    cached = CachedProvider(slow, store)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(cached.answer(ask(id=f"{i}/0"))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, second, third = asyncio.run(main())
    assert isinstance(cancelled, asyncio.CancelledError) and len(slow.asked) == 2
    assert (second.id, third.id) == ("1/0", "2/0") and replace(third, id="1/0") == second


def test_equal_requests_of_one_batch_are_asked_once(store: Store) -> None:
    asked: list[str] = []

    class Counting(FakeProvider):
        def perform(self, requests: Sequence[Request]) -> list[Result]:
            asked.extend(request.id for request in requests)
            return super().perform(requests)

    cached = CachedProvider(Counting(), store)
    results = cached.perform([ask(1, id="a"), ask(2, id="b"), ask(1, id="c"), ask(2, id="d")])
    assert [result.id for result in results] == ["a", "b", "c", "d"] and len(asked) == 2
    assert results[2:] == [replace(result, id=id) for result, id in zip(results[:2], "cd", strict=True)]
    copy = pickle.loads(pickle.dumps(CachedProvider(FakeProvider(), store)))
    assert copy.perform([ask(1, id="e")]) == [replace(results[0], id="e")]
    copy.close()


def test_another_seed_is_a_missing_call_that_names_the_seeds(store: Store) -> None:
    store.put(ask(), Result("0/0", ChatReply("a")))
    said = explanation(store, ask(12, id="4/2"))
    assert "'4/2'" in said and "'openai:m'" in said and str(store.path) in said
    assert "differs in seed: asked 12, recorded 11 (another episode seed, sample, step or turn)" in said


def test_other_content_under_the_same_seed_is_shown_where_it_differs(store: Store) -> None:
    for seed in range(20, 30):  # these have all content in common with what is asked, but are other calls
        store.put(ask(seed), Result("0/0", ChatReply("b")))
    other = Message("user", TASK.replace("three", "four"))
    store.put(ask(chat=replace(CHAT, messages=(CHAT.messages[0], other))), Result("0/0", ChatReply("a")))
    said = explanation(store, ask())
    assert "nearest of 11" in said and "seed: asked" not in said
    assert f"message 1 (user) from character {TASK.index('three')}" in said
    assert said.index("three legs") < said.index("four legs")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "openai:n"}, 'model: asked "openai:n", recorded "openai:m"'),
        ({"max_tokens": 32}, "max_tokens: asked 32, recorded 64"),
        ({"temperature": 0.5}, "temperature: asked 0.5, recorded 0.0"),
        ({"messages": CHAT.messages[:1]}, "the number of messages: asked 1, recorded 2, the first 1 are equal"),
        ({"messages": (Message("user", "You shop."), CHAT.messages[1])}, "message 0 (user): recorded as system"),
    ],
)
def test_each_difference_is_named(change: dict[str, Any], words: str, store: Store) -> None:
    store.put(ask(), Result("0/0", ChatReply("a")))
    assert words in explanation(store, ask(chat=replace(CHAT, **change)))


def test_other_settings_of_the_provider_are_named(store: Store) -> None:
    store.put(ask(), Result("0/0", ChatReply("a")))
    elsewhere = Store(store.path, {"openai": {"base_url": "http://localhost:1"}})
    assert 'settings: asked {"base_url": "http://localhost:1"}, recorded {}' in explanation(elsewhere, ask())
    elsewhere.close()


def test_a_tool_call_is_replayed_and_missed_by_its_arguments(store: Store) -> None:
    request = ask(chat=ToolRequest("calculator", '{"expression": "1+1"}'), kind="tool")
    store.put(request, Result("0/0", "2"))
    assert ReplayProvider(store).perform([request]) == [Result("0/0", "2")]
    said = explanation(store, ask(chat=ToolRequest("calculator", '{"expression": "1+2"}'), kind="tool"))
    assert "'calculator'" in said and "arguments: asked" in said


def test_an_empty_recording_says_so(store: Store) -> None:
    store.add_crew({})
    assert "holds no call at all" in explanation(store, ask())


# Whole episodes


def play(workers: Any, sample: int = 0, seed: int = 5, **kwargs: Any) -> list[Any]:
    """All that a few episodes give."""
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="dev", workers=workers, **kwargs)
    try:
        seen: list[Any] = []
        for episode in range(4):
            seen.append(env.reset(seed=seed + episode, options={"sample": sample}))
            over = False
            while not over:
                step = env.step(STEP % ("tool_use", "planning")[len(seen) % 2])
                over = step[2] or step[3]
                seen.append(step)
    finally:
        env.close()
    return seen


def play_many(workers: Any) -> list[Any]:
    env = gym.make_vec("NextStep/WebShop-Workflow-v0", 3, workers=workers, split="dev")
    try:
        seen: list[Any] = [env.reset(seed=7)]
        rng = np.random.default_rng(0)
        for _ in range(12):
            seen.append(env.step([int(rng.choice(np.flatnonzero(mask))) for mask in seen[-1][-1]["action_mask"]]))
    finally:
        env.close()
    return seen


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a replay opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(FakeProvider, "_answer", refuse)


FAKE = {"kind": "fake", "invalid_rate": 0.2, "failure_rate": 0.12}


def test_a_recorded_run_replays_byte_for_byte(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = str(tmp_path / "run.sqlite")
    live = play({**FAKE, "store": path})
    assert_same(live, play(FAKE))  # recording changes nothing
    said = repr(live)
    assert re.search("reformats=[1-9]", said) and "mask_sample" in said and "Outcome(" in said
    request.getfixturevalue("offline")
    assert_same(play(f"replay:{path}"), live)


def test_what_was_recorded_is_not_asked_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    workers = {"kind": "fake", "invalid_rate": 0.2, "store": str(tmp_path / "run.sqlite")}
    live = play(workers)
    request.getfixturevalue("offline")
    assert_same(play(workers), live)


def test_a_recorded_vector_run_replays_byte_for_byte(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = str(tmp_path / "run.sqlite")
    live = play_many({**FAKE, "store": path})
    said = repr([info for *_, info in live])
    assert re.search("reformats=[1-9]", said) and "mask_sample" in said and "Outcome(" in said
    request.getfixturevalue("offline")
    assert_same(play_many(f"replay:{path}"), live)


def test_what_was_recorded_side_by_side_replays_one_by_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path, workers = str(tmp_path / "run.sqlite"), {"kind": "fake", "invalid_rate": 0.2, "latency_s": 0.002}
    env = gym.make("NextStep/WebShop-DAG-v0", interface="text", split="dev", workers={**workers, "store": path})
    dag = [{"subtask": "Buy {task}", "agent": name, "depends_on": []} for name in ("tool_use", "planning")]
    action = json.dumps({"dag": dag})

    async def record() -> list[Any]:
        slots = asyncio.Semaphore(8)
        shells = [ConcurrentEnv(env.unwrapped.setup, slots) for _ in range(6)]  # type: ignore[attr-defined]
        for seed, shell in enumerate(shells):
            shell.reset(seed)
        return await asyncio.gather(*(shell.step(action) for shell in shells))

    live = asyncio.run(record())
    env.close()
    request.getfixturevalue("offline")
    env = gym.make("NextStep/WebShop-DAG-v0", interface="text", split="dev", workers=f"replay:{path}")
    for seed, seen in enumerate(live):
        env.reset(seed=seed)
        assert_same(env.step(action), seen)
    assert "calls=6" in repr(live) or "calls=7" in repr(live)
    env.close()


@pytest.mark.parametrize("change", [{"sample": 1}, {"seed": 60}, {"budget": {"call_tokens": 100}}], ids=str)
def test_another_attempt_or_budget_is_a_missing_call(change: dict[str, Any], tmp_path: Path) -> None:
    path = str(tmp_path / "run.sqlite")
    play({"kind": "fake", "store": path})
    word = "max_tokens: asked 100, recorded 512" if "budget" in change else "seed: asked"
    with pytest.raises(MissingCallError, match=word):
        play(f"replay:{path}", **change)

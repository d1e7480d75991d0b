"""OpenEnv takes our ids as environments: alone, in many sessions of a server, and with outages that have no reward."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import gymnasium as gym
import pytest

import registry
from nextstep_envs.errors import ConfigError
from tests.compat.support import ORCHESTRATION, STEPS, library
from tests.wrappers.interfaces.calls import CALLS
from wrappers import CostPenalty

library("openenv", "openenv")

import uvicorn  # noqa: E402  (it comes with OpenEnv)
from fastapi.testclient import TestClient  # noqa: E402
from openenv.core import GenericEnvClient  # noqa: E402

from wrappers.interfaces.openenv import NextStepEnvironment, TextAction, openenv_app  # noqa: E402

ID = "NextStep/WebShop-Workflow-v0"
STEP = json.dumps({"subtask": "{task}", "worker_id": "planning", "access_list": []})
FINISH = '{"finish": true}'


def protocol(env_id: str) -> str:
    return next(entry.protocol for entry in registry.entries() if entry.id == env_id)


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_steps_are_those_of_the_text_interface(env_id: str) -> None:
    environment = NextStepEnvironment(env_id, cost_weight=0.3)
    env = CostPenalty(gym.make(env_id, interface="text"), weight=0.3)
    rng, taken, episode = random.Random(2), 0, 0
    while taken < STEPS:
        seen = environment.reset(seed=episode, episode_id=f"no. {episode}", sample=2)
        text, info = env.reset(seed=episode, options={"sample": 2})
        assert (seen.text, seen.reward, seen.done, seen.cost) == (text, None, False, 0.0)
        over, earned = False, 0.0
        while not over:
            action = json.dumps(CALLS[protocol(env_id)](rng)[2])
            seen = environment.step(TextAction(text=action))
            text, reward, terminated, truncated, info = env.step(action)
            over, earned, taken = terminated or truncated, earned + float(reward), taken + 1
            assert (seen.text, seen.reward, seen.done) == (text, reward, over)
            assert (seen.cost, seen.cost_terms) == (info["cost"], info["cost_terms"])
            assert (seen.invalid_action, seen.mask_sample) == (info["invalid_action"], False)
        state = environment.state
        assert (state.episode_id, state.task_id, state.sample) == (f"no. {episode}", info["task_id"], 2)
        assert state.done and state.reward == earned
        with pytest.raises(RuntimeError, match="over"):
            environment.step(TextAction(text=FINISH))
        episode += 1
    assert episode > 1
    environment.close()


def test_the_bare_world_and_wrapped_specs_are_offered_too() -> None:
    shop = NextStepEnvironment("NextStep/WebShop-v0")
    assert "[button] Search [button_]" in shop.reset(seed=0).text
    assert shop.step(TextAction(text="search[red shoes]")).cost == 1.0
    spec = CostPenalty(gym.make(ID, interface="text"), weight=0.3).spec
    rewards = []
    for environment in (NextStepEnvironment(spec), NextStepEnvironment(ID, cost_weight=0.3)):
        environment.reset(seed=3, sample=0, task_id="17")
        rewards.append(environment.step(TextAction(text=STEP)).reward)
        assert environment.state.task_id == "17"
    assert rewards[0] == rewards[1]


def test_an_outage_has_no_reward() -> None:
    environment = NextStepEnvironment(ID, workers={"kind": "fake", "failure_rate": 1.0}, split="test")
    environment.reset(seed=0)
    seen = environment.step(TextAction(text=STEP))
    assert seen.done and seen.mask_sample and seen.error and seen.reward is None
    assert environment.reset(seed=0).mask_sample is False


def test_nothing_is_ignored_in_silence() -> None:
    environment = NextStepEnvironment(ID)
    with pytest.raises(RuntimeError, match="over"):
        environment.step(TextAction(text=FINISH))
    with pytest.raises(ConfigError, match="'sed' is unknown"):
        environment.reset(seed=1, sed=2)
    with pytest.raises(ConfigError, match="sample.*-1"):
        environment.reset(seed=1, sample=-1)
    environment.reset(seed=1)
    with pytest.raises(ConfigError, match="timeout_s=3"):
        environment.step(TextAction(text=FINISH), timeout_s=3)
    with pytest.raises(ConfigError, match="TierRouting.*no text interface"):
        NextStepEnvironment("NextStep/TierRouting-v0")
    with pytest.raises(ConfigError, match="split='nowhere'"):
        openenv_app(ID, split="nowhere")


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server on this machine."""
    app = openenv_app(ID, cost_weight=0.2, split="test", max_sessions=3)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_a_server_holds_sessions_that_do_not_meet(url: str) -> None:
    """Three of OpenEnv's own clients, step by step in turn."""
    alone, expected = NextStepEnvironment(ID, cost_weight=0.2, split="test"), []
    for seed in range(3):
        first = alone.reset(seed=seed)
        expected.append((first.text, alone.step(TextAction(text=STEP)), alone.state))

    async def play() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(GenericEnvClient(base_url=url)) for _ in range(3)]
            firsts = [await client.reset(seed=i, episode_id=str(i)) for i, client in enumerate(clients)]
            seconds = [await client.step({"text": STEP}) for client in clients]
            states = [await client.state() for client in clients]
            for i, (text, seen, state) in enumerate(expected):
                assert firsts[i].observation["text"] == text and firsts[i].reward is None
                assert (seconds[i].reward, seconds[i].done) == (seen.reward, seen.done)
                assert (seconds[i].observation["text"], seconds[i].observation["cost"]) == (seen.text, seen.cost)
                assert states[i] == {**state.model_dump(), "episode_id": str(i)}
            with pytest.raises(RuntimeError, match="'sed' is unknown"):
                await clients[0].reset(seed=1, sed=2)

    asyncio.run(play())


def test_a_server_publishes_what_it_takes_and_gives() -> None:
    client = TestClient(openenv_app(ID))
    assert client.get("/metadata").json()["name"] == "WebShop-Workflow"
    schema = client.get("/schema").json()
    assert set(schema["action"]["properties"]) == {"text", "metadata"}
    assert {"text", "cost", "mask_sample"} <= set(schema["observation"]["properties"])
    assert {"task_id", "sample", "reward", "cost"} <= set(schema["state"]["properties"])

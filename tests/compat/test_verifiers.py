"""verifiers plays our ids through its own machinery: agents, traces, rewards; the model is a script on this machine."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import pytest

import registry
from nextstep_envs.errors import ConfigError
from tests.compat.support import ORCHESTRATION, STEPS, library
from tests.wrappers.interfaces.calls import CALLS
from wrappers import CostPenalty

vf: Any = library("verifiers.v1", "verifiers")

from aiohttp import web  # noqa: E402  (it comes with verifiers)

from wrappers.interfaces.verifiers import PLUGIN, NextStepEnv, verifiers_env  # noqa: E402

ID = "NextStep/WebShop-Workflow-v0"
STEP = json.dumps({"subtask": "{task}", "worker_id": "planning", "access_list": []})
FINISH = '{"finish": true}'
Script = Callable[[Sequence[dict[str, str]]], str]
"""What the model answers to a conversation."""


def dead(messages: Sequence[dict[str, str]]) -> str:
    """The script of a model that does not answer."""
    raise AssertionError("never asked")


def play(env: NextStepEnv, script: Script, tasks: int = 2, attempts: int = 1) -> list[Any]:
    """Episodes of a model that follows a script, asked as any served model is."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        if script is dead:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        message = {"role": "assistant", "content": script(body["messages"])}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
            | {"usage": usage}
        )

    async def run() -> list[Any]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        client = vf.EvalClientConfig(base_url=url, api_key_var="NO_KEY")
        context = vf.ModelContext(model="script", client=client, sampling=vf.SamplingConfig())
        try:
            async with env.serving():
                slots = [slot for task in env.taskset.take(tasks) for slot in env.slots(task, attempts)]
                return list(await asyncio.gather(*(env.run_slot(slot, context) for slot in slots)))
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def once(action: str) -> Script:
    """An action, then the end."""
    return lambda messages: action if messages[-1]["content"].startswith("Task:") else FINISH


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_episodes_are_those_of_the_text_interface(env_id: str) -> None:
    """What the trace of an episode says, its actions give again: messages, reward and costs."""
    protocol = next(entry.protocol for entry in registry.entries() if entry.id == env_id)
    decisions = 0
    env = CostPenalty(gym.make(env_id, interface="text"), weight=0.3)

    def choose(messages: list[dict[str, str]]) -> str:
        # By the conversation alone: the episodes run side by side, and the order of their turns is not ours.
        return json.dumps(CALLS[protocol](random.Random(json.dumps(messages)))[2])

    episodes = play(verifiers_env(env_id, cost_weight=0.3), choose, tasks=70)
    for episode in episodes:
        assert episode.ok, episode.errors
        (trace,) = episode.traces
        message, info = env.reset(seed=trace.task.data.seed, options={"sample": trace.info["sample"]})
        assert info["task_id"] == trace.info["task_id"]
        reward, cost, over, invalid = 0.0, 0.0, False, 0
        said = [(m.role, m.content) for m in trace.messages]
        for asked, answered in zip(said[::2], said[1::2], strict=True):
            assert asked == ("user", message) and answered[0] == "assistant" and not over
            message, gain, terminated, truncated, info = env.step(answered[1])
            reward, cost, over = reward + float(gain), cost + info["cost"], terminated or truncated
            invalid += info["invalid_action"]
            decisions += 1
        assert over and trace.reward == pytest.approx(reward) and trace.metrics["cost"] == pytest.approx(cost)
        assert (trace.metrics["decisions"], trace.metrics["invalid_actions"]) == (len(said) // 2, invalid)
        assert {f"cost/{name}" for name in info["cost_terms"]} <= set(trace.metrics)
    assert decisions >= STEPS, decisions


def test_attempts_at_a_task_differ_by_their_noise_alone() -> None:
    episodes = play(verifiers_env(split="test", seed=1), once(STEP), tasks=2, attempts=4)
    for group in (episodes[:4], episodes[4:]):
        traces = [episode.traces[0] for episode in group]
        assert len({trace.messages[0].content for trace in traces}) == 1
        assert len({trace.info["sample"] for trace in traces}) == 4
    assert episodes[0].traces[0].messages[0].content != episodes[4].traces[0].messages[0].content


def test_a_model_that_runs_out_of_turns_is_judged_as_it_stands() -> None:
    env = verifiers_env(split="test")
    env.config.orchestrator.max_turns = 1
    step = json.dumps({"subtask": "List what {task} needs", "worker_id": "planning", "access_list": []})
    (episode,) = play(NextStepEnv(env.config), lambda messages: step, tasks=1)
    (trace,) = episode.traces
    assert episode.ok and trace.stop_condition == "max_turns" and trace.num_turns == 1
    assert trace.rewards["episode_reward"].score == trace.reward and trace.metrics["decisions"] >= 1


def test_an_outage_fails_the_episode_and_gives_no_reward() -> None:
    env = verifiers_env(split="test", workers={"kind": "fake", "failure_rate": 1.0})
    (episode,) = play(env, once(STEP), tasks=1)
    assert not episode.ok and not episode.traces[0].ok
    assert "outage" in episode.errors[-1].message and "episode_reward" not in episode.traces[0].rewards


def test_a_model_that_fails_gives_no_reward() -> None:
    (episode,) = play(verifiers_env(split="test"), dead, tasks=1)
    assert not episode.ok and not episode.traces[0].ok and episode.traces[0].rewards == {}


def test_the_bare_world_is_played_too() -> None:
    (episode,) = play(verifiers_env("NextStep/WebShop-v0", max_steps=3), lambda messages: "search[red shoes]", tasks=1)
    assert episode.ok and episode.traces[0].metrics["cost"] == 3.0


def test_the_plugin_is_found_by_its_name() -> None:
    config = vf.resolve_env_config({"taskset": {"id": PLUGIN, "env": ID, "kwargs": {"split": "test"}, "seed": 3}})
    env = vf.load_environment(config)
    assert type(env).__name__ == "NextStepEnv" and env._default_harness.id == PLUGIN
    first, second = ([task.data.seed for task in env.taskset.take(3)] for _ in range(2))
    assert first == second and len(set(first)) == 3
    assert first != [task.data.seed for task in verifiers_env(ID, seed=4).taskset.take(3)]


def test_a_wrong_argument_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="split='nowhere'"):
        verifiers_env(ID, split="nowhere")
    with pytest.raises(ConfigError, match="TierRouting.*no text interface"):
        verifiers_env("NextStep/TierRouting-v0")


def test_importing_the_wrappers_does_not_import_verifiers() -> None:
    code = "import sys, wrappers, wrappers.interfaces; print('verifiers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The fake provider: what it does follows from each request's seed, and time can be simulated."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ConfigError
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.providers.fake import ACTIONS, FakeProvider
from nextstep_envs.requests import ChatRequest, Message, Request, ToolRequest, ToolSpec, ToolUse

BRIEF = "Subtask: Buy a lamp\nThe world shows:\nWebShop\n[button] Search [button_]"
PAGE = "[button] Back to Search [button_]\n[button] B001 [button_]\nA lamp"
ASKED = (Message("system", "You shop."), Message("user", BRIEF))
SCHEMA = '{"type": "object", "properties": {"%s": {"type": "string"}}, "required": ["%s"]}'
TOOLS = (ToolSpec("search", "", SCHEMA % ("words", "words")), ToolSpec("click", "", SCHEMA % ("label", "label")))


def ask(
    seed: int = 0,
    messages: tuple[Message, ...] = ASKED,
    tools: tuple[ToolSpec, ...] = (),
    max_tokens: int = 99,
    logprobs: bool = False,
) -> Request:
    chat = ChatRequest("fake:m", messages, max_tokens, tools=tools, logprobs=logprobs)
    return Request(f"{seed}/0", "chat", chat, seed)


def test_both_ways_of_asking_give_the_same_whoever_asks_first() -> None:
    fake, requests = FakeProvider(0.3, 0.2), [ask(seed) for seed in range(50)]
    results = fake.perform(requests)
    assert [asyncio.run(fake.answer(request)) for request in reversed(requests)] == results[::-1]
    assert [result.id for result in results] == [request.id for request in requests]


def test_rates_are_shares_of_calls() -> None:
    results = FakeProvider(invalid_rate=0.25, failure_rate=0.1).perform([ask(seed) for seed in range(2000)])
    failed = [result for result in results if result.error]
    answered = [result for result in results if not result.error]
    invalid = [result for result in answered if parse_json(result.value.text) is None]
    assert len(failed) / 2000 == pytest.approx(0.1, abs=0.02)
    assert len(invalid) / len(answered) == pytest.approx(0.25, abs=0.03)
    assert not any(any(result.usage) for result in failed)
    assert all(result.usage.calls == 1 and result.usage.tokens for result in answered)


def test_it_searches_then_clicks_then_answers() -> None:
    fake, messages = FakeProvider(), ASKED
    said = []
    for _ in range(ACTIONS + 1):
        (result,) = fake.perform([ask(messages=messages)])
        said.append(json.loads(result.value.text))
        messages = (*messages, Message("assistant", result.value.text), Message("user", PAGE))
    assert said[0] == {"action": "search[Buy a lamp]"}
    assert all(step["action"] in ("click[Back to Search]", "click[B001]") for step in said[1:-1])
    assert "answer" in said[-1]


def test_with_tools_it_calls_them_by_their_own_parameters() -> None:
    fake = FakeProvider()
    (first,) = fake.perform([ask(tools=TOOLS)])
    assert first.value.calls == (ToolUse("call-2", "search", '{"words": "Buy a lamp"}'),)
    assert first.value.finish == "tools" and first.value.text == ""
    turns = (Message("assistant", "", first.value.calls), Message("tool", PAGE, (), "call-2"))
    (second,) = fake.perform([ask(messages=(*ASKED, *turns), tools=TOOLS)])
    assert second.value.calls[0].name == "click" and "label" in json.loads(second.value.calls[0].arguments)
    (broken,) = FakeProvider(invalid_rate=1.0).perform([ask(tools=TOOLS)])
    assert parse_json(broken.value.calls[0].arguments) is None


def test_a_reply_ends_where_its_tokens_do_and_says_so() -> None:
    (result,) = FakeProvider().perform([ask(max_tokens=3, logprobs=True)])
    assert (len(result.value.text), result.value.finish, result.usage.completion_tokens) == (12, "length", 3)
    assert "".join(piece for piece, _ in result.value.logprobs) == result.value.text
    assert all(logprob < 0 for _, logprob in result.value.logprobs)


def test_latencies_are_log_normal_and_belong_to_the_request() -> None:
    fake = FakeProvider(latency_s=0.1, latency_sigma=1.0)
    latencies = [fake.latency(ask(seed)) for seed in range(4000)]
    assert latencies == [fake.latency(ask(seed)) for seed in range(4000)]
    assert statistics.median(latencies) == pytest.approx(0.1, rel=0.08)
    assert statistics.mean(latencies) == pytest.approx(0.1 * 2.71828**0.5, rel=0.12)  # exp(sigma**2 / 2)
    assert {FakeProvider(latency_s=0.1, latency_sigma=0.0).latency(ask(seed)) for seed in range(9)} == {0.1}
    assert FakeProvider().latency(ask()) == 0.0


def test_calls_take_their_time_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, requests = FakeProvider(latency_s=5.0), [ask(seed) for seed in range(4)]
    latencies = [fake.latency(request) for request in requests]
    slept: list[float] = []

    async def nap(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", nap)
    monkeypatch.setattr(time, "sleep", slept.append)
    for request in requests:
        asyncio.run(fake.answer(request))
    assert slept == latencies
    slept.clear()
    fake.perform(requests)
    assert slept == [max(latencies)]


@pytest.mark.parametrize("name", ["invalid_rate", "failure_rate", "latency_s", "latency_sigma"])
def test_a_setting_out_of_range_is_named(name: str) -> None:
    for value in (-0.1, float("nan"), *((1.1,) if name.endswith("rate") else ())):
        with pytest.raises(ConfigError, match=name):
            FakeProvider(**{name: value})


def test_what_is_no_chat_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'tool'"):
        FakeProvider().perform([Request("0/0", "tool", ToolRequest("f", "{}"), 0)])


@pytest.mark.parametrize("tool_calls", ["json", "native"])
def test_a_crew_of_fakes_shops_in_both_forms(tool_calls: str) -> None:
    workers = {"kind": "chat", "model": "fake:shopper", "tool_calls": tool_calls}
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", workers=workers, split="dev")
    env.reset(seed=1)
    *_, info = env.step('{"subtask": "Buy {task}", "worker_id": "tool_use", "access_list": []}')
    (record,) = info["records"]
    assert record.tools[0].call.startswith("search[Buy ")
    assert all(tool.call.startswith("click[") for tool in record.tools[1:]) and len(record.tools) > 2
    assert record.usage.usd_nano == 0 < record.usage.tokens
    env.close()


def test_asked_by_workflow_it_plans_with_the_workers_present() -> None:
    env = gym.make("NextStep/WebShop-Workflow-v0", interface="text", split="train", workers="fake")
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        messages = (Message("system", "You orchestrate."), Message("user", observation))
        (result,) = FakeProvider().perform([ask(seed, messages, max_tokens=512)])
        *_, terminated, truncated, info = env.step(result.value.text)
        assert terminated and not truncated and not info["invalid_action"] and info["records"]


def test_a_spoilt_plan_is_no_json_and_half_of_them_can_be_repaired() -> None:
    opening = 'Task: a lamp\nWorkers:\n- tool_use: Quick.\nAnswer: {"workflow": [step, ...]}'
    messages = (Message("system", "You orchestrate."), Message("user", opening))
    results = FakeProvider(invalid_rate=1.0).perform([ask(seed, messages, max_tokens=512) for seed in range(400)])
    texts = [result.value.text for result in results]
    for text in texts:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    repaired = [plan for text in texts if (plan := parse_json(text))]
    assert len(repaired) / 400 == pytest.approx(0.5, abs=0.1)
    assert {step["worker_id"] for plan in repaired for step in plan["workflow"]} == {"tool_use"}


def test_a_first_plan_can_be_forced_to_be_invalid_and_only_it() -> None:
    first = (Message("system", "You orchestrate."), Message("user", '- tool_use: Quick.\n{"workflow": [step, ...]}'))
    second = (*first, Message("assistant", "No."), Message("user", "Invalid action."))
    fake = FakeProvider(force_step0_invalid=True)
    refused, plan, worker = fake.perform([ask(0, first), ask(0, second, max_tokens=512), ask(0)])
    assert parse_json(refused.value.text) is None
    assert "workflow" in parse_json(plan.value.text) and "action" in parse_json(worker.value.text)

"""A language model as the policy of a rollout: its conversation, its account, its outages, its recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextstep_agents.cli import main
from nextstep_agents.policies.scripted import PLANS, plan_text
from nextstep_agents.rollouts.traffic import text
from tests.agents.talker import PRICES, Talker, run
from tests.servers.chaos import ChaosProxy, seeded
from tests.servers.openai_like import OpenAIServer
from tests.servers.shopper import shopper


def test_a_model_acts_in_its_own_conversation_and_pays_from_its_own_account(tmp_path: Path) -> None:
    Talker.asked.clear()
    overrides = ("policy=talker:x", "llm.provider={false_starts: 2}", *PRICES, "episodes=8", "llm.max_tokens=77")
    summary, lines = run(tmp_path, *overrides, "split=dev")  # where all workers are there
    for line in lines:
        first, second, plan = (step["action"] for step in line["steps"])
        assert (first, second) == ("Let me think 0.", "Let me think 1.") and json.loads(plan)["workflow"]
        # 3 calls of 1000 + 500 tokens at $1 and $2 a million, and as many failed attempts of 1000 tokens
        assert line["books"]["orchestrator"] == {"usd": 0.006, "tokens": 4500.0, "calls": 3.0}
        assert line["books"]["orchestrator_waste"] == {"usd": 0.003, "tokens": 3000.0, "calls": 3.0}
    assert summary["spent"]["orchestrator"] == {"usd": 0.048, "tokens": 36000.0, "calls": 24.0}
    # the model's own tokens are no cost of the episode
    usage = [record["usage"] for line in lines for step in line["steps"] for record in step["records"]]
    assert summary["spent"]["workers"]["tokens"] == sum(u["prompt_tokens"] + u["completion_tokens"] for u in usage)
    assert summary["spent"]["usd"] == pytest.approx(0.048 + 0.024 + summary["spent"]["workers"]["usd"])

    line = lines[0]
    mine = [r.payload for r in Talker.asked if line["messages"][0] in [m.content for m in r.payload.messages]]
    last = max(mine, key=lambda chat: len(chat.messages))
    assert (last.model, last.max_tokens, last.temperature) == ("talker:x", 77, 0.0)
    assert [m.role for m in last.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m.content for m in last.messages[1::2]] == line["messages"][:3]
    assert len({request.seed for request in Talker.asked}) == 24


def test_a_policy_that_nobody_answers_masks_the_episode(tmp_path: Path) -> None:
    overrides = ("policy=talker:x", "llm.provider={failure_rate: 1.0}", *PRICES, "episodes=4")
    summary, lines = run(tmp_path, *overrides)
    assert summary["masked"]["share"] == 1.0 and summary["outcome"] is None
    for line in lines:
        assert line["mask_sample"] and line["truncated"] and not line["terminated"] and line["outcome"] is None
        assert line["error"] == {"kind": "outage", "message": "policy: talked to nobody"}
        assert line["books"] == {"orchestrator_waste": {"usd": 0.001, "tokens": 1000.0, "calls": 1.0}}
    assert summary["spent"]["orchestrator_waste"]["calls"] == 4


def test_a_recorded_policy_replays_byte_for_byte(tmp_path: Path) -> None:
    common = ("policy=talker:x", *PRICES, "episodes=6", "concurrency=1")
    run(tmp_path / "first", *common, f"llm.store={tmp_path / 'calls.sqlite'}")
    Talker.asked.clear()
    run(tmp_path / "again", *common, f"llm.replay={tmp_path / 'calls.sqlite'}")
    assert not Talker.asked
    assert (tmp_path / "again/episodes.jsonl").read_bytes() == (tmp_path / "first/episodes.jsonl").read_bytes()


def test_a_policy_behind_a_real_service_pays_what_the_service_billed(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with (
        OpenAIServer(lambda body, rng: plan_text(PLANS["tool.shop"])) as server,
        ChaosProxy(server, seeded(0, 0.3, ("500", "empty", "lost"))) as proxy,
    ):
        service = f'{{kind: openai, base_url: "{proxy.url}/v1", backoff_s: 0.01, retries: 8, breaker_failures: 1000}}'
        overrides = ("policy=local:model", f"llm.provider={service}", *PRICES, "episodes=40", "split=dev")
        summary, lines = run(tmp_path, *overrides)
        assert summary["episodes"] == 40 and summary["masked"]["episodes"] == 0
        assert all(json.loads(line["steps"][0]["action"])["workflow"] for line in lines)
        assert proxy.faults().total() >= 5
        spent, billed, lost, wasted = summary["spent"], server.total(), proxy.lost(), proxy.wasted()
    assert spent["orchestrator"]["calls"] == 40
    assert spent["orchestrator_waste"]["tokens"] == wasted.tokens > 0
    assert spent["orchestrator"]["tokens"] == billed.tokens - lost.tokens - wasted.tokens


def test_the_run_ends_with_what_its_gateways_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    with OpenAIServer(shopper) as server, ChaosProxy(server, seeded(0, 0.3, ("429", "empty", "lost"))) as proxy:
        service = f'{{kind: openai, base_url: "{proxy.url}/v1", backoff_s: 0.01, retries: 8, breaker_failures: 1000}}'
        workers = f'{{kind: chat, model: "openai:gpt-4.1-nano", providers: {{openai: {service}}}}}'
        overrides = [f"env_kwargs={{workers: {workers}}}", "policy=local:model", f"llm.provider={service}", *PRICES]
        assert main(["rollout", *overrides, "episodes=6", "split=dev", f"out={tmp_path / 'run'}"]) == 0
        faults, attempts, wasted, billed = proxy.faults(), len(proxy.events), proxy.wasted(), server.total()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    traffic = summary["traffic"]
    assert {who: list(providers) for who, providers in traffic.items()} == {"workers": ["openai"], "policy": ["local"]}
    shop, local = traffic["workers"]["openai"], traffic["policy"]["local"]
    assert min(faults.values()) > 0 and shop["calls"] > 0
    assert shop["attempts"] + local["attempts"] == attempts == billed.calls + faults["429"]
    assert shop["retries"] + local["retries"] == faults.total()
    assert shop["faults"].get("rate limit", 0) + local["faults"].get("rate limit", 0) == faults["429"]
    assert shop["unmetered"] + local["unmetered"] == faults["lost"]
    assert sum(shop["waste"].values()) + sum(local["waste"].values()) == wasted.tokens > 0
    assert sum(local["used"].values()) == summary["spent"]["orchestrator"]["tokens"]
    assert shop["circuit"] == local["circuit"] == "closed" and shop["outages"] == local["outages"] == 0
    said = capsys.readouterr().out
    assert f"openai (workers): {shop['calls']} calls in {shop['attempts']} attempts; failed: " in said
    assert f"local (policy): {local['calls']} calls in {local['attempts']} attempts" in said


def test_a_service_that_is_down_is_told_from_one_that_is_up(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    down = '{kind: openai, base_url: "http://127.0.0.1:9/v1", backoff_s: 0.01, retries: 0, breaker_failures: 3}'
    overrides = ("policy=local:model", f"llm.provider={down}", *PRICES, "episodes=5", "concurrency=1")
    summary, _ = run(tmp_path, *overrides)
    counts = summary["traffic"]["policy"]["local"]
    assert summary["masked"]["episodes"] == counts["outages"] == 5 and counts["faults"] == {"connection": 3}
    line = text("policy", "local", counts)
    assert line.startswith("local (policy): 5 calls in 3 attempts") and line.endswith("circuit open")
    assert summary["traffic"]["workers"] == {}  # no gateway: nothing is counted of scripted workers

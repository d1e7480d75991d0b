"""Rollouts train exactly what was sampled, and failures never become rewards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from nextstep_agents.engines.types import Completion
from nextstep_agents.policies.dialogue import Dialogue
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_agents.rollout import Episode, Limits, RolloutError, Start, describe, rollout, to_batch
from nextstep_envs.together import Together, Turn
from tests.agents.stub import PLANS, StubEnv, plan_text
from wrappers import CostPenalty, RecordTrace


class ScriptedEngine:
    """Answers with given token ids, one list for each call, and remembers what it was shown."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers, self.seen = answers, []

    def generate(
        self, prompts: Sequence[Sequence[int]], group: Sequence[int], max_new_tokens: int, temperature: float, seed: int
    ) -> list[Completion]:
        tokens = self.answers[min(len(self.seen), len(self.answers) - 1)]
        self.seen.append([list(p) for p in prompts])
        return [Completion(list(tokens), [-0.5 - i for i in range(len(tokens))], "end") for _ in prompts]


def spell(dialogue: Dialogue, text: str) -> list[int]:
    """A text in single characters: decodes to the text but is not how the tokenizer would write it."""
    ids = [i for character in text for i in dialogue.encode(character)] + [dialogue.stop]
    assert ids != dialogue.answer(text) and dialogue.decode(ids) == text
    return ids


def test_sampled_tokens_are_stored_as_sampled_and_never_encoded(
    policy: LLMPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = policy.dialogue
    wrong, right = spell(dialogue, "no dollars"), spell(dialogue, plan_text(PLANS[2]))
    encoded: list[str] = []
    encode = dialogue.tokenizer.encode
    monkeypatch.setattr(dialogue.tokenizer, "encode", lambda text, **k: encoded.append(text) or encode(text, **k))
    engine = ScriptedEngine(wrong, right)
    start = next(s for s in map(Start, range(50)) if {"planning", "tool_use"} <= pool(s))
    (episode,) = rollout([StubEnv()], dialogue, engine, [start], Limits(turns=3, new_tokens=400), 1.0, 0)
    assert encoded == [StubEnv().reset(seed=start.seed)[0], "Invalid action.\n"]
    opening, answer = len(engine.seen[0][0]), len(wrong)
    assert episode.tokens[opening : opening + answer] == wrong and episode.tokens[-len(right) :] == right
    assert (
        engine.seen[1][0]
        == episode.tokens[: -len(right)]
        == engine.seen[0][0] + wrong + dialogue.following("Invalid action.\n", ended=True)
    )
    batch = to_batch([episode])
    assert batch.tokens[0][batch.action[0]].tolist() == wrong + right
    assert batch.logprobs[0][batch.action[0]].tolist() == [-0.5 - i for n in (wrong, right) for i in range(len(n))]
    assert batch.turn[0].tolist() == sorted(batch.turn[0].tolist()) and int(batch.turn.max()) == 1
    assert episode.stop == "finished" and episode.invalid == 1 and batch.rewards.shape == (1, 2)


def pool(start: Start) -> set[str]:
    env = StubEnv()
    env.reset(seed=start.seed)
    return set(env.pool)


def test_a_row_grows_linearly_with_its_turns(policy: LLMPolicy) -> None:
    engine = ScriptedEngine([*policy.dialogue.encode("no"), policy.dialogue.stop])
    lengths = []
    for turns in (1, 2, 3):
        limits = Limits(turns=turns, new_tokens=8)
        (episode,) = rollout([StubEnv()], policy.dialogue, engine, [Start(0)], limits, 1.0, 0)
        lengths.append(len(episode.tokens))
    turn = len(policy.dialogue.following("Invalid action.\n", True)) + len(engine.answers[0])
    assert lengths == [lengths[0], lengths[0] + turn, lengths[0] + 2 * turn]


def test_every_episode_says_why_it_stopped(policy: LLMPolicy) -> None:
    engine = ScriptedEngine([*policy.dialogue.encode("no"), policy.dialogue.stop])

    def stop(limits: Limits, **env: float) -> str | None:
        return rollout([StubEnv(**env)], policy.dialogue, engine, [Start(0)], limits, 1.0, 0)[0].stop

    assert stop(Limits(turns=12, new_tokens=8)) == "finished"  # the stub gives up after three invalid actions
    assert stop(Limits(turns=2, new_tokens=8)) == "turn_limit"
    assert stop(Limits(turns=12, new_tokens=8, tokens=60)) == "token_limit"
    assert stop(Limits(turns=12, new_tokens=8), fail_rate=1.0) == "failed"


def test_an_opening_that_leaves_no_room_for_an_answer_is_a_stopped_episode(policy: LLMPolicy) -> None:
    engine = ScriptedEngine([policy.dialogue.stop])
    episodes = rollout([StubEnv()], policy.dialogue, engine, [Start(0)], Limits(new_tokens=8, tokens=10), 1.0, 0)
    assert episodes[0].stop == "token_limit" and not engine.seen
    batch = to_batch(episodes)
    assert not batch.action.any() and float(batch.returns) == 0
    assert describe(episodes)["stopped_by_limit_rate"] == 1


def test_a_failed_environment_has_weight_zero_and_is_counted(policy: LLMPolicy) -> None:
    answer = plan_text(PLANS[7])
    engine = ScriptedEngine(policy.dialogue.answer(answer))
    starts = [Start(3, sample=k) for k in range(40)]
    episodes = rollout([StubEnv(fail_rate=0.5)] * 1, policy.dialogue, engine, starts, Limits(new_tokens=64), 1.0, 0)
    batch = to_batch(episodes)
    failed = [e.stop == "failed" for e in episodes]
    assert 5 < sum(failed) < 35
    assert (batch.weight == 0).tolist() == failed
    assert float(batch.mask[batch.weight == 0].abs().sum()) == 0
    metrics = describe(episodes, ("calls",))
    assert metrics["masked_rate"] == pytest.approx(sum(failed) / 40)
    kept = [e.reward for e in episodes if e.weight]
    assert metrics["reward"] == pytest.approx(np.mean(kept))
    assert "cost_calls" in metrics


def test_more_episodes_than_environments_run_in_waves(policy: LLMPolicy) -> None:
    engine = ScriptedEngine(policy.dialogue.answer(plan_text(PLANS[1])))
    starts = [Start(seed, group=seed) for seed in range(5)]
    together = rollout([StubEnv() for _ in range(5)], policy.dialogue, engine, starts, Limits(), 1.0, 0)
    in_waves = rollout([StubEnv(), StubEnv()], policy.dialogue, engine, starts, Limits(), 1.0, 0)
    assert [e.rewards for e in together] == [e.rewards for e in in_waves]
    assert [len(seen) for seen in engine.seen][-3:] == [2, 2, 1]


def test_samples_of_a_group_must_have_one_task(policy: LLMPolicy) -> None:
    engine = ScriptedEngine(policy.dialogue.answer("{}"))
    starts = [Start(0, sample=0), replace(Start(0, sample=1), task_id="another")]
    with pytest.raises(RolloutError, match="another"):
        rollout([StubEnv(), StubEnv()], policy.dialogue, engine, starts, Limits(), 1.0, 0)


def test_costs_stay_float64_in_raw_units(policy: LLMPolicy) -> None:
    engine = ScriptedEngine(policy.dialogue.answer(plan_text(PLANS[6])))
    start = next(s for s in map(Start, range(50)) if {"planning", "tool_use", "verification"} <= pool(s))
    batch = to_batch(rollout([StubEnv()], policy.dialogue, engine, [start], Limits(), 1.0, 0))
    assert batch.costs.dtype == torch.float64 and batch.costs.tolist() == [[[3.0]]]


def _step_alone(together: Together) -> Callable[[int, Any], Turn]:
    return lambda row, action: together.envs[row].step(action)


@pytest.mark.parametrize("workers", ["scripted", {"kind": "fake", "invalid_rate": 0.2, "latency_s": 0.001}])
def test_side_by_side_is_one_by_one_to_the_last_byte_of_the_trace(
    workers: Any, policy: LLMPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"subtask": "Buy {task}", "worker_id": "tool_use", "access_list": []}
    answers = [policy.dialogue.answer(json.dumps(action)) for action in (step, {"finish": True})]
    starts = [Start(seed, sample, seed) for seed in range(3) for sample in range(2)]
    limits = Limits(turns=3, new_tokens=400, tokens=8000)

    def play(name: str) -> list[Episode]:
        kwargs = {"interface": "text", "split": "dev", "workers": workers}
        made = [gym.make("NextStep/WebShop-Workflow-v0", **kwargs) for _ in range(4)]
        envs = [RecordTrace(CostPenalty(env, 0.5), tmp_path / name) for env in made]
        episodes = rollout(envs, policy.dialogue, ScriptedEngine(*answers), starts, limits, 1.0, 0)
        for env in envs:
            env.close()
        return episodes

    together = play("together")
    monkeypatch.setattr(Together, "step", lambda self, rows, actions: list(map(_step_alone(self), rows, actions)))
    alone = play("alone")
    assert [repr(episode) for episode in together] == [repr(episode) for episode in alone]
    assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()
    assert all(episode.cost[0] > 0 for episode in together[:4]) and {e.stop for e in together} == {"finished"}

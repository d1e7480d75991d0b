"""Training a language model: it learns, resumes bit for bit, leaves a run folder, and names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nextstep_agents import train
from nextstep_agents.algorithms.critic_free import without_budgets
from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.algorithms.update import TrainingError, update
from nextstep_agents.engines.transformers import TransformersEngine
from nextstep_agents.policies.llm import LLMPolicy, LLMSettings
from nextstep_agents.rollout import Limits, Start, describe, rollout, to_batch
from nextstep_agents.tracking import read_rows
from nextstep_agents.warmstart import WarmStart, warm_start
from nextstep_envs.errors import ConfigError
from tests.agents import stub

SMALL: dict[str, Any] = {
    "llm": {"hidden_size": 64, "intermediate_size": 128, "layers": 1, "heads": 2, "vocab_size": 512},
    "warm_start": {"steps": 100, "messages": 128, "messages_per_step": 8, "read_messages": False},
    "grpo": {"groups_per_step": 2, "group_size": 3, "kl": 0.1, "kl_end": 0.0},
    "evaluation": {"every": 2, "dev_tasks": 4, "tasks": 0},
    "checkpoint_every": 2,
    "quiet": True,
}


def small(folder: Path, **changes: Any) -> Any:
    return train(policy="llm", total_steps=4, log_dir=str(folder), **{**SMALL, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / "model.safetensors")


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    small(whole)
    small(killed, callback=lambda step, metrics: step < 3)
    assert [row["step"] for row in read_rows(killed / "metrics.csv")] == ["1", "2", "3"]
    torch.manual_seed(99)  # what other code did to the global generators must not matter
    resumed = small(killed, resume=True)
    assert len(resumed.history) == 1
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    rows, expected = read_rows(killed / "metrics.csv"), read_rows(whole / "metrics.csv")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    for row, other in zip(rows, expected, strict=True):
        timed = ("seconds", "tokens_per_second")
        assert {k: v for k, v in row.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}


def test_a_run_folder_holds_everything(tmp_path: Path) -> None:
    seen: list[int] = []
    result = small(tmp_path / "run", callback=lambda step, metrics: seen.append(step))
    folder = result.folder
    assert seen == [1, 2, 3, 4] and len(result.history) == 4
    for name in ("reward", "outcome", "cost_mix", "entropy", "clip_share", "kl_sampler", "ratio_max", "flat_groups",
                 "masked_rate", "valid_action_rate", "grad_norm", "tokens_per_second"):  # fmt: skip
        assert np.isfinite([metrics[name] for metrics in result.history if name in metrics]).all()
        assert any(name in metrics for metrics in result.history)
    assert json.loads((folder / "settings.json").read_text())["grpo"]["group_size"] == 3
    assert list((folder / "tensorboard").iterdir()) and len(read_rows(folder / "dev.csv")) == 2
    trace = json.loads((folder / "traces" / "train.jsonl").read_text().splitlines()[0])
    assert trace["task_id"] and trace["steps"]
    assert not list(folder.rglob("*.pkl")) and not list(folder.rglob("*.bin"))
    again = LLMPolicy.load(folder / "policy")
    for ours, theirs in zip(again.model.parameters(), result.policy.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    scores = result.evaluate(tasks=3, seeds=2)
    assert scores.reward.shape == (3, 2) and np.isfinite(scores.reward).all()


def test_a_used_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ConfigError, match="resume=True"):
        small(tmp_path)
    with pytest.raises(ConfigError, match="no run to resume"):
        small(tmp_path / "nothing", resume=True)


def test_a_run_resumes_only_with_its_own_settings(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small(folder, callback=lambda step, metrics: False)
    before = (folder / "settings.json").read_text()
    with pytest.raises(ConfigError, match=r"seed=5 \(was 0\)"):
        small(folder, resume=True, seed=5)
    assert (folder / "settings.json").read_text() == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"algorithm": "ppo2"}, "algorithm='ppo2'.*'grpo'"),
        ({"algorithm": "pid_lagrangian"}, "algorithm='pid_lagrangian'.*policy=mlp"),
        ({"policy": "tree"}, "policy='tree'.*'llm'"),
        ({"cost_limits": [1.0]}, "cost_limits=.*policy='mlp'"),
        ({"metrics": len}, "metrics=.*policy='mlp'"),
        ({"learning_rat": 1}, "learning_rat.*'learning_rate'"),
        ({"grpo": {"groups": 1}}, "grpo.groups.*'group_size'"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"env_or_id": 3}, "env_or_id=3"),
        ({"env_or_id": "NextStep/Nowhere-v0"}, "NextStep/Nowhere-v0.*not registered"),
        ({"env_or_id": "NextStep/WebShop-v0"}, "NextStep/WebShop-v0.*no workers"),
        ({"cost_weight": -1.0}, "cost_weight=-1"),
        ({"evaluation": {"tasks": 10_000}}, "10000 tasks.*'test' split"),
        ({"env_kwargs": {"num_product": 5}}, "'num_product'.*'num_products'"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_written(tmp_path: Path, changes: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        train(log_dir=str(tmp_path / "run"), **{"policy": "llm", **changes})
    assert not (tmp_path / "run").exists()


def test_too_many_failures_stop_training(tmp_path: Path) -> None:
    dead = {"workers": {"kind": "fake", "failure_rate": 1.0}}
    with pytest.raises(TrainingError, match="max_masked_rate=2.0%"):
        small(tmp_path / "run", env_kwargs=dead, evaluation={"every": 0})


def test_it_learns() -> None:
    """On the stub, where one plan is best in each domain and some plans are bad everywhere."""
    torch.set_num_threads(1)
    from nextstep_envs.seeding import derive, stream

    env, rng = stub.StubEnv(), stream(5)
    messages = [env.reset(seed=derive(0, i))[0] for i in range(200)]
    settings = LLMSettings(hidden_size=64, intermediate_size=128, layers=1, heads=2, vocab_size=512)
    policy = LLMPolicy.new(settings, [*messages, *(stub.demonstrate(m, rng) for m in messages)], 0)
    warm_start(policy, messages, stub.demonstrate, WarmStart(steps=80, messages_per_step=8, read_messages=False), 0)
    engine, algorithm = (
        TransformersEngine(policy.model, policy.dialogue.stop),
        GRPO(epochs=1, entropy=0.0, max_grad_norm=1.0),
    )
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=1e-3, weight_decay=0.0)
    envs, rewards = [stub.StubEnv() for _ in range(128)], []
    for step in range(25):
        starts = [Start(derive(1, step, g), k, g) for g in range(16) for k in range(8)]
        episodes = rollout(envs, policy.dialogue, engine, starts, Limits(new_tokens=64), 1.0, step)
        rewards.append(describe(episodes)["reward"])
        batch = to_batch(episodes)
        objective, _, _ = algorithm.objective(batch, without_budgets(batch), algorithm.start(0))
        update(policy, optimiser, objective, batch, algorithm, 1.0, step, keep=algorithm.keep(batch))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.05, rewards

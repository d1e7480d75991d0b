"""The fast environment gives, seed for seed, what single environments would give."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.recorded.env import QuestionRoutingEnv
from nextstep_envs.recorded.vector import QuestionVectorEnv
from nextstep_envs.vector import BatchedVectorEnv
from tests.conformance.cases import assert_same
from tests.envs.tabular.test_vector import ordered

N = 5
IDS = ("NextStep/MMLUPro-Routing-v0", "NextStep/GSM8K-Routing-v0")
KWARGS: tuple[dict[str, Any], ...] = (
    {},
    {"answer": "weighted", "budget": {"usd": 0.003, "call_tokens": 300}, "cost": ["usd", "mix", "flops"]},
    {"answer": "last", "pool_size": 4, "budget": {"steps": 4}, "question_buckets": 0, "text_buckets": 0},
    {"budget": {"usd": 0.001175, "call_tokens": 1}},  # a call that looked possible may be refused
    {"budget": {"tokens": 2630, "call_tokens": 1}, "reward": "none"},
    {"estimates": True, "question_buckets": 0},
)


def pair(id: str, mode: str, **kwargs: Any) -> tuple[Any, Any]:
    own = {**gym.spec(id).kwargs, **kwargs}
    sync = SyncVectorEnv([lambda: QuestionRoutingEnv(**own)] * N, autoreset_mode=AutoresetMode(mode))
    return gym.make_vec(id, N, autoreset_mode=mode, **kwargs), sync


def play(many: Any, sync: Any, steps: int, seed: int = 0) -> list[str]:
    """Take the same actions in both, legal or not; return how episodes ended."""
    rng, ends = np.random.default_rng(seed), []
    for _ in range(steps):
        actions = rng.integers(many.single_action_space.n + 1, size=N)
        if rng.random() < 0.6:
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in many.action_masks()])
        mine, theirs = many.step(actions), sync.step(actions)
        assert_same(ordered(mine), ordered(theirs))
        final = mine[-1].get("final_info", mine[-1])
        over = mine[2] if "final_info" not in mine[-1] else mine[-1]["_final_info"]
        ends += [(final.get("budget_exhausted", [""] * N)[i] or "finish") for i in np.flatnonzero(over)]
    return ends


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("kwargs", KWARGS, ids=lambda kwargs: "-".join(kwargs) or "default")
@pytest.mark.parametrize("id", IDS)
def test_a_vector_is_its_parts(id: str, kwargs: dict[str, Any], mode: str) -> None:
    many, sync = pair(id, mode, **kwargs)
    assert isinstance(many, QuestionVectorEnv) and many.metadata["autoreset_mode"] == AutoresetMode(mode)
    assert_same(ordered(many.reset(seed=3)), ordered(sync.reset(seed=3)))
    ends = play(many, sync, 80)
    assert "finish" in ends and len(ends) > 3 * N


def test_calls_are_refused_alike() -> None:
    for budget, reason in (
        ({"usd": 0.001175, "call_tokens": 1}, "usd"),
        ({"tokens": 2630, "call_tokens": 1}, "tokens"),
    ):
        many, sync = pair(IDS[0], "SameStep", budget=budget)
        many.reset(seed=3), sync.reset(seed=3)
        assert reason in play(many, sync, 150)


def test_recorded_answers_are_the_same_in_a_vector(recorded_data: Path) -> None:
    for id in IDS:
        many, sync = pair(id, "SameStep", workers=f"recorded:{recorded_data}", pool="all", split="dev")
        assert_same(ordered(many.reset(seed=3)), ordered(sync.reset(seed=3)))
        assert len(play(many, sync, 60)) > N and many.data_source == "recorded"


def test_options_reach_every_episode() -> None:
    many, sync = pair(IDS[0], "SameStep")
    specs = many.setup.crew.specs
    task_id = many.world.ids("dev")[3]
    for options in ({"task_id": task_id}, {"sample": 4}, {"pool": [specs[1].worker_id, specs[4]], "sample": 2}):
        assert_same(ordered(many.reset(seed=0, options=dict(options))), ordered(sync.reset(seed=0, options=options)))
        play(many, sync, 12)


def test_another_price_is_charged_and_seen() -> None:
    many, sync = pair(IDS[0], "SameStep")
    pool = [replace(many.setup.crew.specs[2], usd_per_mtok_in=7.0, params_b=3.0)]
    assert_same(
        ordered(many.reset(seed=0, options={"pool": pool})), ordered(sync.reset(seed=0, options={"pool": pool}))
    )
    mine, theirs = many.step(np.full(N, 2)), sync.step(np.full(N, 2))
    assert_same(ordered(mine), ordered(theirs))
    assert (mine[-1]["cost"] > 1300 * 7e-6).all()


def test_some_can_be_reset_alone() -> None:
    many, sync = pair(IDS[0], "Disabled")
    assert_same(ordered(many.reset(seed=2)), ordered(sync.reset(seed=2)))
    finish = many.single_action_space.n - 1
    actions = np.array([finish, 0, finish, 0, 0])
    assert_same(ordered(many.step(actions)), ordered(sync.step(actions)))
    with pytest.raises(RuntimeError, match=r"environments \[0, 2\] are over"):
        many.step(actions)
    mask = np.array([True, False, True, False, False])
    mine, theirs = (env.reset(options={"reset_mask": mask}) for env in (many, sync))
    assert_same(ordered(mine), ordered(theirs))
    assert_same(ordered(many.step(np.ones(N, int))), ordered(sync.step(np.ones(N, int))))


def test_a_limit_truncates() -> None:
    many = gym.make_vec(IDS[0], N, max_episode_steps=2)
    many.reset(seed=0)
    assert not many.step(np.zeros(N, int))[3].any()
    _, rewards, terminated, truncated, infos = many.step(np.ones(N, int))
    assert truncated.all() and not terminated.any() and not rewards.any()
    assert "outcome" not in infos["final_info"] and infos["_final_obs"].all()


def test_a_snapshot_continues_exactly() -> None:
    many = gym.make_vec(IDS[0], N)
    many.reset(seed=0)
    rng = np.random.default_rng(1)
    script = [rng.integers(many.single_action_space.n, size=N) for _ in range(20)]
    for actions in script[:7]:
        many.step(actions)
    saved = pickle.loads(pickle.dumps(many.snapshot()))
    expected = [many.step(actions) for actions in script]
    other = gym.make_vec(IDS[0], N)
    for again in (many, other):
        again.restore(saved)
        assert_same([again.step(actions) for actions in script], expected)
    many.restore(saved, sample=3)
    assert (many.step(np.zeros(N, int))[-1]["sample"][~saved.over] == 3).any()
    with pytest.raises(ConfigError, match="the snapshot has 5 episodes, but there are 2"):
        gym.make_vec(IDS[0], 2).restore(saved)


def test_texts_live_models_and_rendering_take_the_general_environment() -> None:
    for kwargs in ({"interface": "text"}, {"workers": "fake"}, {"render_mode": "ansi"}):
        many = gym.make_vec(IDS[0], 2, **kwargs)
        assert isinstance(many, BatchedVectorEnv)
        many.reset(seed=0)
        many.close()


def test_bad_input_is_named() -> None:
    many = gym.make_vec(IDS[0], 2)
    with pytest.raises(RuntimeError, match="reset"):
        many.step([0, 0])
    many.reset(seed=0)
    with pytest.raises(ConfigError, match="3 actions were given for 2"):
        many.step([0, 0, 0])
    for actions in ([0.5, 1.0], ["0", "1"], [None, 1]):
        with pytest.raises(ActionError):
            many.step(actions)
    with pytest.raises(ConfigError, match="num_envs=0"):
        QuestionVectorEnv(0)
    with pytest.raises(ConfigError, match="max_episode_steps=-1"):
        QuestionVectorEnv(2, max_episode_steps=-1)

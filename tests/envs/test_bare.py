"""The bare shop as a Gymnasium environment."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401
from nextstep_envs.bare import BareEnv
from nextstep_envs.errors import ActionError, ConfigError, DataError

ID = "NextStep/WebShop-v0"


def make(**kwargs: Any) -> gym.Env[str, str]:
    return gym.make(ID, **kwargs)


def test_a_task_is_chosen_whatever_the_split_says() -> None:
    env = make(split="train")
    _, info = env.reset(seed=0, options={"task_id": "7"})
    assert info["task_id"] == "7" == env.reset(options={"task_id": 7})[1]["task_id"]
    assert info["available_actions"] == {"has_search_bar": True, "clickables": ["search"]}
    assert info["cost"] == 0.0 and info["costs"].tolist() == [0.0]


def test_a_purchase_ends_the_episode_with_its_outcome() -> None:
    env = make(split="test")
    page, _ = env.reset(seed=3)
    _, _, _, _, info = env.step(f"search[{page.splitlines()[2]}]")
    env.step(f"click[{info['available_actions']['clickables'][2]}]")
    page, reward, terminated, truncated, info = env.step("click[buy now]")
    assert terminated and not truncated and info["outcome"]["score"] == reward == info["outcome"].score
    assert {"score", "success", "r_type", "r_att", "r_price"} <= set(info["outcome"])
    assert info["cost_terms"]["env_steps"] == 1 and "budget_exhausted" not in info
    assert "Your score (min 0.0, max 1.0)\n\nReward Details" in page
    with pytest.raises(RuntimeError, match="reset"):
        env.step("search[x]")


def test_running_out_of_steps_terminates_unbought() -> None:
    env = make(max_steps=2)
    env.reset(seed=0)
    assert env.step("think[hm]")[2] is False
    _, reward, terminated, truncated, info = env.step("think[hm]")
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["budget_exhausted"] == "env_steps" and info["outcome"].score == 0.0


def test_a_purchase_on_the_last_step_is_no_exhausted_budget() -> None:
    env = make(max_steps=3)
    _, info = env.reset(seed=0)
    found = env.step("search[lamp]")[4]
    env.step(f"click[{found['available_actions']['clickables'][2]}]")
    _, _, terminated, _, info = env.step("click[buy now]")
    assert terminated and "budget_exhausted" not in info


def test_every_action_costs_one_step_even_if_it_does_nothing() -> None:
    env = make()
    env.reset(seed=0)
    for action in ("search[lamp]", "nonsense", "click[nothing]"):
        info = env.step(action)[4]
        assert info["cost_terms"]["env_steps"] == info["cost"] == 1.0 and info["cost_terms"]["tokens"] == 0.0
        assert info["books"] == {}


def test_the_seed_chooses_the_task_and_samples_share_it() -> None:
    env, other = make(), make()
    first = [env.reset(seed=9, options={"sample": k})[1]["task_id"] for k in (0, 1, np.int64(2))]
    assert len(set(first)) == 1 and first[0] == other.reset(seed=9)[1]["task_id"]
    drawn = {env.reset()[1]["task_id"] for _ in range(20)}
    assert len(drawn) > 10


def test_tasks_come_from_their_split() -> None:
    for split, low, high in (("test", 0, 499), ("dev", 500, 1499), ("train", 1500, 1 << 30)):
        env = make(split=split)
        numbers = [int(env.reset(seed=seed)[1]["task_id"]) for seed in range(30)]
        assert all(low <= number <= high for number in numbers)


def test_a_reference_episode_through_gymnasium(webshop_data: Path) -> None:
    golden = json.loads(gzip.decompress((webshop_data / "golden.json.gz").read_bytes()))
    for episode in golden["episodes"]:
        env = make(data_dir=str(webshop_data), goals=episode["goal_set"], reveal_score=True)
        page, info = env.reset(options={"task_id": episode["task_id"]})
        expected = episode["steps"][0]
        assert (page, info["available_actions"]) == (expected["text_rich"], expected["available_actions"])
        for number, (action, expected) in enumerate(zip(episode["actions"], episode["steps"][1:], strict=True), 1):
            page, reward, terminated, truncated, info = env.step(action)
            assert (page, reward, truncated) == (expected["text_rich"], expected["reward"], False)
            assert terminated == (expected["done"] or number == 15)
            assert info["available_actions"] == expected["available_actions"]
        if episode["reward_info"]:
            assert dict(info["outcome"].details) == episode["reward_info"]


def test_nothing_works_before_the_first_reset() -> None:
    env = BareEnv(render_mode="ansi")
    for call in (lambda: env.step("search[x]"), env.render):
        with pytest.raises(RuntimeError, match="call reset first"):
            call()


def test_rendering_shows_the_open_page() -> None:
    env = make(render_mode="ansi")
    assert env.reset(seed=0)[0] == env.render()
    assert env.step("search[lamp]")[0] == env.render()


def test_no_limit_means_no_limit() -> None:
    env = make(max_steps=None)
    env.reset(seed=0)
    assert not any(env.step("search[x]")[2] for _ in range(100))


def test_snapshots_and_pickles_continue_identically() -> None:
    env = make().unwrapped
    env.reset(seed=5)
    env.step("search[lamp]")
    saved = env.snapshot()  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(env))
    ahead = env.step("click[next >]")[0]
    env.restore(saved)  # type: ignore[attr-defined]
    assert env.step("click[next >]")[0] == ahead == copy.step("click[next >]")[0]
    assert env.reset()[0] == copy.reset()[0]
    assert len(pickle.dumps(env)) < 20_000


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"split": "validation"}, "'validation'.*'train'"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"goals": "robot"}, "'robot'.*'human'"),
        ({"num_products": 0}, "0"),
        ({"observation_mode": "html"}, "'html'"),
        ({"num_product": 5}, "'num_product'.*'num_products'"),
        ({"world": "nowhere"}, "'nowhere'.*webshop"),
        ({"render_mode": "human2"}, "'human2'"),
        ({"interface": "vector"}, "'vector'"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(Exception, match=match):
        BareEnv(**kwargs)


@pytest.mark.parametrize(
    "options", [{"task_id": "x"}, {"task_id": "99999999"}, {"taskid": "1"}, {"sample": -1}, {"sample": "a"}]
)
def test_bad_reset_options_are_named(options: dict[str, Any]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError, match=f"{name}|{value}"):
        make().reset(options=options)


def test_actions_must_be_text() -> None:
    env = make(disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ActionError, match="int 3"):
        env.step(3)  # type: ignore[arg-type]


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        make(data_dir=str(tmp_path))

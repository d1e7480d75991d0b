"""The bare shop as a Gymnasium environment."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import nextstep_envs  # noqa: F401
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
    assert "Your score (min 0.0, max 1.0)\nReward Details" in page
    with pytest.raises(RuntimeError, match="reset"):
        env.step("search[x]")


def test_running_out_of_steps_terminates_unbought() -> None:
    env = make(max_steps=2)
    env.reset(seed=0)
    assert env.step("think[hm]")[2] is False
    _, reward, terminated, truncated, info = env.step("think[hm]")
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["budget_exhausted"] == "env_steps" and info["outcome"].score == 0.0


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
        ({"world": "nowhere"}, "'nowhere'.*webshop"),
        ({"render_mode": "human2"}, "'human2'"),
        ({"interface": "vector"}, "'vector'"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, Any], match: str) -> None:
    from nextstep_envs.bare import BareEnv

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

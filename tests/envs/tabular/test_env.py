"""A tabular problem as an environment: what it shows, what chance does, and that it can be stopped and continued."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import nextstep_envs  # noqa: F401  (registers)
from nextstep_envs.errors import ActionError, ConfigError
from nextstep_envs.infos import Mask
from nextstep_envs.tabular import DagRetries, RetryStop, TabularCMDP, TierRouting
from tests.conformance.cases import assert_same
from tests.envs.tabular.cases import PROBLEMS, loop, one_shot, uniform

IDS = [f"NextStep/{name}-v0" for name in ("TierRouting", "RetryStop", "DagRetries", "TeamPlanWork")]


def draw(mask: Mask, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(mask)))


def play(env: gym.Env[Any, Any], steps: int, seed: int | None = None, actions: int = 0) -> list[Any]:
    """Everything that a random player is returned; it goes on from where the environment is if there is no seed."""
    rng = np.random.default_rng(actions)
    seen: list[Any] = [] if seed is None else [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(draw(env.get_wrapper_attr("action_masks")(), rng)))
        if seen[-1][2]:
            seen.append(env.reset())
    return seen


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_is_content(env_id: str) -> None:
    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("arguments", [one_shot(), loop(), loop(horizon=None, gamma=0.9)])
def test_gymnasiums_checker_is_content_with_a_users_own_model(arguments: dict[str, Any]) -> None:
    check_env(TabularCMDP(**arguments), skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_ids_know_what_can_be_reached_and_survive_json(env_id: str) -> None:
    env = gym.make(env_id, render_mode="ansi")
    assert env.spec.reward_threshold == pytest.approx(env.unwrapped.optimum()["return"], abs=5e-5)
    again = gym.make(EnvSpec.from_json(gym.make(env_id).spec.to_json()))
    assert_same(play(again, 30, seed=1), play(env, 30, seed=1))


def test_a_budget_can_be_given_by_id() -> None:
    env = gym.make("NextStep/DagRetries-v0", d=[6.0, 0.25])
    assert env.unwrapped.cost_limits == {"spend": 6.0, "leaks": 0.25}
    assert env.unwrapped.optimum()["return"] == pytest.approx(5.7790, abs=5e-5)
    with pytest.raises(ConfigError, match="d="):
        gym.make("NextStep/DagRetries-v0", d=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_step_is_billed_and_labelled(problem: type[TabularCMDP]) -> None:
    env = problem()
    names = env.cost_names
    for item in play(env, 60, seed=0):
        observation, info = item[0], item[-1]
        assert observation in env.observation_space
        assert list(info) == [
            "task_id", "sample", "costs", "cost", "cost_terms", "books", "records", "action_mask", "invalid_action",
        ]  # fmt: skip
        assert info["costs"].dtype == np.float64 and info["costs"].shape == (len(names),)
        assert type(info["cost"]) is float and info["cost"] == info["costs"][0]
        assert [info["cost_terms"][name] for name in names] == info["costs"].tolist()
        assert info["action_mask"].dtype == np.int8 and info["action_mask"].any()
        np.testing.assert_array_equal(observation["action_mask"], info["action_mask"])
        assert info["invalid_action"] is False and info["books"] == {} and info["records"] == ()
        if len(item) == 2:
            assert info["cost"] == 0.0
            continue
        _, reward, terminated, truncated, _ = item
        assert type(reward) is float and type(terminated) is bool and truncated is False
        assert observation["observation"].sum() == (0.0 if terminated else 1.0)


def test_a_seed_fixes_everything_and_a_sample_only_what_happens() -> None:
    env = TierRouting()
    assert_same(play(env, 40, seed=5), play(TierRouting(), 40, seed=5))
    starts, wins = set(), set()
    for sample in range(30):
        observation, info = env.reset(seed=5, options={"sample": sample})
        starts.add(info["task_id"])
        assert info["sample"] == sample
        wins.add(env.step(1)[1])
    assert len(starts) == 1 and wins == {0.0, 1.0}
    assert len({env.reset(seed=seed)[1]["task_id"] for seed in range(20)}) == 3
    assert len({env.reset()[1]["task_id"] for _ in range(40)}) == 3  # later episodes differ from the first


def test_the_first_state_can_be_named() -> None:
    env = TierRouting()
    for task_id in "012":
        observation, info = env.reset(seed=1, options={"task_id": task_id})
        assert info["task_id"] == task_id and observation["observation"].argmax() == int(task_id)
    for options, message in (
        ({"task_id": "3"}, "task_id.*'3'"),
        ({"task_id": 1}, "task_id"),
        ({"sample": -1}, "sample.*-1"),
        ({"pool": ["w1"]}, "pool"),
    ):
        with pytest.raises(ConfigError, match=message):
            env.reset(options=options)
    with pytest.raises(ConfigError, match="task_id.*'1'"):
        RetryStop().reset(options={"task_id": "1"})  # an episode never begins there


def test_an_illegal_action_ends_the_episode_and_brings_nothing() -> None:
    env = DagRetries()
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(8)  # D before anything else
    assert terminated and not truncated and reward == 0.0 and not info["costs"].any()
    assert info["invalid_action"] is True and not observation["observation"].any()


@pytest.mark.parametrize("action", [None, 1.5, "1", 9, -1, True, np.array([1, 2])])
def test_an_action_that_does_not_exist_is_named(action: Any) -> None:
    env = DagRetries()
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ActionError):
        env.step(action)
    assert env.snapshot() == before


@pytest.mark.parametrize("action", [1, np.int64(1), np.array(1), np.array([1])])
def test_whole_numbers_of_any_kind_are_actions(action: Any) -> None:
    env = DagRetries()
    env.reset(seed=0)
    assert env.step(action)[-1]["cost"] == 1.0


def test_steps_need_an_episode() -> None:
    env = TierRouting()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(RuntimeError, match="over"):
        env.step(0)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_drawn_is_what_the_arrays_expect(problem: type[TabularCMDP]) -> None:
    """Thousands of sampled steps against P, R and C, pair by pair, within five standard errors."""
    env = problem()
    pair, after, rewards, costs = _sampled_steps(env, 400)
    visits = np.bincount(pair, minlength=env.n_states * env.n_actions)
    often = visits >= 200
    assert often.sum() >= 6
    reward, K = env.R.ravel(), len(env.cost_names)
    outcomes = env.model.outcomes
    for values, mean, drawn in [
        (rewards, reward, outcomes.reward),
        *((costs[:, k], env.C[k].ravel(), outcomes.costs[..., k]) for k in range(K)),
        *((after == state, env.P[..., state].ravel(), outcomes.next_state == state) for state in range(env.n_states)),
    ]:
        observed = np.bincount(pair, values, minlength=len(visits))[often] / visits[often]
        spread = (outcomes.probability * (drawn - (outcomes.probability * drawn).sum(-1, keepdims=True)) ** 2).sum(-1)
        error = np.sqrt(spread.ravel()[often] / visits[often])
        assert (abs(observed - mean[often]) <= 5 * error + 1e-12).all()


def _sampled_steps(env: TabularCMDP, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    many, rng, rows = env.vector(256), np.random.default_rng(0), []
    observations, _ = many.reset(seed=0)
    for _ in range(steps):
        states = observations["observation"].argmax(-1)
        actions = _choose(uniform(env)[states], rng)
        observations, rewards, over, _, infos = many.step(actions)
        costs = infos["costs"].copy()
        if over.any():
            costs[over] = infos["final_info"]["costs"][over]
        after = np.where(over, -1, observations["observation"].argmax(-1))
        rows.append((states * env.n_actions + actions, after, rewards, costs))
    pair, after, rewards, costs = (np.concatenate(column) for column in zip(*rows, strict=True))
    return pair, after, rewards, costs


def _choose(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((len(probabilities), 1)) >= probabilities.cumsum(-1)[:, :-1]).sum(-1)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_exact_values_are_the_means_of_played_episodes(problem: type[TabularCMDP]) -> None:
    env = problem()
    found = env.optimum()
    many, rng = env.vector(4000), np.random.default_rng(1)
    observations, _ = many.reset(seed=100)
    totals, running = np.zeros((4000, 1 + len(env.cost_names))), np.ones(4000, bool)
    while running.any():
        actions = _choose(found["policy"][observations["observation"].argmax(-1)], rng)
        observations, rewards, over, _, infos = many.step(actions)
        costs = infos["costs"].copy()
        if over.any():
            costs[over] = infos["final_info"]["costs"][over]
        totals[running] += np.concatenate([rewards[:, None], costs], 1)[running]
        running &= ~over
    error = totals.std(0) / np.sqrt(4000)
    assert (abs(totals.mean(0) - [found["return"], *found["costs"]]) <= 5 * error).all()


def test_a_defect_leaks_only_from_a_success() -> None:
    env = DagRetries()
    leaks = 0
    for seed in range(600):
        env.reset(seed=seed)
        observation, reward, _, _, info = env.step(1)
        assert info["costs"][0] == 1.0 and info["costs"][1] in (0.0, 1.0)
        if info["costs"][1]:
            leaks += 1
            assert reward == 1.0 and env.feature_names[observation["observation"].argmax()] == "A done, 1 calls"
    assert leaks == pytest.approx(600 * 0.055, abs=5 * np.sqrt(600 * 0.055))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_snapshot_continues_exactly_and_forks_by_sample(problem: type[TabularCMDP]) -> None:
    env = problem()
    env.reset(seed=3, options={"sample": 2})
    if problem is not TierRouting:  # which lasts for one step
        while env.step(1)[2]:
            env.reset()
    action = int(np.flatnonzero(env.action_masks())[1])
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    expected = play(env, 20)
    env.restore(saved)
    assert_same(play(env, 20), expected)
    other = problem()
    other.restore(saved)
    assert_same(play(other, 20), expected)
    futures = set()
    for sample in range(200):
        other.restore(saved, sample=sample)
        _, reward, _, _, info = other.step(action)
        assert info["sample"] == sample
        futures.add(reward)
    assert len(futures) > 1
    with pytest.raises(ConfigError, match="sample"):
        other.restore(saved, sample=-1)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_copy_in_mid_episode_continues_alike(problem: type[TabularCMDP], clone: Callable[[Any], Any]) -> None:
    env = problem()
    env.reset(seed=8)
    twin = clone(env)
    assert_same(play(twin, 30), play(env, 30))


def test_what_is_returned_is_the_callers_own() -> None:
    env = DagRetries()
    observation, info = env.reset(seed=0)
    expected = copy.deepcopy(observation)
    observation["observation"][:] = 7
    observation["action_mask"][:] = 0
    info["action_mask"][:] = 0
    assert_same(env.observation(0), expected)
    assert env.action_masks()[1]


def test_render_tells_where_the_episode_is() -> None:
    env = gym.make("NextStep/RetryStop-v0", render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "start: 0 failures\nafter 0 decisions: 0 failures"
    env.step(0)
    assert env.render().endswith("after 1 decisions: the end\nlast decision: stop, reward 0, spend 0")

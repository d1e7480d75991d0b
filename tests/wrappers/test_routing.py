"""RoutingReward pays what Puppeteer's paper and code say, alone and in vectors."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import nextstep_envs  # noqa: F401
from nextstep_envs.errors import ConfigError
from wrappers import RoutingReward, RoutingRewardVector
from wrappers.routing import RoutingScorer

ID = "NextStep/WebShop-Routing-v0"
UNIT = 1e14


def test_the_papers_form_charges_log_growth_and_pays_the_outcome_at_the_end() -> None:
    scorer = RoutingScorer("paper", max_steps=4, weight=0.1)
    assert scorer.reward(0, 2 * UNIT, ("planning",), None) == pytest.approx(-0.1 * 2 * math.log(1 + 1 / 4))
    assert scorer.reward(3, UNIT, ("planning",), 0.5) == pytest.approx(0.5 - 0.1 * math.log(2))
    assert scorer.reward(9, UNIT, ("planning",), None) == scorer.reward(3, UNIT, ("planning",), None)


def test_the_codes_form_weighs_factors_and_signs_the_outcome() -> None:
    scorer = RoutingScorer("code", max_steps=4)

    def c(t: int) -> float:
        return 0.1 * math.log(1 + (t + 1) / 5) / math.log(2)

    assert scorer.reward(0, 2 * UNIT, ("planning",), None) == pytest.approx(-2 * c(0))
    assert scorer.reward(1, UNIT, ("search_bing",), None) == pytest.approx(-1.5 * c(1))
    assert scorer.reward(2, 0.0, (), 0.75) == pytest.approx(0.75 + 0.5 * c(2))  # the terminator
    assert scorer.reward(2, 0.0, (), 0.0) == pytest.approx(-1 - 0.5 * c(2))
    assert scorer.reward(1, UNIT, ("planning",), 1.0) == pytest.approx(-c(1) + 1 + 0.5 * c(2))  # one is appended


def test_inverse_makes_early_decisions_the_dear_ones() -> None:
    late, early = (RoutingScorer("code", 4, inverse=inverse) for inverse in (False, True))
    for t in range(4):
        both = late.reward(t, UNIT, ("planning",), None) + early.reward(t, UNIT, ("planning",), None)
        assert both == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"reward_mode": "blog"}, "reward_mode='blog'"),
        ({"factors": {"bing": 1.0}}, "factors entry='bing'"),
        ({"factors": {"default": math.nan}}, "default"),
        ({"weight": math.inf}, "weight=inf"),
        ({"growth_rate": 0.0}, "growth_rate"),
        ({"scale": -1.0}, "scale"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RoutingReward(gym.make(ID), **settings)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="Routing protocol, got 'workflow'"):
        RoutingReward(gym.make("NextStep/WebShop-Workflow-v0"))


def test_an_environment_without_outcomes_is_refused() -> None:
    with pytest.raises(ConfigError, match="reward='outcome'"):
        RoutingReward(gym.make(ID, reward="none"))
    with pytest.raises(ConfigError, match="reward='outcome'"):
        RoutingRewardVector(gym.make_vec(ID, num_envs=2, reward="none"))


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_a_return_is_the_sum_of_the_formula_over_a_real_episode(mode: Any) -> None:
    env = RoutingReward(gym.make(ID, split="dev"), reward_mode=mode)
    rules, plain = env.unwrapped.setup.rules, gym.make(ID, split="dev")
    labels = [a.label for a in rules.activations]
    env.reset(seed=3), plain.reset(seed=3)
    for t, action in enumerate([labels.index("planner"), labels.index("web_searcher"), rules.n_actions - 1]):
        _, paid, terminated, _, info = env.step(action)
        _, outcome, *_ = plain.step(action)
        actions = tuple(rules.action_of(r.step.agent) for r in info["records"])
        end = outcome if terminated else None
        assert paid == pytest.approx(env.scorer.reward(t, info["cost_terms"]["flops"], actions, end))
        assert (paid != outcome) == (mode == "code" or bool(actions))
    assert terminated


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_vectors_pay_the_same(mode: Any) -> None:
    many = RoutingRewardVector(gym.make_vec(ID, num_envs=3, split="dev"), reward_mode=mode)
    singles = [RoutingReward(gym.make(ID, split="dev"), reward_mode=mode) for _ in range(3)]
    _, infos = many.reset(seed=7)
    for i, env in enumerate(singles):
        env.reset(seed=7 + i)
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in infos["action_mask"]])
        _, rewards, *_, infos = many.step(actions)
        for i, env in enumerate(singles):
            _, reward, terminated, _, _ = env.step(int(actions[i]))
            assert rewards[i] == pytest.approx(reward, abs=1e-12)
            if terminated:
                env.reset()

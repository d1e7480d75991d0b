"""CostPenalty subtracts exactly what the formulas say, alone and in vectors."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from nextstep_envs.errors import ConfigError
from wrappers import CostPenalty, CostPenaltyVector
from wrappers.cost import CostScorer

ACTIONS = (1, 0, 3, 2)
FORMS = ("linear", "log", "inverse")


def rewards(env: gym.Env[Any, Any]) -> list[float]:
    env.reset(seed=0)
    return [float(env.step(action)[1]) for action in ACTIONS]


def test_linear_subtracts_weight_times_the_first_cost(bill: gym.Env[Any, Any]) -> None:
    assert rewards(CostPenalty(bill, weight=0.1)) == pytest.approx([-0.1, 0.0, -0.3, 1 - 0.2])


def test_a_list_of_weights_prices_every_cost(bill: gym.Env[Any, Any]) -> None:
    assert rewards(CostPenalty(bill, weight=[0.0, 0.01])) == pytest.approx([-0.01, 0.0, -0.09, 1 - 0.04])


def test_log_growth_makes_late_decisions_dearer(bill: gym.Env[Any, Any]) -> None:
    growth = [math.log(1 + 2 * (t + 1) / 5) / math.log(3) for t in range(4)]  # 4 steps at most, growth rate 2
    expected = [-0.1 * 0.5 * cost * factor for cost, factor in zip(ACTIONS, growth, strict=True)]
    expected[-1] += 1
    env = CostPenalty(bill, weight=0.1, form="log", scale=0.5, growth_rate=2.0)
    assert rewards(env) == pytest.approx(expected)
    assert rewards(env) == pytest.approx(expected)  # the count of decisions starts again with reset


def test_inverse_is_the_mirror_image_of_log() -> None:
    log, inverse = (CostScorer(1.0, form, 0.1, 1.0, 6) for form in ("log", "inverse"))
    for t in range(6):
        assert log.factor(t) + inverse.factor(t) == pytest.approx(0.1)
    assert np.all(np.diff([log.factor(t) for t in range(6)]) > 0)
    assert 0 < inverse.factor(5) < inverse.factor(0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weight", [0.3, [0.1, 0.02]])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_vector_pays_what_its_parts_pay(bill_id: str, form: Any, weight: Any, mode: AutoresetMode) -> None:
    makers = [lambda: gym.make(bill_id)] * 3
    plain = SyncVectorEnv([lambda: CostPenalty(gym.make(bill_id), weight, form)] * 3, autoreset_mode=mode)
    outside = CostPenaltyVector(SyncVectorEnv(makers, autoreset_mode=mode), weight, form)
    plain.reset(seed=0)
    outside.reset(seed=0)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(13):
        actions = rng.integers(5, size=3)
        expected, got = plain.step(actions), outside.step(actions)
        np.testing.assert_allclose(got[1], expected[1])
        ended += int(got[2].sum())
    assert ended >= 6  # several episodes, so resets were part of it


def test_sub_environments_out_of_phase_keep_their_own_count(bill_id: str) -> None:
    env = CostPenaltyVector(
        SyncVectorEnv([lambda: gym.make(bill_id)] * 2, autoreset_mode=AutoresetMode.DISABLED), 1.0, "log"
    )
    env.reset(seed=0)
    env.step(np.array([1, 1]))
    env.reset(options={"reset_mask": np.array([True, False])})
    reward = env.step(np.array([1, 1]))[1]
    np.testing.assert_allclose(reward, [-env.scorer.factor(0), -env.scorer.factor(1)])


def test_growth_needs_to_know_how_long_episodes_are() -> None:
    with pytest.raises(ConfigError, match="form='log' needs max_steps="):
        CostPenalty(gym.make("CartPole-v1"), form="log")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -0.1}, r"weight=-0.1 must be a finite number >= 0"),
        ({"weight": math.nan}, "weight=nan"),
        ({"weight": [0.1]}, r"weight=\(0.1,\) has 1 entries, but the costs are tokens, usd"),
        ({"form": "cubic"}, "form='cubic' is unknown; choose one of 'linear', 'log', 'inverse'"),
        ({"form": "log", "growth_rate": 0.0}, "growth_rate=0.0"),
        ({"form": "log", "max_steps": 0}, "max_steps=0"),
    ],
)
def test_a_bad_setting_is_named(bill: gym.Env[Any, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CostPenalty(bill, **settings)

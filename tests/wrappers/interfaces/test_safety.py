"""Six values a step, of which the third is the cost; all else as it was."""

from __future__ import annotations

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from nextstep_envs.errors import ConfigError
from tests.conformance.cases import assert_same
from wrappers.interfaces import SafetyGymnasium

ID = "NextStep/WebShop-Workflow-v0"


def test_only_the_form_of_a_step_changes() -> None:
    env, plain = SafetyGymnasium(gym.make(ID)), gym.make(ID)
    (observation, info), (expected, info_there) = env.reset(seed=1), plain.reset(seed=1)
    assert info["cost_sum"] == 0.0
    spent = 0.0
    for _ in range(20):
        assert_same(observation, expected)
        assert_same({key: info[key] for key in info_there}, info_there)
        action = plain.action_space.sample(info_there["action_mask"])
        observation, reward, cost, terminated, truncated, info = env.step(action)
        expected, *rest, info_there = plain.step(action)
        assert [reward, terminated, truncated] == rest
        assert cost == info["cost_sum"] == info_there["cost"]
        spent += cost
        if terminated:
            (observation, info), (expected, info_there) = env.reset(), plain.reset()
    assert spent > 0.0


def test_the_cost_can_be_chosen_by_name_or_weighed() -> None:
    by_name = SafetyGymnasium(gym.make(ID), cost="tokens")
    weighed = SafetyGymnasium(gym.make(ID), cost={"tokens": 0.001, "calls": 2.0})
    for env in (by_name, weighed):
        env.reset(seed=2)
    action = int(by_name.action_space.sample(by_name.get_wrapper_attr("action_masks")().astype("int8")))
    _, _, tokens, _, _, info = by_name.step(action)
    assert tokens == info["cost_terms"]["tokens"]
    _, _, both, _, _, info = weighed.step(action)
    assert both == pytest.approx(0.001 * info["cost_terms"]["tokens"] + 2.0 * info["cost_terms"]["calls"])


def test_a_cost_that_does_not_exist_is_named_when_the_episode_starts() -> None:
    with pytest.raises(ConfigError, match="'money' is unknown; choose one of .*'tokens'"):
        SafetyGymnasium(gym.make(ID), cost="money").reset(seed=0)


@pytest.mark.parametrize("cost", [{}, {"tokens": -1.0}, {"tokens": float("nan")}])
def test_weights_that_make_no_sense_are_refused(cost: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cost"):
        SafetyGymnasium(gym.make(ID), cost=cost)


def test_a_wrapped_environment_is_rebuilt_from_json() -> None:
    env = SafetyGymnasium(gym.make(ID), cost={"tokens": 0.5})
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    again.reset(seed=0)
    assert len(again.step(0)) == 6

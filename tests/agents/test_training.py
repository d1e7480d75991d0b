"""The one call: environments of every kind, budgets in every form, and what is wrong by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import nextstep_envs  # noqa: F401
import registry
from nextstep_agents import TrainResult, train
from nextstep_agents.algorithms.ppo_lagrangian import PIDLagrangian
from nextstep_agents.policies.trained import MLPPolicy, TeamPolicy
from nextstep_envs.errors import ConfigError
from nextstep_envs.tabular import DagRetries, RetryStop, TeamPlanWork, TierRouting
from tests.agents.learning.worlds import Aim, Pair, Walk

SMALL: dict[str, Any] = {"total_steps": 64, "episodes": 16, "hidden": (8,), "quiet": True}


def small(env: Any, **changes: Any) -> TrainResult:
    return train(env, **{**SMALL, **changes})


@pytest.mark.parametrize(
    ("env", "outputs", "costs"),
    [
        ("NextStep/TierRouting-v0", 4, {"spend": 1.2}),
        (gym.make("NextStep/RetryStop-v0", d=2.0), 3, {"spend": 2.0}),
        (DagRetries(), 9, {"spend": 9.0, "leaks": 0.25}),
        ("NextStep/WebShop-DAG-v0", 62, {"mix": 0.4}),
        (RetryStop, 3, {"spend": 3.0}),
    ],
)
def test_it_trains_on_our_environments_within_their_budgets(env: Any, outputs: int, costs: dict[str, float]) -> None:
    result = small(env)
    assert result.history[-1]["steps"] >= 64 and len(result.history) >= 1
    assert result.settings.cost_limits == costs and result.multipliers.keys() == costs.keys()
    stage = result.problem.stage
    found = result.evaluate(episodes=20)
    assert np.isfinite(found["return"]) and found["costs"].shape == (len(stage.cost_names),)
    assert isinstance(result.policy, MLPPolicy) and result.policy.spaces.outputs == outputs
    result.close()


def test_a_policy_of_a_tabular_problem_is_evaluated_exactly() -> None:
    cmdp = TierRouting()
    result = small(cmdp, total_steps=12_000, episodes=64, algorithm="pid_lagrangian", seed=1)
    exact, start = cmdp.evaluate(result.policy), cmdp.evaluate(np.full((3, 4), 0.25))
    assert exact["return"] > start["return"] and exact["costs"][0] < 1.6 < start["costs"][0]
    assert abs(result.evaluate(2000)["return"] - exact["return"]) < 0.05


def test_it_trains_on_a_third_party_environment_without_costs() -> None:
    result = small("CartPole-v1", total_steps=12_000, episodes=None, learning_rate=3e-3)
    assert (result.multipliers, result.settings.cost_limits) == ({}, None)
    assert result.evaluate(20)["return"] > 1.5 * result.history[0]["return"]


def test_it_trains_on_a_third_party_environment_with_continuous_actions() -> None:
    class Effort(gym.Wrapper[Any, Any, Any, Any]):
        """Pendulum that counts the torque spent."""

        def step(self, action: Any) -> Any:
            assert action in self.action_space
            observation, reward, terminated, truncated, info = self.env.step(action)
            return observation, reward, terminated, truncated, {**info, "cost": float(abs(action[0]))}

    def make() -> gym.Env[Any, Any]:
        return Effort(gym.make("Pendulum-v1", max_episode_steps=30))

    result = small(make, cost_limits=[1.0], total_steps=600, episodes=8)
    assert result.settings.cost_limits == {"cost": 1.0} and result.history[0]["cost/cost"] > 1.0
    assert all(np.isfinite(value) for row in result.history for value in row.values())
    action = result.policy.act(make().reset(seed=0)[0])
    assert action.shape == (1,) and action.dtype == np.float32
    with pytest.raises(ConfigError, match="continuous"):
        result.policy.probabilities(np.zeros(3, np.float32))


def test_a_continuous_policy_finds_what_is_asked_of_it_within_its_budget() -> None:
    settings: dict[str, Any] = {"algorithm": "pid_lagrangian", "total_steps": 8_000, "learning_rate": 1e-2}
    free = small(Aim, episodes=64, cost_limits=[], **settings)
    assert free.evaluate(500)["return"] > -0.1  # always 0 would bring -1/3
    bound = small(Aim, episodes=64, cost_limits=[0.25], **settings)  # hitting every target costs 0.5
    found = bound.evaluate(2000)
    assert 0.7 * 0.25 < found["costs"][0] < 1.2 * 0.25 and bound.multipliers["cost"] > 0
    assert -1 / 3 < found["return"] < free.evaluate(500)["return"]


def test_a_team_learns_one_policy_for_each_agent() -> None:
    team = TeamPlanWork()
    result = small(team, total_steps=200)
    assert isinstance(result.policy, TeamPolicy) and list(result.policy) == ["planner_0", "worker_0"]
    assert result.settings.cost_limits == {"planner_0/spend": 0.9, "worker_0/spend": 1.6}
    exact = team.evaluate(result.policy)
    found = result.evaluate(3000)
    assert abs(found["return"] - exact["return"]) < 0.05
    np.testing.assert_allclose(found["costs"], exact["costs"], atol=0.1)
    observations, _ = team.reset(seed=0)
    assert set(result.policy.act(observations)) == {"planner_0", "worker_0"}


def test_macpo_takes_the_parallel_form_of_an_id() -> None:
    result = small("NextStep/TeamPlanWork-v0", algorithm="macpo", total_steps=100)
    assert list(result.multipliers) == ["planner_0/spend", "worker_0/spend"]
    assert list(small("NextStep/TeamPlanWork-v0", total_steps=100).multipliers) == ["planning", "work"]


def test_agents_may_differ_and_leave_early() -> None:
    result = small(Pair, cost_limits={"b": {"cost": 1.0}})
    assert isinstance(result.policy, TeamPolicy) and list(result.multipliers) == ["b/cost"]
    assert small(registry.make_parallel("NextStep/WebShop-Team-v0")).multipliers == {}


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (None, {"spend": 9.0, "leaks": 0.25}),
        ([3.0, 0.5], {"spend": 3.0, "leaks": 0.5}),
        ([3, np.inf], {"spend": 3.0}),
        ({"leaks": 0.5}, {"leaks": 0.5}),
        ([], {}),
        ({}, {}),
    ],
)
def test_budgets_come_in_every_form(limits: Any, kept: dict[str, float]) -> None:
    result = small(DagRetries(), cost_limits=limits)
    assert result.settings.cost_limits == kept and result.multipliers.keys() == kept.keys()
    assert small(TierRouting(), cost_limits=2).settings.cost_limits == {"spend": 2.0}


def test_a_chance_constraint_has_a_multiplier_of_its_own() -> None:
    result = small(DagRetries(), cost_limits={"spend": 9.0}, chance={"tolerance": 1.1})
    assert list(result.multipliers) == ["spend", "spend chance"] and result.settings.chance is not None
    assert result.settings.chance.tolerance == 1.1 and result.settings.chance.probability == 0.95
    assert 0 <= result.history[-1]["cost/spend chance"] <= 1
    assert result.history[-1]["limit/spend chance"] == pytest.approx(0.05)


def test_equal_seeds_give_equal_policies_and_other_seeds_others() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in small(TierRouting(), seed=seed).policy.actor.parameters()])

    first = weights(3)
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(weights(3), first) and not torch.equal(weights(4), first)


def test_the_global_state_of_the_process_is_left_alone() -> None:
    threads, before = torch.get_num_threads(), torch.get_rng_state()
    small(TierRouting(), threads=1 if threads > 1 else 2)
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), before)


def test_a_callback_sees_every_round_and_may_end_the_training() -> None:
    seen: list[int] = []

    def callback(steps: int, metrics: Any) -> bool:
        seen.append(steps)
        assert metrics["steps"] == steps
        return len(seen) < 2

    assert len(small(TierRouting(), callback=callback).history) == 2 and seen == [16, 32]


def test_metrics_of_ones_own_are_measured_on_every_round() -> None:
    cmdp = TierRouting()

    def measure(played: Any, policy: Any) -> dict[str, float]:
        large = float((played.batch.tokens == 3).double().mean())
        return {"large share": large, "exact return": cmdp.evaluate(policy)["return"]}

    result = small(cmdp, metrics=measure)
    assert all(0 <= row["large share"] <= 1 for row in result.history)
    assert result.history[-1]["exact return"] == cmdp.evaluate(result.policy)["return"]  # of the policy after the round


def test_settings_of_the_algorithm_and_the_networks_may_stand_alone_or_in_groups() -> None:
    flat = small(TierRouting(), algorithm="pid_lagrangian", clip=0.1, multiplier={"proportional": 0.5}, share=True)
    groups = {"pid_lagrangian": {"clip": 0.1, "multiplier": {"proportional": 0.5}}, "mlp": {"share": True}}
    for settings in (flat.settings, small(TierRouting(), algorithm="pid_lagrangian", **groups).settings):
        assert isinstance(settings.method, PIDLagrangian) and settings.mlp.share and settings.mlp.hidden == (8,)
        assert (settings.method.clip, settings.method.multiplier.proportional) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"policy": "tree"}, "policy='tree'.*'mlp', 'llm'"),
        ({"algorithm": "ppo2"}, "algorithm='ppo2'.*'ppo_lagrangian'"),
        ({"learning_rat": 1}, "learning_rat.*'learning_rate'"),
        ({"clip": 0.1, "ppo_lagrangian": PIDLagrangian()}, "clip.*ppo_lagrangian="),
        ({"total_steps": 0}, "total_steps=0"),
        ({"total_steps": 1.5}, "total_steps=1.5"),
        ({"hidden": (0,)}, r"hidden=\(0,\)"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"device": "cuda"}, "device='cuda'.*'cpu'"),
        ({"cost_limits": [1.0, 2.0]}, r"cost_limits=\[1.0, 2.0\].*spend"),
        ({"cost_limits": {"usd": 1.0}}, "cost_limits='usd'.*'spend'"),
        ({"cost_limits": -1.0}, "spend=-1.0"),
        ({"cost_limits": [], "chance": {"tolerance": 1.0}}, "chance=.*cost_limits"),
        ({"chance": {"toleranc": 1.0}}, "chance.toleranc.*'tolerance'"),
        ({"chance": {"probability": 2.0}}, "probability=2.0"),
        ({"evaluation": {"every": -1}}, "evaluation.every=-1"),
        ({"evaluation": {"tasks": 1}}, "evaluation.tasks.*'episodes'"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"resume": True}, "resume=True needs log_dir"),
        ({"env_kwargs": {"d": 1.0}}, "env_kwargs="),
        ({"demonstrator": len}, "demonstrator"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = {} if "resume" in changes else {"log_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match=match):
        small(TierRouting(), **folder, **changes)
    assert not list(tmp_path.iterdir())


def test_costs_that_an_environment_does_not_report_are_missed() -> None:
    with pytest.raises(ConfigError, match="'costs'.*wrapper"):
        small(lambda: Walk(key=""), cost_limits=[1.0])
    with pytest.raises(ConfigError, match="episodes=0"):
        small(TierRouting()).evaluate(0)


def test_in_a_discounted_problem_chance_constraints_make_no_sense() -> None:
    from nextstep_envs.tabular import TabularCMDP

    endless = TabularCMDP([[[1.0]]], [[1.0]], [[1.0]], [1.0], [5.0], gamma=0.9)
    with pytest.raises(ConfigError, match="discounts"):
        small(endless, chance={})
    result = small(endless, total_steps=1000)
    assert result.evaluate(10)["return"] == pytest.approx(10.0, rel=2e-3)  # 1 + .9 + .81 + ..., less the cut
    assert result.history[-1]["cost/cost"] == pytest.approx(10.0, rel=2e-3)

"""Trained policies act, say how likely, and survive a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import nextstep_envs  # noqa: F401
from nextstep_agents import load_policy
from nextstep_agents.evaluation.play import play
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_agents.policies.trained import WEIGHTS, MLPPolicy, TeamPolicy, load, make_policy
from nextstep_envs.errors import ConfigError, DataError
from nextstep_envs.tabular import DagRetries, TeamPlanWork

FLAT = spaces.Box(-np.inf, np.inf, (3,), np.float32)
NESTED = spaces.Dict(place=spaces.Discrete(3), speed=spaces.Box(-1, 1, (2,), np.float32))


def actor_of(*agents: AgentSpaces, **settings: Any) -> Actor:
    generator = torch.Generator().manual_seed(0)
    actor = Actor(agents, MLPSettings(hidden=(8,), **settings), generator)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return actor


def policy_for(observation: Any, action: Any, **settings: Any) -> MLPPolicy:
    return MLPPolicy(actor_of(AgentSpaces(observation, action), **settings))


def dag_policy() -> tuple[DagRetries, MLPPolicy]:
    cmdp = DagRetries()
    return cmdp, policy_for(cmdp.observation_space, cmdp.action_space)


def test_probabilities_are_a_distribution_over_legal_actions() -> None:
    cmdp, policy = dag_policy()
    for state in range(cmdp.n_states):
        found = policy.probabilities(cmdp.observation(state))
        assert found.dtype == np.float64 and found.shape == (9,) and abs(found.sum() - 1) < 1e-12
        assert (found[~cmdp.mask[state]] == 0).all() and (found[cmdp.mask[state]] > 0).all()
    assert np.isfinite(cmdp.evaluate(policy)["return"])


def test_actions_come_as_often_as_their_probability_says() -> None:
    cmdp, policy = dag_policy()
    seen = cmdp.observation(0)
    counts = np.bincount([policy.act(seen) for _ in range(3000)], minlength=9) / 3000
    np.testing.assert_allclose(counts, policy.probabilities(seen), atol=0.04)
    best = int(policy.probabilities(seen).argmax())
    assert policy.act(seen, deterministic=True) == best and policy.predict(seen) == (best, None)


def test_equal_seeds_draw_equal_actions() -> None:
    cmdp, policy = dag_policy()
    torch.manual_seed(1)

    def actions(one: MLPPolicy) -> list[int]:
        return [one.act(cmdp.observation(0)) for _ in range(30)]

    first, later = actions(policy), actions(policy)
    policy.seed(0)
    assert actions(policy) == first != later
    assert actions(MLPPolicy(policy.actor, seed=1)) != first


@pytest.mark.parametrize("observation", [FLAT, NESTED, spaces.Discrete(3), DagRetries().observation_space], ids=str)
@pytest.mark.parametrize("action", [spaces.Discrete(9, start=2), spaces.Box(-3, 5, (2,), np.float32)], ids=str)
def test_a_batch_of_observations_is_as_good_as_one_after_the_other(observation: Any, action: Any) -> None:
    policy = policy_for(observation, action)
    batched = gym.vector.utils.batch_space(observation, 5)
    batched.seed(1)
    several = batched.sample()
    singles = list(gym.vector.utils.iterate(batched, several))
    if policy.spaces.masked:
        several["action_mask"][:, 0] = 1  # something must be legal
        singles = [{name: value[i] for name, value in several.items()} for i in range(5)]
    together = policy.act(several, deterministic=True)
    assert len(together) == 5
    for single, chosen in zip(singles, together, strict=True):
        np.testing.assert_allclose(policy.act(single, deterministic=True), chosen, rtol=1e-5)
        assert policy.act(single) in action
    if policy.spaces.discrete:
        assert policy.probabilities(several).shape == (5, 9)


def test_continuous_actions_have_no_probabilities() -> None:
    policy = policy_for(FLAT, spaces.Box(-1, 1, (2,), np.float32))
    with pytest.raises(ConfigError, match="continuous"):
        policy.probabilities(np.zeros(3, np.float32))


@pytest.mark.parametrize("action", [spaces.Discrete(3), spaces.Box(-3, 5, (2,), np.float32)], ids=str)
@pytest.mark.parametrize("observation", [FLAT, NESTED], ids=str)
def test_a_saved_policy_is_the_same_policy(tmp_path: Path, observation: Any, action: Any) -> None:
    policy = policy_for(observation, action, normalise=True)
    policy.actor.normalisers[0].update(torch.randn(50, policy.spaces.size))
    again = load_policy(policy.save(tmp_path / "policy"))
    assert (
        isinstance(again, MLPPolicy) and again.spaces == policy.spaces and again.actor.settings == policy.actor.settings
    )
    observation.seed(0)
    for _ in range(10):
        seen = observation.sample()
        np.testing.assert_array_equal(again.act(seen), policy.act(seen))
    assert {file.suffix for file in (tmp_path / "policy").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("share", [False, True])
def test_a_team_has_a_policy_for_each_agent_and_survives_a_folder(tmp_path: Path, share: bool) -> None:
    team = TeamPlanWork()
    agents = [AgentSpaces(team.observation_space(a), team.action_space(a)) for a in team.possible_agents]
    policy = make_policy(actor_of(*agents, share=share), tuple(team.possible_agents))
    assert isinstance(policy, TeamPolicy) and list(policy) == team.possible_agents and len(policy) == 2
    exact = team.evaluate(policy)
    again = load(policy.save(tmp_path))
    assert isinstance(again, TeamPolicy) and team.evaluate(again)["return"] == exact["return"]
    observations, _ = team.reset(seed=0)
    assert again.act(observations) == policy.act(observations)
    assert again.predict(observations)[0] == policy.act(observations, deterministic=True)
    assert policy.act({"worker_0": observations["worker_0"]}).keys() == {"worker_0"}
    worker = load(policy["worker_0"].save(tmp_path / "worker"))
    assert isinstance(worker, MLPPolicy)
    seen = team.observation(2)
    np.testing.assert_array_equal(worker.probabilities(seen), policy["worker_0"].probabilities(seen))
    assert not np.array_equal(worker.probabilities(seen), policy["planner_0"].probabilities(seen))


def test_the_only_agent_has_a_policy_of_its_own() -> None:
    assert isinstance(make_policy(actor_of(AgentSpaces(FLAT, spaces.Discrete(2))), ("",)), MLPPolicy)


def test_what_is_no_saved_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy.json is missing"):
        load_policy(tmp_path)
    policy_for(FLAT, spaces.Discrete(2)).save(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(DataError, match=WEIGHTS):
        load(tmp_path)
    policy_for(FLAT, spaces.Discrete(2)).save(tmp_path / "a")
    policy_for(FLAT, spaces.Discrete(3)).save(tmp_path / "b")
    (tmp_path / "b" / WEIGHTS).write_bytes((tmp_path / "a" / WEIGHTS).read_bytes())
    with pytest.raises(DataError, match="not whole"):
        load(tmp_path / "b")
    (tmp_path / "a" / "policy.json").write_text('{"policy": "tree"}')
    with pytest.raises(ConfigError, match="'tree'"):
        load_policy(tmp_path / "a")


def test_it_plays_where_other_policies_play() -> None:
    env = gym.make("NextStep/WebShop-Workflow-v0", split="dev")
    policy = policy_for(env.observation_space, env.action_space)
    scores = play(policy, env, list(env.unwrapped.setup.world.ids("dev"))[:2], 1)  # type: ignore[attr-defined]
    assert scores.reward.shape == (2, 1) and np.isfinite(scores.reward).all()


def test_stable_baselines_evaluates_it() -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    envs = vec_env.DummyVecEnv([lambda: gym.make("NextStep/RetryStop-v0")] * 3)
    envs.seed(0)
    cmdp = gym.make("NextStep/RetryStop-v0").unwrapped
    policy = policy_for(cmdp.observation_space, cmdp.action_space)
    with pytest.warns(UserWarning, match="Monitor"):
        mean, _ = evaluation.evaluate_policy(policy, envs, n_eval_episodes=600, deterministic=False)
    assert abs(mean - cmdp.evaluate(policy)["return"]) < 0.08  # type: ignore[attr-defined]

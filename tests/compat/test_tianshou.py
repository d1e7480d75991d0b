"""Tianshou learns with the mask under its own names, and runs on every id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from wrappers.interfaces import TianshouObservation

torch = library("torch", "agents")
tianshou = library("tianshou", "compat")
data = library("tianshou.data", "compat")
dqn = library("tianshou.algorithm.modelfree.dqn", "compat")
ppo = library("tianshou.algorithm.modelfree.ppo", "compat")
reinforce = library("tianshou.algorithm.modelfree.reinforce", "compat")
optim = library("tianshou.algorithm.optim", "compat")
trainer = library("tianshou.trainer", "compat")
common = library("tianshou.utils.net.common", "compat")
venvs = library("tianshou.env", "compat")

N, TOTAL, BATCH = 32, 20_480, 1024


class Actor(torch.nn.Module):
    """Logits of the legal actions: Tianshou's PPO has no masks of its own."""

    def __init__(self, n_features: int, n_actions: int) -> None:
        super().__init__()
        self.net = network(n_features, n_actions)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Any, Any]:
        return self.net(torch.as_tensor(obs.obs)).masked_fill(~torch.as_tensor(obs.mask), -1e9), state


class Critic(torch.nn.Module):
    """The value of an observation."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.net = network(n_features, 1)

    def forward(self, obs: Any) -> Any:
        return self.net(torch.as_tensor(obs.obs))


def network(n_in: int, n_out: int) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(n_in, 64), torch.nn.Tanh(), torch.nn.Linear(64, n_out))


def falling(rate: float, steps: int, steps_per_update: int) -> Any:
    """Adam with a learning rate that falls to zero."""
    schedule = optim.LRSchedulerFactoryLinear(1, steps, steps_per_update)
    return optim.AdamOptimizerFactory(lr=rate).with_lr_scheduler_factory(schedule)


def collector(algorithm: Any, make: Callable[[], gym.Env[Any, Any]], n: int, size: int) -> Any:
    many = venvs.DummyVectorEnv([make] * n)
    many.seed(0)
    return data.Collector(algorithm, many, data.VectorReplayBuffer(size, n), exploration_noise=True)


def make_ppo(env: gym.Env[Any, Any], steps: int, batch: int) -> Any:
    features, n_actions = env.observation_space["obs"].shape[0], env.action_space.n
    policy = reinforce.DiscreteActorPolicy(actor=Actor(features, n_actions), action_space=env.action_space)
    optimizer = falling(1e-2, steps, batch)
    return ppo.PPO(policy=policy, critic=Critic(features), optim=optimizer, gamma=1.0, ent_coef=0.0)


def make_dqn(env: gym.Env[Any, Any], steps: int, steps_per_update: int) -> Any:
    model = common.Net(
        state_shape=env.observation_space["obs"].shape, action_shape=env.action_space.n, hidden_sizes=[64]
    )
    policy = dqn.DiscreteQLearningPolicy(model=model, action_space=env.action_space, eps_training=0.8)
    return dqn.DQN(policy=policy, optim=falling(1e-2, steps, steps_per_update), gamma=1.0)


def make_tier_routing() -> gym.Env[Any, Any]:
    return TianshouObservation(tier_routing.make())


def states() -> Any:
    """The observations of all states in Tianshou's form."""
    seen = tier_routing.observations()
    return data.Batch(obs=data.Batch(obs=seen["observation"], mask=seen["action_mask"].astype(bool)), info=data.Batch())


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tianshou draws its actions from the global generators."""
    np.random.seed(0)
    torch.manual_seed(0)


def test_ppo_learns_nearly_the_optimum() -> None:
    algorithm = make_ppo(make_tier_routing(), TOTAL, BATCH)
    algorithm.run_training(
        trainer.OnPolicyTrainerParams(
            training_collector=collector(algorithm, make_tier_routing, N, 2 * BATCH),
            max_epochs=1,
            epoch_num_steps=TOTAL,
            collection_step_num_env_steps=BATCH,
            batch_size=256,
            update_step_num_repetitions=4,
            show_progress=False,
            verbose=False,
        )
    )
    with torch.no_grad():
        table = algorithm.policy(states()).dist.probs.numpy()
    tier_routing.assert_learned(table, "Tianshou PPO")


def test_dqn_learns_nearly_the_optimum() -> None:
    algorithm = make_dqn(make_tier_routing(), TOTAL, N)
    algorithm.run_training(
        trainer.OffPolicyTrainerParams(
            training_collector=collector(algorithm, make_tier_routing, N, 30_000),
            max_epochs=1,
            epoch_num_steps=TOTAL,
            collection_step_num_env_steps=256,
            batch_size=512,
            update_step_num_gradient_steps_per_sample=1 / N,
            show_progress=False,
            verbose=False,
        )
    )
    tier_routing.assert_learned(tier_routing.one_hot(algorithm.policy(states()).act), "Tianshou DQN")


@pytest.mark.parametrize("env_id", ORCHESTRATION)
@pytest.mark.parametrize("make_algorithm", [make_ppo, make_dqn])
def test_it_only_takes_legal_actions(env_id: str, make_algorithm: Callable[..., Any]) -> None:
    def make() -> gym.Env[Any, Any]:
        return TianshouObservation(gym.make(env_id))

    algorithm = make_algorithm(make(), STEPS, STEPS)
    collecting = collector(algorithm, make, 2, STEPS)
    collecting.reset()
    with torch.no_grad():
        collecting.collect(n_step=STEPS)
    steps, _ = collecting.buffer.sample(0)
    assert len(steps) == STEPS
    assert steps.obs.mask[np.arange(STEPS), steps.act].all()
    batch_size = STEPS // 2
    with tianshou.algorithm.algorithm_base.policy_within_training_step(algorithm.policy):
        if make_algorithm is make_ppo:
            algorithm.update(collecting.buffer, batch_size, 1)
        else:
            algorithm.update(collecting.buffer, batch_size)
    assert all(torch.isfinite(weights).all() for weights in algorithm.policy.parameters())

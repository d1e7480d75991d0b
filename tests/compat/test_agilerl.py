"""AgileRL learns on the batched vector environments with the mask of their infos, and runs on every id."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from wrappers import CostPenaltyVector

torch = library("torch", "agents")
library("agilerl", "compat-agilerl")
dqn = library("agilerl.algorithms.dqn", "compat-agilerl")
ppo = library("agilerl.algorithms.ppo", "compat-agilerl")
replay = library("agilerl.components.replay_buffer", "compat-agilerl")
off_policy = library("agilerl.training.train_off_policy", "compat-agilerl")
on_policy = library("agilerl.training.train_on_policy", "compat-agilerl")

# Its loss calls a function of tensordict whose default is about to change.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:tensordict")

TOTAL = 60_000


@pytest.fixture(autouse=True)
def seeded() -> None:
    """AgileRL draws from the global generators."""
    np.random.seed(0)
    torch.manual_seed(0)


def train_dqn(env: Any, steps: int, batch_size: int) -> Any:
    settings = {"lr": 1e-3, "learn_step": env.num_envs, "gamma": 1.0, "tau": 0.01}
    agent = dqn.DQN(env.single_observation_space, env.single_action_space, batch_size=batch_size, **settings)
    off_policy.train_off_policy(
        env,
        "NextStep",
        "DQN",
        [agent],
        replay.ReplayBuffer(max_size=steps),
        max_steps=steps,
        evo_steps=steps // 3,
        eval_steps=1,
        eps_end=0.5,
        eps_decay=0.99,
        learning_delay=batch_size,
        verbose=False,
    )
    return agent


def train_ppo(env: Any, steps: int, batch_size: int) -> Any:
    settings = {"lr": 3e-3, "learn_step": 4 * batch_size, "gamma": 1.0, "ent_coef": 0.0}
    spaces = env.single_observation_space, env.single_action_space
    agent = ppo.PPO(*spaces, batch_size=batch_size, num_envs=env.num_envs, **settings)
    on_policy.train_on_policy(
        env, "NextStep", "PPO", [agent], max_steps=steps, evo_steps=steps // 3, eval_steps=1, verbose=False
    )
    return agent


def test_dqn_learns_nearly_the_optimum() -> None:
    agent = train_dqn(tier_routing.make_vector(64), TOTAL, batch_size=512)
    observations = tier_routing.observations()
    actions = agent.get_action(observations, epsilon=0.0, action_mask=observations["action_mask"])
    tier_routing.assert_learned(tier_routing.one_hot(actions), "AgileRL DQN")


def test_ppo_learns_nearly_the_optimum() -> None:
    agent = train_ppo(tier_routing.make_vector(64), TOTAL, batch_size=512)
    observations = agent.preprocess_observation(tier_routing.observations())
    everywhere = [torch.full((tier_routing.N_STATES,), action) for action in range(tier_routing.N_ACTIONS)]
    with torch.no_grad():
        columns = [agent.evaluate_actions(observations, actions)[0].exp() for actions in everywhere]
    tier_routing.assert_learned(torch.stack(columns, -1).reshape(-1, tier_routing.N_ACTIONS).numpy(), "AgileRL PPO")


@pytest.mark.parametrize("env_id", [i for i in ORCHESTRATION if gym.spec(i).vector_entry_point])
@pytest.mark.parametrize("train", [train_dqn, train_ppo])
def test_it_only_takes_legal_actions(env_id: str, train: Any) -> None:
    class Watched(CostPenaltyVector):
        taken = illegal = 0

        def step(self, actions: Any) -> Any:
            masks = self.unwrapped.action_masks()  # type: ignore[attr-defined]
            Watched.taken += len(actions)
            Watched.illegal += int((~masks[np.arange(len(actions)), actions]).sum())
            return super().step(actions)

    agent = train(Watched(gym.make_vec(env_id, num_envs=4), weight=0.2), STEPS, batch_size=8)
    assert Watched.taken >= STEPS and Watched.illegal == 0
    assert all(torch.isfinite(weights).all() for weights in agent.actor.parameters())

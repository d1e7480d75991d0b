"""RLlib's PPO learns with RLlib's own action masks, and collects on every id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest

from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from wrappers.interfaces import RLlibObservation

torch = library("torch", "agents")
ray = library("ray", "compat-rllib")
ppo = library("ray.rllib.algorithms.ppo", "compat-rllib")
env_runner = library("ray.rllib.env.single_agent_env_runner", "compat-rllib")
masking = library("ray.rllib.examples.rl_modules.classes.action_masking_rlm", "compat-rllib")
model_config = library("ray.rllib.core.rl_module.default_model_config", "compat-rllib")
rl_module = library("ray.rllib.core.rl_module.rl_module", "compat-rllib")

# The masking module is RLlib's own example, and still builds on names that RLlib means to remove.
# Every runner registers its environment with Gymnasium under one and the same name.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:.*Overriding environment rllib-single-agent-env:UserWarning"),
]

BATCH, TOTAL = 1024, 20_480


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of one process on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it leaves a token in the home directory
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def config(make: Any, batch: int, steps: int, n_envs: int) -> Any:
    ray.tune.register_env("nextstep", lambda settings: RLlibObservation(make()))
    spec = rl_module.RLModuleSpec(
        module_class=masking.ActionMaskingTorchRLModule,
        model_config=model_config.DefaultModelConfig(fcnet_hiddens=[64], head_fcnet_hiddens=[]),
    )
    return (
        ppo.PPOConfig()
        .environment("nextstep")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=n_envs, rollout_fragment_length=batch // n_envs)
        .rl_module(rl_module_spec=spec)
        .debugging(seed=0)
        .training(
            lr=[[0, 1e-2], [steps, 2e-4]],
            train_batch_size_per_learner=batch,
            minibatch_size=batch // 4,
            num_epochs=4,
            gamma=1.0,
            entropy_coeff=0.0,
            use_kl_loss=False,
        )
    )


def test_it_learns_nearly_the_optimum(cluster: None) -> None:
    algorithm = config(tier_routing.make, BATCH, TOTAL, n_envs=32).build_algo()
    for _ in range(TOTAL // BATCH):
        algorithm.train()
    seen = tier_routing.observations()
    batch = {
        "action_mask": torch.as_tensor(seen["action_mask"]),
        "observations": torch.as_tensor(seen["observation"]),
    }
    with torch.no_grad():
        logits = algorithm.get_module().forward_inference({"obs": batch})["action_dist_inputs"]
    algorithm.stop()
    tier_routing.assert_learned(torch.softmax(logits, -1).numpy(), "RLlib PPO")


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_it_only_takes_legal_actions(env_id: str) -> None:
    runner = env_runner.SingleAgentEnvRunner(config=config(lambda: gym.make(env_id), STEPS, STEPS, n_envs=1))
    episodes = runner.sample(num_timesteps=STEPS, random_actions=False)
    assert sum(len(episode) for episode in episodes) == STEPS
    for episode in episodes:
        for t, action in enumerate(episode.get_actions()):
            assert episode.get_observations(t)["action_mask"][action] == 1
    runner.stop()

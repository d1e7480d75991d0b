"""TorchRL takes the ids by name, masks included, and learns; its PettingZoo wrapper takes the multi-agent ones."""

from __future__ import annotations

from typing import Any

import pytest

import registry
from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library
from wrappers.interfaces import TorchRLAEC, TorchRLParallel

torch = library("torch", "agents")
library("torchrl", "compat")
envs = library("torchrl.envs", "compat")
specs = library("torchrl.data", "compat")
collectors = library("torchrl.collectors", "compat")
modules = library("torchrl.modules", "compat")
objectives = library("torchrl.objectives", "compat")
value = library("torchrl.objectives.value", "compat")
nn = library("tensordict.nn", "compat")
td = library("tensordict", "compat")

PIPELINES = [entry.id for entry in registry.entries() if entry.aec_entry_point]
TEAMS = [entry.id for entry in registry.entries() if entry.parallel_entry_point]
BATCH, TOTAL = 1024, 20_480


def masked(env: Any) -> Any:
    """The mask as bool, and in TorchRL's own place: the action spec."""
    cast = envs.DTypeCastTransform(torch.int8, torch.bool, in_keys=["action_mask"])
    return envs.TransformedEnv(env, envs.Compose(cast, envs.ActionMask()))


def test_it_learns_nearly_the_optimum() -> None:
    torch.manual_seed(0)

    def make() -> Any:
        return masked(envs.GymWrapper(tier_routing.make(), categorical_action_encoding=True))

    actor = modules.ProbabilisticActor(
        nn.TensorDictModule(network(tier_routing.N_ACTIONS), in_keys=["observation"], out_keys=["logits"]),
        in_keys={"logits": "logits", "mask": "action_mask"},
        distribution_class=modules.MaskedCategorical,
        return_log_prob=True,
    )
    critic = modules.ValueOperator(network(1), in_keys=["observation"])
    loss = objectives.ClipPPOLoss(actor, critic, entropy_coeff=0.0, critic_coeff=0.5)
    advantage = value.GAE(gamma=1.0, lmbda=0.95, value_network=critic, average_gae=True)
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, TOTAL // BATCH)
    many = envs.SerialEnv(32, make)
    many.set_seed(0)
    collector = collectors.Collector(
        many, actor, frames_per_batch=BATCH, total_frames=TOTAL, auto_register_policy_transforms=False
    )
    for batch in collector:
        for _ in range(4):
            advantage(batch)
            rows = batch.reshape(-1)
            for chunk in rows[torch.randperm(len(rows))].split(512):
                terms = loss(chunk)
                optimizer.zero_grad()
                (terms["loss_objective"] + terms["loss_critic"]).backward()
                optimizer.step()
        falling.step()
    collector.shutdown()

    observations = {key: torch.as_tensor(rows) for key, rows in tier_routing.observations().items()}
    observations["action_mask"] = observations["action_mask"].bool()
    with torch.no_grad():
        policy = actor.get_dist(td.TensorDict(observations, [tier_routing.N_STATES]))
    tier_routing.assert_learned(policy.probs.numpy(), "TorchRL PPO")


def network(n_out: int) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(tier_routing.N_STATES, 64), torch.nn.Tanh(), torch.nn.Linear(64, n_out))


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_random_actions_are_legal_ones(env_id: str) -> None:
    env = envs.GymEnv(env_id, categorical_action_encoding=True)
    envs.check_env_specs(env)
    env = masked(env)
    env.set_seed(0)
    steps = env.rollout(STEPS, break_when_any_done=False)
    assert len(steps) == STEPS
    assert steps["action_mask"].gather(-1, steps["action"].unsqueeze(-1)).all()


def test_costs_are_read_from_the_info() -> None:
    env = envs.GymEnv("NextStep/WebShop-Workflow-v0", categorical_action_encoding=True, cost=["mix", "tokens"])
    spec = specs.Unbounded((2,), dtype=torch.float64)
    env.set_info_dict_reader(envs.default_info_dict_reader(["costs"], spec={"costs": spec}))
    env.set_seed(0)
    steps = env.rollout(STEPS, break_when_any_done=False)
    costs = steps["next", "costs"]
    assert costs.shape == (STEPS, 2) and (costs >= 0).all() and (costs.sum(0) > 0).all()


@pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using:UserWarning")
@pytest.mark.parametrize("env_id", TEAMS)
def test_its_pettingzoo_wrapper_runs_a_team(env_id: str) -> None:
    team = registry.make_parallel(env_id)
    assert_team_runs(TorchRLParallel(team), team.possible_agents)


@pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using:UserWarning")
@pytest.mark.parametrize("env_id", PIPELINES)
def test_its_pettingzoo_wrapper_runs_a_pipeline(env_id: str) -> None:
    pipeline = registry.make_aec(env_id)
    assert_team_runs(TorchRLAEC(pipeline), pipeline.possible_agents)


def assert_team_runs(team: Any, agents: list[str]) -> None:
    grouping = envs.MarlGroupMapType.ONE_GROUP_PER_AGENT
    env = envs.PettingZooWrapper(team, categorical_actions=True, group_map=grouping, use_mask=True)
    env.set_seed(0)
    steps = env.rollout(STEPS, break_when_any_done=False)
    assert len(steps) == STEPS
    for agent in agents:
        acts = steps[agent, "mask"].squeeze(-1)
        assert acts.any() and torch.isfinite(steps["next", agent, "reward"]).all()
        assert (steps["next", agent, "info", "costs"] >= 0).all()
        legal = steps[agent, "action_mask"].gather(-1, steps[agent, "action"].unsqueeze(-1)).squeeze(-1).squeeze(-1)
        assert legal[acts].all(), f"{agent} took an illegal action"

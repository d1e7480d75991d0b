"""PPO with action masks in a single file, in the manner of CleanRL: read it from top to bottom.

    python examples/cleanrl_ppo.py --env-id NextStep/WebShop-Workflow-v0 --total-steps 50000

One step of the vector environment is one decision in every episode, and all the workers they call are called together.
The reward is the outcome less `cost_weight` times the cost; outcome and cost are printed apart. Needs torch:
pip install 'nextstep-envs[agents]'.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import nextstep_envs  # noqa: F401  (registers the environments)
from wrappers import CostPenaltyVector, RecordCostVector


@dataclass(frozen=True)
class Args:
    """Settings; each is an option of the command line."""

    env_id: str = "NextStep/WebShop-Workflow-v0"
    cost_weight: float = 0.2  # price of one unit of cost
    seed: int = 0
    total_steps: int = 50_000  # decisions, over all episodes
    num_envs: int = 32  # episodes at a time
    num_steps: int = 32  # decisions of each between two updates
    learning_rate: float = 3e-3  # falls linearly to a fiftieth
    gamma: float = 1.0  # episodes are short, and what counts is their end
    gae_lambda: float = 0.95
    update_epochs: int = 4
    minibatch_size: int = 256
    clip: float = 0.2
    entropy_coefficient: float = 0.0
    value_coefficient: float = 0.5
    max_grad_norm: float = 0.5


class Agent(nn.Module):
    """Two small networks: which action, and how good is it here."""

    def __init__(self, n_features: int, n_actions: int) -> None:
        super().__init__()
        self.actor = network(n_features, n_actions, gain=0.01)
        self.critic = network(n_features, 1, gain=1.0)

    def policy(self, features: Tensor, mask: Tensor) -> Categorical:
        """The distribution over legal actions; an illegal one gets no probability, so no gradient either."""
        logits = self.actor(features).masked_fill(~mask, torch.finfo(torch.float32).min)
        return Categorical(logits=logits)

    def value(self, features: Tensor) -> Tensor:
        """What is still to be had, [batch]."""
        value: Tensor = self.critic(features).squeeze(-1)
        return value


def network(n_in: int, n_out: int, gain: float, width: int = 64) -> nn.Sequential:
    """Two hidden layers; a small last `gain` starts a policy near uniform."""
    layers = [nn.Linear(n_in, width), nn.Linear(width, width), nn.Linear(width, n_out)]
    for layer, scale in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def train(args: Args) -> Agent:
    """Train and return the agent, printing its progress."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    # Inside the penalty, RecordCostVector sees the plain outcome; it keeps return and cost of each episode.
    recorded = RecordCostVector(gym.make_vec(args.env_id, num_envs=args.num_envs))
    envs = CostPenaltyVector(recorded, weight=args.cost_weight)
    space, actions_space = envs.single_observation_space, envs.single_action_space
    assert isinstance(space, gym.spaces.Dict) and isinstance(actions_space, gym.spaces.Discrete)
    n_features, n_actions = int(np.prod(space["observation"].shape)), int(actions_space.n)
    agent = Agent(n_features, n_actions)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    # What is collected between two updates: [num_steps, num_envs, ...].
    shape = (args.num_steps, args.num_envs)
    features = torch.zeros(*shape, n_features)
    masks = torch.zeros(*shape, n_actions, dtype=torch.bool)
    actions = torch.zeros(shape, dtype=torch.long)
    log_probs, rewards, ends, values = (torch.zeros(shape) for _ in range(4))

    observation, _ = envs.reset(seed=args.seed)
    iterations = max(args.total_steps // (args.num_steps * args.num_envs), 1)
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = args.learning_rate * max(1.0 - iteration / iterations, 0.02)

        # Collect. With same-step autoreset every step is a decision: `observation` already belongs to the next episode
        # where one has ended, and nothing of the old one is needed, since episodes end by themselves. (Only a model
        # that cannot be reached truncates one; with live workers leave out those whose `final_info` has `mask_sample`.)
        returns, costs = [], []
        for step in range(args.num_steps):
            features[step] = torch.as_tensor(observation["observation"])
            masks[step] = torch.as_tensor(observation["action_mask"]).bool()
            with torch.no_grad():
                policy = agent.policy(features[step], masks[step])
                actions[step] = policy.sample()
                log_probs[step] = policy.log_prob(actions[step])
                values[step] = agent.value(features[step])
            observation, reward, terminated, truncated, infos = envs.step(actions[step].numpy())
            rewards[step] = torch.as_tensor(reward)
            ends[step] = torch.as_tensor(terminated | truncated)
            if "episode" in infos:
                ended = infos["_episode"]
                returns += infos["episode"]["r"][ended].tolist()
                costs += infos["episode"]["c"][ended].tolist()

        # Generalised advantage estimation; no value flows back from one episode into the one before it.
        with torch.no_grad():
            next_value = agent.value(torch.as_tensor(observation["observation"], dtype=torch.float32))
            advantages, advantage = torch.zeros(shape), torch.zeros(args.num_envs)
            for step in reversed(range(args.num_steps)):
                goes_on = 1.0 - ends[step]
                delta = rewards[step] + args.gamma * goes_on * next_value - values[step]
                advantage = delta + args.gamma * args.gae_lambda * goes_on * advantage
                advantages[step], next_value = advantage, values[step]
            targets = advantages + values

        # Update, on every decision `update_epochs` times.
        flat = [x.flatten(0, 1) for x in (features, masks, actions, log_probs, advantages, targets)]
        for _ in range(args.update_epochs):
            order = torch.as_tensor(rng.permutation(len(flat[0])))
            for rows in order.split(args.minibatch_size):
                loss = ppo_loss(agent, args, *(x[rows] for x in flat))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        if returns:
            steps = (iteration + 1) * args.num_steps * args.num_envs
            print(f"{steps:8d} decisions  outcome {np.mean(returns):.3f}  cost {np.mean(costs):.3f}")
    envs.close()
    return agent


def ppo_loss(
    agent: Agent,
    args: Args,
    features: Tensor,
    masks: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    targets: Tensor,
) -> Tensor:
    """PPO's clipped objective, the critic's error and the entropy bonus (arXiv 1707.06347, equations 7 and 9)."""
    policy = agent.policy(features, masks)
    ratio = (policy.log_prob(actions) - old_log_probs).exp()
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = 0.5 * (agent.value(features) - targets).square().mean()
    entropy = policy.entropy().mean()
    return policy_loss + args.value_coefficient * value_loss - args.entropy_coefficient * entropy


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Args):
        default = field.default
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    train(Args(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()

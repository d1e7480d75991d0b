"""REINFORCE: its gradient is the exact one, by enumeration, also where the policy decides when to stop."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from nextstep_agents.algorithms.critic_free import CriticFree, without_budgets
from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.algorithms.objectives import Objective, PolicyGradient
from nextstep_agents.algorithms.reinforce import PUPPETEER, Reinforce
from nextstep_agents.algorithms.types import Estimates
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError
from tests.agents.algorithms.hand import Table, batch_of, estimates_of

# Stop (token 0) or go on (token 1), at most twice; every choice brings something at once.
REWARDS = {(0,): [0.5], (1, 0): [0.2, 0.4], (1, 1): [0.2, 1.0]}
OFF = {"entropy": 0.0, "entropy_end": 0.0}


def exact_gradient(policy: Table) -> Tensor:
    logp = policy.logits.log_softmax(-1)
    total = torch.zeros(())
    for path, rewards in REWARDS.items():
        total = total + torch.stack([logp[k, a] for k, a in enumerate(path)]).sum().exp() * sum(rewards)
    return torch.autograd.grad(total, policy.logits)[0]


def expected_gradient(policy: Table, objective: Callable[[Batch], Objective], episodes: int) -> Tensor:
    """Of what an objective says about so many episodes, over everything that they could have been."""
    total = torch.zeros_like(policy.logits)
    for paths in product(REWARDS, repeat=episodes):
        batch = batch_of([[[a] for a in path] for path in paths], [REWARDS[path] for path in paths], [0] * episodes)
        batch = policy.old(batch)
        logp, entropy = policy.log_probs(batch)
        loss, _ = objective(batch).loss(batch, torch.arange(episodes), logp, entropy)
        total -= logp.sum().exp().detach() * torch.autograd.grad(loss, policy.logits)[0]
    return total / episodes


def of(algorithm: CriticFree) -> Callable[[Batch], Objective]:
    return lambda batch: algorithm.objective(batch, without_budgets(batch), algorithm.start(0))[0]


@pytest.mark.parametrize(
    ("algorithm", "episodes"),
    [
        (Reinforce(baseline="none", **OFF), 1),
        (Reinforce(baseline="mean", **OFF), 1),
        (Reinforce(baseline="mean", **OFF), 3),
        (GRPO(credit="episode", baseline="leave_one_out", scale="none", entropy=0.0, advantage_clip=None), 2),
        (GRPO(credit="decision", baseline="leave_one_out", scale="none", entropy=0.0, advantage_clip=None), 3),
    ],
)
def test_the_expected_gradient_is_exact_where_the_policy_decides_when_to_stop(
    algorithm: CriticFree, episodes: int
) -> None:
    policy = Table([[0.3, -0.2], [0.1, 0.5]])
    torch.testing.assert_close(expected_gradient(policy, of(algorithm), episodes), exact_gradient(policy))


def test_a_baseline_of_each_rewards_own_number_would_reward_going_on() -> None:
    """Comparing rewards one by one, instead of what was still to come, fails the test above."""

    def one_by_one(batch: Batch) -> Objective:
        taken = batch.decisions
        mean = (batch.rewards * taken).sum(0) / taken.sum(0).clamp(min=1)
        ahead = torch.where(taken, batch.rewards - mean, 0.0).flip(1).cumsum(1).flip(1)
        return PolicyGradient(ahead)

    policy = Table([[0.3, -0.2], [0.1, 0.5]])
    found, exact = expected_gradient(policy, one_by_one, 3) * 1.5, exact_gradient(policy)  # (n - 1) / n undone
    assert (found - exact).abs().max() > 0.02


def test_the_baseline_is_what_the_other_episodes_still_got() -> None:
    batch = batch_of([[[0], [0]], [[0], [0]], [[0]]], [[1.0, 2.0], [0.0, 5.0], [7.0]])
    objective = of(Reinforce())(batch)
    assert isinstance(objective, PolicyGradient)
    expected = torch.tensor([[3 - 6.0, 2 - 5.0], [5 - 5.0, 5 - 2.0], [7 - 4.0, 0.0]])
    torch.testing.assert_close(objective.advantage, expected)


def test_puppeteers_form_has_its_loss() -> None:
    """Sum of -log p times the return as it is, less the sum of the entropies."""
    policy = Table([[0.3, -0.2], [0.1, 0.5]])
    batch = policy.old(batch_of([[[0], [1]], [[1]]], [[1.0, -2.0], [0.5]]))
    algorithm = Reinforce(**PUPPETEER)
    for progress in (0.0, 1.0):
        before = estimates_of(batch, None, scale=4.0)
        estimates = Estimates(
            before.advantage, before.cost_advantage, before.excess, (), 1.0, progress, before.reward_scale
        )
        objective, _, _ = algorithm.objective(batch, estimates, algorithm.start(0))
        logp, entropy = policy.log_probs(batch)
        loss, _ = objective.loss(batch, torch.arange(2), logp, entropy)
        returns = torch.tensor([[-1.0, -2.0], [0.5, 0.0]])
        torch.testing.assert_close(loss, -(logp * returns).sum() - entropy.sum())


@pytest.mark.parametrize("bad", [{"baseline": "median"}, {"entropy_end": -1.0}])
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Reinforce(**bad)

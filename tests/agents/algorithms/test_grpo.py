"""GRPO: advantages by hand, gradients by enumeration, and the traps that have bitten others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nextstep_agents.algorithms.advantages import flat_rows, group_advantages
from nextstep_agents.algorithms.critic_free import without_budgets
from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.algorithms.losses import clipped_surrogate, k3, masked_log_ratio, mismatch
from nextstep_agents.algorithms.multipliers import PID
from nextstep_agents.algorithms.objectives import ClippedSurrogate
from nextstep_agents.algorithms.update import TrainingError, update
from nextstep_agents.batch import Batch
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_envs.errors import ConfigError
from tests.agents.algorithms.hand import batch_of, estimates_of
from tests.agents.rows import ragged_batch


class Table:
    """A policy with a free logit for every (group, token): log-probabilities that can be checked by hand."""

    def __init__(self, groups: int, vocabulary: int) -> None:
        self.logits = torch.nn.Parameter(torch.linspace(-1, 1, groups * vocabulary).view(groups, vocabulary))

    def log_probs(self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False) -> Any:
        logp = (self.logits[batch.group] / temperature).log_softmax(-1)
        picked = logp.gather(1, batch.tokens)
        entropy = -(logp.exp() * logp).sum(-1, keepdim=True).expand_as(picked)
        return torch.where(batch.action, picked, 0.0), torch.where(batch.action, entropy, 0.0)


def make(tokens: Any, rewards: Any, group: Any, policy: Table, weight: Any = None, action: Any = None) -> Batch:
    tokens, rewards = torch.tensor(tokens), torch.tensor(rewards)
    action = torch.ones_like(tokens, dtype=torch.bool) if action is None else torch.tensor(action)
    blank = torch.zeros(tokens.shape)
    batch = Batch(
        tokens, torch.where(action, 0, 0), action, blank, rewards[:, None], torch.zeros(len(tokens), 1, 0),
        torch.ones(len(tokens)) if weight is None else torch.tensor(weight), torch.tensor(group), {},
    )  # fmt: skip
    return replace(batch, logprobs=policy.log_probs(batch)[0].detach())


ONCE = {"epochs": 1, "minibatches": 1, "entropy": 0.0, "max_grad_norm": 1.0, "advantage_clip": None}


def objective_of(algorithm: GRPO, batch: Batch) -> ClippedSurrogate:
    return algorithm.objective(batch, without_budgets(batch), algorithm.start(0))[0]


def step(policy: Table, batch: Batch, micro_groups: int = 16, **settings: Any) -> torch.Tensor:
    """The gradient of one optimiser step."""
    algorithm = GRPO(**{**ONCE, **settings})
    optimiser = torch.optim.SGD([policy.logits], lr=0.0)
    objective = objective_of(algorithm, batch)
    update(policy, optimiser, objective, batch, algorithm, 1.0, 0, None, algorithm.keep(batch), micro_groups)
    return torch.zeros(policy.logits.shape) if policy.logits.grad is None else policy.logits.grad.clone()


def test_advantages_by_hand() -> None:
    returns, group, one = torch.tensor([1.0, 0.0, 0.5, 2.0, 2.0]), torch.tensor([4, 4, 4, 9, 9]), torch.ones(5)
    std = (0.5**2 * 2 / 3) ** 0.5
    expected = torch.tensor([0.5 / std, -0.5 / std, 0.0, 0.0, 0.0])
    torch.testing.assert_close(group_advantages(returns, group, one), expected, atol=1e-5, rtol=0)
    loo = group_advantages(returns, group, one, "leave_one_out", "none")
    torch.testing.assert_close(loo[:3], torch.tensor([0.75, -0.75, 0.0]))
    masked = group_advantages(returns, group, torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]), scale="none")
    torch.testing.assert_close(masked, torch.tensor([0.25, 0.0, -0.25, 0.0, 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_and_groups_of_one_give_exactly_zero(dtype: torch.dtype, baseline: str, scale: str) -> None:
    returns = torch.full((8,), 0.1, dtype=dtype)
    assert not group_advantages(returns, torch.zeros(8, dtype=torch.long), torch.ones(8), baseline, scale).any()
    assert not group_advantages(torch.rand(4), torch.arange(4), torch.ones(4), baseline, scale).any()


def test_flat_groups_are_flat_in_reward_and_in_cost() -> None:
    group, one = torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(6)
    returns, costs = torch.tensor([1.0, 1, 1, 1, 0, 1]), torch.tensor([[1.0], [1], [1], [2], [1], [1]])
    assert flat_rows(returns, costs, group, one).tolist() == [True, True, False, False, False, False]
    assert flat_rows(returns, costs, group, torch.tensor([1.0, 1, 1, 0, 1, 1])).tolist()[:4] == [True] * 4


def test_flat_groups_teach_nothing() -> None:
    policy = Table(3, 4)
    tokens = [[0, 1], [1, 2], [2, 3], [3, 0], [0, 0], [1, 1]]
    batch = make(tokens, [1.0, 0.0, 0.5, 0.5, 0.0, 1.0], [0, 0, 1, 1, 2, 2], policy)
    gradient = step(policy, batch)
    assert not gradient[1].any() and gradient[0].any()
    rows = torch.tensor([0, 1, 4, 5])
    torch.testing.assert_close(step(policy, batch.select(rows)), gradient)
    allflat = make(tokens, [0.5] * 6, [0, 0, 1, 1, 2, 2], policy)
    policy.logits.grad = None
    assert not step(policy, allflat).any()


@pytest.mark.parametrize("micro", [1, 2, 4, 8])
def test_the_gradient_does_not_depend_on_micro_batches(micro: int) -> None:
    policy = Table(8, 5)
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, (16, 6), generator=rng)
    action = torch.arange(6) < torch.randint(1, 7, (16, 1), generator=rng)  # ragged
    rewards = torch.rand(16, generator=rng)
    batch = make(tokens.tolist(), rewards.tolist(), [i // 2 for i in range(16)], policy, action=action.tolist())
    whole = step(policy, batch, micro_groups=8)
    torch.testing.assert_close(step(policy, batch, micro_groups=micro), whole)


def test_the_expected_gradient_is_the_exact_one() -> None:
    """On-policy, unscaled, leave-one-out: unbiased, so enumeration over all pairs gives the gradient of E[R]."""
    policy, rewards = Table(1, 3), torch.tensor([0.2, 1.0, 0.5])
    probabilities = policy.logits[0].softmax(0)
    exact = torch.autograd.grad((probabilities * rewards).sum(), policy.logits)[0]
    settings = {"baseline": "leave_one_out", "scale": "none", "max_grad_norm": 1e9}
    total = torch.zeros_like(exact)
    for a in range(3):
        for b in range(3):
            batch = make([[a], [b]], [rewards[a].item(), rewards[b].item()], [0, 0], policy)
            policy.logits.grad = None
            weight = (probabilities[a] * probabilities[b]).detach()
            total -= weight * step(policy, batch, **settings)
    torch.testing.assert_close(total, exact, atol=1e-6, rtol=1e-5)


def test_the_loss_matches_a_finite_difference() -> None:
    policy = Table(2, 4)
    batch = make([[0, 1], [2, 3], [1, 1], [0, 2]], [1.0, 0.0, 0.3, 0.9], [0, 0, 1, 1], policy)
    batch = replace(batch, logprobs=batch.logprobs + torch.tensor([[0.1, -0.3]]))
    objective = objective_of(GRPO(kl=0.1, entropy=0.01), batch)
    rows, reference = torch.arange(len(batch)), batch.logprobs - 0.2

    def loss() -> torch.Tensor:
        logp, entropy = policy.log_probs(batch)
        return objective.loss(batch, rows, logp, entropy, reference)[0]

    policy.logits.data = policy.logits.data.double()
    (gradient,) = torch.autograd.grad(loss(), policy.logits)
    for index in [(0, 0), (0, 3), (1, 2)]:
        values = []
        for shift in (1e-4, -1e-4):
            policy.logits.data[index] += shift
            values.append(loss().item())
            policy.logits.data[index] -= shift
        assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=1e-3)


def test_tokens_that_were_not_sampled_carry_no_loss() -> None:
    policy = Table(1, 4)
    action = [[True, False], [True, True]]
    batch = make([[0, 1], [2, 3]], [1.0, 0.0], [0, 0], policy, action=action)
    other = replace(batch, tokens=torch.tensor([[0, 2], [2, 3]]))
    torch.testing.assert_close(step(policy, batch), step(policy, other))


def test_overflow_at_masked_and_clipped_tokens_stays_finite() -> None:
    logp = torch.tensor([[200.0, 200.0, 0.0]], requires_grad=True)
    old, mask = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 1.0]])
    ratio = masked_log_ratio(logp, old, mask)
    loss = (clipped_surrogate(ratio, torch.ones(1, 3), 0.2, 0.2) * mask).sum() + (k3(ratio) * mask).sum()
    loss.backward()
    assert torch.isfinite(loss) and logp.grad is not None and torch.isfinite(logp.grad).all()
    assert logp.grad[0, 0] == 0


def test_missing_log_probabilities_are_neutral() -> None:
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    ratio = masked_log_ratio(logp, torch.tensor([[float("nan"), -2.0]]), torch.ones(1, 2))
    assert ratio.tolist() == [[0.0, 0.0]]
    ratio.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [[1.0, 1.0]]


def test_mismatch_by_hand() -> None:
    found = mismatch(torch.tensor([[0.0, 0.5]]), torch.ones(1, 2))
    ratio = torch.tensor(0.5).exp().item()
    assert found["ratio_max"] == pytest.approx(ratio) and found["ratio_mean"] == pytest.approx((1 + ratio) / 2)
    assert found["kl_sampler"] == pytest.approx((ratio - 1 - 0.5) / 2)
    assert found["effective_sample_share"] == pytest.approx((1 + ratio) ** 2 / (2 * (1 + ratio**2)))


def test_a_gradient_that_is_not_finite_stops_training() -> None:
    policy = Table(1, 2)
    batch = make([[0], [1]], [1.0, 0.0], [0, 0], policy)
    policy.logits.data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="learning rate"):
        step(policy, batch)


@pytest.mark.parametrize("bad", [{"group_size": 1}, {"baseline": "median"}, {"scale": "x"}, {"clip": -0.1}])
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(bad))}='?{next(iter(bad.values()))}"):
        GRPO(**bad)


@pytest.mark.parametrize("micro", [1, 2])
def test_a_language_models_gradient_does_not_depend_on_micro_batches(
    policy: LLMPolicy, messages: list[str], micro: int
) -> None:
    batch = ragged_batch(policy, messages)
    advantage = torch.linspace(-1, 1, len(batch))
    gradients = []
    for groups in (3, micro):
        optimiser = torch.optim.SGD(policy.model.parameters(), lr=0.0)
        algorithm = GRPO(epochs=1, max_grad_norm=1e9)
        objective = ClippedSurrogate(advantage[:, None].expand_as(batch.rewards), 0.2, 0.2)
        update(policy, optimiser, objective, batch, algorithm, 1.0, 0, micro_groups=groups)
        gradients.append([p.grad.clone() for p in policy.model.parameters() if p.grad is not None])
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-4)


def test_costs_are_priced_before_groups_are_compared() -> None:
    """A multiplier of 0.5, returns less costs within the group, no division by a spread."""
    batch = batch_of([[[0]], [[1]], [[0]], [[1]]], [[1.0], [0.0], [0.5], [0.5]], [0] * 4, [[1.0], [0.0], [0.0], [1.0]])
    algorithm = GRPO(multiplier=PID(proportional=0.0, integral=0.0, first=0.5))
    objective, _, _ = algorithm.objective(batch, estimates_of(batch), algorithm.start(1))
    torch.testing.assert_close(objective.advantage[:, 0], torch.tensor([0.25, -0.25, 0.25, -0.25]) / 1.5)


def test_a_decision_can_be_credited_with_what_came_after_it() -> None:
    batch = batch_of([[[0], [1]], [[0], [1]], [[1]]], [[1.0, 2.0], [0.0, 5.0], [4.0]], [0, 0, 0])
    found = {
        credit: objective_of(GRPO(credit=credit, scale="none", baseline="leave_one_out"), batch).advantage
        for credit in ("episode", "decision")
    }
    torch.testing.assert_close(found["episode"], torch.tensor([[-1.5, -1.5], [1.5, 1.5], [0.0, 0.0]]))
    torch.testing.assert_close(found["decision"], torch.tensor([[-1.5, -3.0], [1.5, 3.0], [0.0, 0.0]]))


@pytest.mark.parametrize(("high", "learns"), [(None, False), (0.28, True)])
def test_a_higher_clip_lets_good_answers_rise_further(high: float | None, learns: bool) -> None:
    batch = batch_of([[[0]], [[1]]], [[1.0], [0.0]], [0, 0])
    logp = torch.tensor([[1.25], [1.0]]).log().requires_grad_()  # against a sampler's probability of 1
    objective = objective_of(GRPO(clip=0.2, clip_high=high, entropy=0.0), batch)
    loss, sums = objective.loss(batch, torch.arange(2), logp, torch.zeros(2, 1))
    (gradient,) = torch.autograd.grad(loss, logp)
    assert bool(gradient[0, 0] != 0) is learns and gradient[1, 0] > 0
    assert float(sums["clip_share"]) == float(not learns)


def test_a_sequence_has_one_ratio_for_each_decision() -> None:
    """The geometric mean of its tokens' ratios (GSPO), clipped as one."""
    batch = batch_of([[[0, 1, 2], [0]], [[1], [2]]], [[0.0, 1.0], [0.0, 0.0]], [0, 0])
    logp = torch.tensor([[0.1, 0.2, 0.6, -0.1], [0.02, 0.0, 0.0, 0.0]])
    objective = objective_of(GRPO(sequence=True, scale="none", entropy=0.0), batch)
    loss, _ = objective.loss(batch, torch.arange(2), logp, torch.zeros(2, 4))
    first = 3 * 0.5 * min(torch.tensor(0.3).exp().item(), 1.2) + 0.5 * torch.tensor(-0.1).exp().item()
    second = -0.5 * (torch.tensor(0.02).exp().item() + 1)
    assert float(loss) == pytest.approx(-(first + second), rel=1e-5)


def test_no_further_step_once_the_policy_is_far_from_the_sampler() -> None:
    policy = Table(1, 4)
    batch = make([[0, 1], [2, 3]], [1.0, 0.0], [0, 0], policy)
    settings = GRPO(epochs=10, minibatches=1, target_kl=1e-3)
    optimiser = torch.optim.SGD([policy.logits], lr=1.0)
    found = update(policy, optimiser, objective_of(settings, batch), batch, settings, 1.0, 0)
    assert 1 <= found["optimiser_steps"] < 10

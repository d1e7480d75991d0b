"""Per-token losses: closed forms, and nothing overflows."""

from __future__ import annotations

import math

import pytest
import torch

from nextstep_agents.algorithms.losses import clipped, clipped_surrogate, k3, masked_log_ratio, mismatch


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "stopped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.6, True),
        (0.5, 2.0, -1.0, False),
        (0.5, -2.0, 1.4, True),
        (1.5, -2.0, 3.0, False),
    ],
)
def test_the_clipped_surrogate(ratio: float, advantage: float, loss: float, stopped: bool) -> None:
    log_ratio = torch.tensor(math.log(ratio), requires_grad=True)
    value = clipped_surrogate(log_ratio, torch.tensor(advantage), 0.3, 0.3)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert bool(clipped(log_ratio.detach(), torch.tensor(advantage), 0.3, 0.3)) is stopped
    assert (log_ratio.grad.item() == 0) is stopped


def test_a_log_ratio_of_200_stays_finite_and_a_masked_token_changes_nothing() -> None:
    logp = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    old = torch.tensor([-1.5, -201.0, -201.0, 199.0])  # plain; masked; far too likely; far too unlikely
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0])

    def gradient(masked_value: float) -> tuple[float, torch.Tensor]:
        new = logp.clone()
        new[1] = masked_value
        new.requires_grad_()
        ratio = masked_log_ratio(new, old, mask)
        loss = ((clipped_surrogate(ratio, advantage, 0.2, 0.2) + 0.1 * k3(ratio)) * mask).sum()
        loss.backward()
        return loss.item(), new.grad

    loss, grad = gradient(-1.0)
    assert math.isfinite(loss) and bool(torch.isfinite(grad).all())
    assert grad[1] == 0
    for value in (-500.0, float("inf"), float("nan")):
        again, other = gradient(value)
        assert again == loss and torch.equal(other[[0, 2, 3]], grad[[0, 2, 3]]) and other[1] == 0


def test_missing_log_probabilities_have_ratio_one_and_the_gradient_of_log_p() -> None:
    logp = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    ratio = masked_log_ratio(logp, torch.tensor([float("nan"), float("-inf"), -3.5]), torch.ones(3))
    torch.testing.assert_close(ratio.detach(), torch.tensor([0.0, 0.0, 0.5]))
    ratio.exp().sum().backward()
    torch.testing.assert_close(logp.grad, torch.tensor([1.0, 1.0, math.exp(0.5)]))


def test_k3_estimates_the_divergence_and_is_never_negative() -> None:
    q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    p = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    exact = (q * (q / p).log()).sum()
    assert float((q * k3((p / q).log())).sum()) == pytest.approx(float(exact), abs=1e-12)
    assert float(k3(torch.linspace(-5, 5, 101)).min()) >= 0


@pytest.mark.parametrize("length", [10, 100, 1000])
def test_a_constant_gap_is_measured_by_token_and_does_not_grow_with_length(length: int) -> None:
    log_ratio = torch.full((2, length), 0.012)
    mask = torch.ones(2, length)
    mask[1, length // 2 :] = 0
    log_ratio[1, length // 2 :] = 1e3  # masked
    metrics = mismatch(log_ratio, mask)
    ratio = math.exp(0.012)
    assert metrics["ratio_min"] == pytest.approx(ratio) == metrics["ratio_mean"] == metrics["ratio_max"]
    assert metrics["kl_sampler"] == pytest.approx(ratio - 1 - 0.012, rel=1e-4)
    assert metrics["effective_sample_share"] == pytest.approx(1)


def test_effective_sample_share_by_hand() -> None:
    metrics = mismatch(torch.tensor([[0.0, math.log(3.0)]]), torch.ones(1, 2))
    assert metrics["effective_sample_share"] == pytest.approx(16 / (2 * 10))

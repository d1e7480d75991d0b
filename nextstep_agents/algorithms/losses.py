"""Per-token losses and the diagnostics that go with them. Pure functions of tensors.

Masks come before `exp`: an overflow at a token that does not count would still turn gradients into NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOG_RATIO_BOUND = 20.0


def masked_log_ratio(logp: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """Log p/q of action tokens, bounded; 0 where `mask` is 0 or the sampler gave no log-probability (NaN, inf)."""
    usable = (mask > 0) & torch.isfinite(old)
    difference = torch.where(usable, logp, 0.0) - torch.where(usable, old, 0.0)
    neutral = torch.where((mask > 0) & ~usable, logp, 0.0)  # ratio 1, yet with the gradient of log p
    return difference.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND) + neutral - neutral.detach()


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    r"""PPO's loss per token, $-\min(r A, \mathrm{clip}(r, 1-low, 1+high) A)$ (arXiv 1707.06347, eq. 7)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def clipped(log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """Tokens whose gradient the clip removes, bool."""
    ratio = log_ratio.exp()
    return ((ratio > 1 + high) & (advantage > 0)) | ((ratio < 1 - low) & (advantage < 0))


def k2(log_ratio: Tensor) -> Tensor:
    r"""Half the squared log-ratio: biased as a value of KL(q, p), yet its gradient in q is that of the KL."""
    return log_ratio**2 / 2


def k3(log_ratio: Tensor) -> Tensor:
    r"""Estimate of KL(q, p) from samples of q: $r - 1 - \log r$ with $r = p/q$; never negative."""
    return log_ratio.exp() - 1 - log_ratio


def mismatch(log_ratio: Tensor, mask: Tensor) -> dict[str, float]:
    """How far the trained policy is from the sampler, over action tokens.

    Returns:
        ratio_min, ratio_mean, ratio_max, k3 KL, and the effective sample size as a share of the tokens.
    """
    ratio = log_ratio.detach()[mask > 0].exp().double()
    if not ratio.numel():
        return {}
    return {
        "ratio_min": ratio.min().item(),
        "ratio_mean": ratio.mean().item(),
        "ratio_max": ratio.max().item(),
        "kl_sampler": k3(log_ratio.detach()[mask > 0].double()).mean().item(),
        "effective_sample_share": (ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum())).item(),
    }

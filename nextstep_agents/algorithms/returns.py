"""Returns and advantages of padded episodes. Pure functions of tensors.

B episodes, K decisions (padded on the right), S signals: the reward, then every constrained cost.
"""

from __future__ import annotations

import torch
from torch import Tensor


def advantages(
    signals: Tensor, values: Tensor, last: Tensor, valid: Tensor, gamma: float | Tensor, lam: float | Tensor
) -> Tensor:
    r"""Generalised advantage estimation (arXiv 1506.02438, eq. 16), [B, K, S]; 0 at padding.

    $\hat A_t = \sum_l (\gamma\lambda)^l \delta_{t+l}$ with $\delta_t = r_t + \gamma V_{t+1} - V_t$.

    Args:
        signals: [B, K, S], 0 at padding.
        values: V of every decision, [B, K, S].
        last: V after the last decision, [B, S]: 0 where the episode ended by itself, a bootstrap where it was cut off.
        valid: bool [B, K]: decisions that were taken.
        gamma: discount, one or [S]. lam: lambda, one or [S].
    """
    kept = valid[..., None]
    following = torch.zeros_like(values)
    following[:, :-1] = torch.where(kept[:, 1:], values[:, 1:], 0.0)
    length = valid.sum(1)
    rows = (length > 0).nonzero()[:, 0]
    following[rows, length[rows] - 1] = last[rows]
    delta = torch.where(kept, signals + gamma * following - values, 0.0)
    found = torch.zeros_like(delta)
    running = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        running = delta[:, t] + gamma * lam * running
        found[:, t] = running
    return found


def to_go(signals: Tensor, gamma: float = 1.0) -> Tensor:
    r"""What is still to come at every decision, $\sum_{l \ge 0} \gamma^l r_{t+l}$, like `signals` [B, K, ...]."""
    if gamma == 1.0:
        return signals.flip(1).cumsum(1).flip(1)
    found = torch.zeros_like(signals)
    running = torch.zeros_like(signals[:, 0])
    for t in range(signals.shape[1] - 1, -1, -1):
        running = signals[:, t] + gamma * running
        found[:, t] = running
    return found


def standardise(values: Tensor, valid: Tensor, eps: float = 1e-8) -> Tensor:
    """Values less their mean over their standard deviation, both over `valid` (bool, like `values`); 0 elsewhere."""
    kept = values[valid]
    if kept.numel() < 2:
        return torch.zeros_like(values)
    return torch.where(valid, (values - kept.mean()) / (kept.std(correction=0) + eps), 0.0)

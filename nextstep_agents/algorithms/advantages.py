"""How returns of a group become advantages. Pure functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Per group, over rows of weight > 0: how many, their mean, population variance, and max - min; each [N].

    `index` [B] is the group of each row, 0...N-1.
    """

    index: Tensor
    count: Tensor
    mean: Tensor
    variance: Tensor
    spread: Tensor


def group_stats(values: Tensor, group: Tensor, weight: Tensor) -> GroupStats:
    """Statistics of `values` [B] within groups, in float64."""
    _, index = torch.unique(group, return_inverse=True)
    n, alive, values = int(index.max()) + 1, weight > 0, values.double()
    kept, where = values[alive], index[alive]
    zero = torch.zeros(n, dtype=torch.float64, device=values.device)
    count = zero.scatter_add(0, where, torch.ones_like(kept))
    mean = zero.scatter_add(0, where, kept) / count.clamp(min=1)
    variance = zero.scatter_add(0, where, (kept - mean[where]) ** 2) / count.clamp(min=1)
    high = zero.scatter_reduce(0, where, kept, "amax", include_self=False)
    low = zero.scatter_reduce(0, where, kept, "amin", include_self=False)
    return GroupStats(index, count, mean, variance, high - low)


def flat_rows(returns: Tensor, costs: Tensor, group: Tensor, weight: Tensor) -> Tensor:
    """Rows [B] of groups that teach nothing: equal in reward and in every cost [B, C], or fewer than two rows left.

    Found by max - min, because a rounded variance of equal numbers need not be zero.
    """
    signals = [returns, *costs.unbind(1)]
    stats = [group_stats(signal, group, weight) for signal in signals]
    varied = torch.stack([s.spread > 0 for s in stats]).any(0) & (stats[0].count >= 2)
    return ~varied[stats[0].index]


def group_advantages(
    returns: Tensor, group: Tensor, weight: Tensor, baseline: str = "mean", scale: str = "group", eps: float = 1e-6
) -> Tensor:
    r"""Advantage of each row within its group, [B]; exactly 0 in a group of equal returns and for weight 0.

    $A_i = (R_i - b_i) / s$, where the baseline $b_i$ is the group's mean ("mean") or the mean of the other rows
    ("leave_one_out"), and $s$ the population standard deviation of the group ("group"), of all rows about their
    group's mean ("batch"), or 1 ("none": Dr. GRPO, arXiv 2503.20783).
    """
    stats = group_stats(returns, group, weight)
    count = stats.count[stats.index]
    centred = returns.double() - stats.mean[stats.index]
    if baseline == "leave_one_out":  # R_i - mean of others = (R_i - mean of all) * n / (n - 1)
        centred = centred * count / (count - 1).clamp(min=1)
    if scale == "group":
        centred = centred / (stats.variance.sqrt()[stats.index] + eps)
    elif scale == "batch":
        pooled = (stats.variance * stats.count).sum() / stats.count.sum().clamp(min=1)
        centred = centred / (pooled.sqrt() + eps)
    used = (stats.spread > 0)[stats.index] & (count >= 2) & (weight > 0)
    return torch.where(used, centred, 0.0).to(torch.float32)

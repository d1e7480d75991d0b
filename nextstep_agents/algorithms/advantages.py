"""How returns of a group become advantages. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
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
    ("leave_one_out"), and $s$ as `group_scale` has it.
    """
    stats = group_stats(returns, group, weight)
    count = stats.count[stats.index]
    centred = returns.double() - stats.mean[stats.index]
    if baseline == "leave_one_out":  # R_i - mean of others = (R_i - mean of all) * n / (n - 1)
        centred = centred * count / (count - 1).clamp(min=1)
    used = (stats.spread > 0)[stats.index] & (count >= 2) & (weight > 0)
    return torch.where(used, centred / group_scale(stats, scale, eps), 0.0).to(torch.float32)


def group_scale(stats: GroupStats, scale: str, eps: float = 1e-6) -> Tensor:
    """What the advantages of each row are divided by, [B].

    The population standard deviation of its group ("group"), of all rows about their group's mean ("batch"), or 1
    ("none": Dr. GRPO, arXiv 2503.20783).
    """
    if scale == "group":
        return stats.variance.sqrt()[stats.index] + eps
    if scale == "batch":
        pooled = (stats.variance * stats.count).sum() / stats.count.sum().clamp(min=1)
        return (pooled.sqrt() + eps).expand(len(stats.index))
    return torch.ones_like(stats.mean[stats.index])


def against_peers(values: Tensor, valid: Tensor, keys: Sequence[Tensor], leave_one_out: bool = True) -> Tensor:
    r"""Each decision's value less the mean over its peers, [B, K]; 0 at padding.

    Peers are decisions with the same key. A key says only what was known before the decision was taken (its number, its
    group), so the baseline $b_i = \frac{1}{n-1} \sum_{j \ne i} v_j$ does not depend on the action, and the gradient
    stays unbiased even where the policy chooses how many decisions there are.

    Args:
        values: what was still to come at each decision, [B, K].
        valid: decisions that count, bool [B, K].
        keys: int64 [B, K] each; a decision that is alone under the first key is compared under the next one. Alone
            under all of them it keeps its value, or becomes 0 if the mean includes it.
        leave_one_out: False: the mean includes the decision itself, which shrinks every difference by (n - 1) / n.
    """
    kept = values[valid].double()
    found = kept if leave_one_out else torch.zeros_like(kept)
    alone = torch.ones_like(kept, dtype=torch.bool)
    for key in keys:
        _, index = torch.unique(key[valid], return_inverse=True)
        zero = kept.new_zeros(len(kept))
        count = zero.scatter_add(0, index, torch.ones_like(kept))[index]
        centred = kept - zero.scatter_add(0, index, kept)[index] / count
        if leave_one_out:
            centred = centred * count / (count - 1).clamp(min=1)
        found = torch.where(alone & (count > 1), centred, found)
        alone = alone & (count == 1)
    return torch.zeros_like(values).masked_scatter(valid, found.to(values.dtype))


def normalised(values: Tensor, mask: Tensor, floor: float = 1e-8) -> Tensor:
    """Values less their mean over their deviation, both over entries of positive mask; 0 elsewhere.

    The variance is at least `floor`, and equal values become exactly 0.
    """
    used = mask > 0
    kept = values[used].double()
    if not kept.numel() or bool(kept.max() == kept.min()):
        return torch.zeros_like(values)
    centred = (kept - kept.mean()) / kept.var(correction=0).clamp(min=floor).sqrt()
    return torch.zeros_like(values).masked_scatter(used, centred.to(values.dtype))

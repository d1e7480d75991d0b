"""Which tokens rows have in common: the split of a batch into group prefixes and row remainders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """N groups of at most G rows on an N x G grid.

    Attributes:
        prefix: int64 [N, P], right-padded; `prefix_lengths` [N].
        rest: int64 [N*G, S], right-padded: each slot's tokens after its group's prefix; `rest_lengths` [N*G].
        row: int64 [N*G]: the row in each slot. Smaller groups repeat a row, so that the grid is full.
        slot: int64 [B]: the slot of each row.
        start: int64 [N*G]: position of the first token of `rest`.
    """

    prefix: Tensor
    prefix_lengths: Tensor
    rest: Tensor
    rest_lengths: Tensor
    row: Tensor
    slot: Tensor
    start: Tensor


def lay_out(tokens: Tensor, lengths: Tensor, group: Tensor, limit: Tensor) -> Layout:
    """Split rows [B, T] into what their group has in common, at most `limit` [B] tokens, and the rest."""
    device = tokens.device
    _, group = torch.unique(group, return_inverse=True)
    n, counts = int(group.max()) + 1, torch.bincount(group)
    size = int(counts.max())

    order = torch.argsort(group, stable=True)
    rank = torch.arange(len(group), device=device) - (counts.cumsum(0) - counts)[group[order]]
    row = order[(counts.cumsum(0) - counts)].repeat_interleave(size)  # every slot starts as its group's first row
    row[group[order] * size + rank] = order
    slot = torch.empty_like(order)
    slot[order] = group[order] * size + rank

    first = row.view(n, size)[:, 0]
    columns = torch.arange(tokens.shape[1], device=device)
    same = (tokens == tokens[first][group]) & (columns < torch.minimum(lengths, limit)[:, None])
    common = same.long().cumprod(1).sum(1)
    shared = torch.full((n,), tokens.shape[1], device=device).scatter_reduce(0, group, common, "amin")

    start = shared.repeat_interleave(size)
    rest_lengths = lengths[row] - start
    index = start[:, None] + torch.arange(int(rest_lengths.max()), device=device)
    rest = tokens[row].gather(1, index.clamp(max=tokens.shape[1] - 1))
    return Layout(tokens[first][:, : int(shared.max())], shared, rest, rest_lengths, row, slot, start)

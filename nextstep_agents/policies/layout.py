"""Which tokens rows have in common: a batch as packed tokens, every group's prefix once, no padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """M packed tokens: the prefixes of N groups one after the other, then what follows them in each of B rows.

    Attention works on grids that point into the packed tokens: [N, P] for the prefixes and [N*G, S] for the rest, G
    slots for each group. What is beyond a length points to token 0 and must be masked.

    Attributes:
        tokens, positions: int64 [M].
        prefix: int64 [N, P], indices of packed tokens; `prefix_lengths` [N].
        rest: int64 [N*G, S], indices of packed tokens; `rest_lengths` [N*G].
        flat: int64 [M]: for each packed token its place in the concatenation of both grids, flattened.
        slot: int64 [B]: the slot of each row. Free slots of smaller groups repeat a row.
        start: int64 [N*G]: position of the first token of the rest.
        offset: int64 [B]: token t of row b, if beyond the prefix, is packed token `offset[b] + t`.
    """

    tokens: Tensor
    positions: Tensor
    prefix: Tensor
    prefix_lengths: Tensor
    rest: Tensor
    rest_lengths: Tensor
    flat: Tensor
    slot: Tensor
    start: Tensor
    offset: Tensor


def lay_out(tokens: Tensor, lengths: Tensor, group: Tensor, limit: Tensor) -> Layout:
    """Split rows [B, T] into what their group has in common, at most `limit` [B] tokens, and the rest."""
    row, slot, group = _slots(group)
    n, size = int(group.max()) + 1, len(row) // (int(group.max()) + 1)
    first = row.view(n, size)[:, 0]
    columns = torch.arange(tokens.shape[1], device=tokens.device)
    same = (tokens == tokens[first][group]) & (columns < torch.minimum(lengths, limit)[:, None])
    common = same.long().cumprod(1).sum(1)
    shared = torch.full_like(first, tokens.shape[1]).scatter_reduce(0, group, common, "amin")

    in_prefix = columns < shared[:, None]  # [N, T]
    in_rest = (columns >= shared[group][:, None]) & (columns < lengths[:, None])  # [B, T]
    rest_lengths = lengths - shared[group]
    total, width, depth = int(shared.sum()), int(shared.max()), int(rest_lengths.max())
    prefix_start = shared.cumsum(0) - shared
    rest_start = total + rest_lengths.cumsum(0) - rest_lengths

    prefix = _grid(prefix_start, shared, width)
    rest = _grid(rest_start[row], rest_lengths[row], depth)
    prefix_places = in_prefix[:, :width].flatten().nonzero()[:, 0]
    rest_places = (slot[:, None] * depth + columns - shared[group][:, None])[in_rest] + n * width
    return Layout(
        tokens=torch.cat([tokens[first][in_prefix], tokens[in_rest]]),
        positions=torch.cat([columns.expand(n, -1)[in_prefix], columns.expand(len(tokens), -1)[in_rest]]),
        prefix=prefix,
        prefix_lengths=shared,
        rest=rest,
        rest_lengths=rest_lengths[row],
        flat=torch.cat([prefix_places, rest_places]),
        slot=slot,
        start=shared.repeat_interleave(size),
        offset=rest_start - shared[group],
    )


def _slots(group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The row in each slot of an N x G grid, the slot of each row, and groups numbered from 0."""
    _, group = torch.unique(group, return_inverse=True)
    counts = torch.bincount(group)
    size, begins = int(counts.max()), counts.cumsum(0) - counts
    order = torch.argsort(group, stable=True)
    rank = torch.arange(len(group), device=group.device) - begins[group[order]]
    place = group[order] * size + rank
    row = order[begins].repeat_interleave(size)  # every slot begins as its group's first row
    row[place] = order
    slot = torch.empty_like(order)
    slot[order] = place
    return row, slot, group


def _grid(start: Tensor, lengths: Tensor, width: int) -> Tensor:
    """Indices start, start + 1, ... in each line, 0 beyond its length."""
    columns = torch.arange(width, device=start.device)
    return torch.where(columns < lengths[:, None], start[:, None] + columns, 0)

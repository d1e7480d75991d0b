"""Attention for rows that share a beginning: the prompt of a group is computed once, then read by all its rows.

Works with any Hugging Face decoder that calls the attention interface. A forward pass goes in two parts: the prefixes
of N groups (`PrefixPass`, which keeps their keys and values, gradient included), then the rest of N*G rows
(`RowPass`), whose queries see [prefix of their group | their own past].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from nextstep_envs.errors import ConfigError

NAME = "nextstep_shared_prefix"


class Pass(Protocol):
    """One part of a forward pass; owns the keys and values of all layers."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output [rows, heads, tokens, head size] of one layer."""
        ...


class PrefixPass:
    """The common prefixes, [N, P] right-padded. Causal order alone keeps padding out of every real token's sight."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Plain causal attention that remembers keys and values."""
        self.keys[layer], self.values[layer] = key, value
        grouped = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)


class RowPass:
    """The rows after their prefixes: N*G rows in group order, in one call or (with `capacity`) several.

    Args:
        prefix: the finished pass over the N prefixes.
        capacity: columns to keep for later calls (generation), or 0 for a single call (training).
    """

    def __init__(self, prefix: PrefixPass, capacity: int = 0) -> None:
        self.prefix, self.capacity = prefix, capacity
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.column = 0
        self.hidden: Tensor | None = None
        width = prefix.keys[0].shape[2] if prefix.keys else 0
        beyond = torch.arange(width, device=prefix.lengths.device) >= prefix.lengths[:, None]
        # No bias where every prefix is full: most batches of one task, and every single row.
        self.prefix_bias = _bias(beyond)[:, None, None, :] if bool(beyond.any()) else None

    def begin(self, column: int, visible: Tensor) -> None:
        """Announce the next call: its first column and which columns its tokens see, bool [rows, tokens, columns]."""
        self.column = column
        self.hidden = None if bool(visible.all()) else _bias(~visible)[:, None, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Softmax over prefix and own past together, from two separate products."""
        key, value = self._remember(layer, key, value)
        rows, heads, tokens, size = query.shape
        n, kv_heads, width, _ = self.prefix.keys[layer].shape
        each, repeat = rows // n, heads // kv_heads
        query = (query * scaling).view(rows, kv_heads, repeat, tokens, size)
        own = query @ key.unsqueeze(2).mT
        if self.hidden is not None:
            own = own + self.hidden
        if not width:
            return (own.softmax(-1) @ value.unsqueeze(2)).reshape(rows, heads, tokens, size)

        def by_group(x: Tensor) -> Tensor:  # [rows, kv, repeat, tokens, *] -> [N, kv, G*repeat*tokens, *]
            return x.view(n, each, kv_heads, repeat * tokens, -1).transpose(1, 2).reshape(n, kv_heads, -1, x.shape[-1])

        def by_row(x: Tensor) -> Tensor:  # and back
            x = x.view(n, kv_heads, each, repeat * tokens, -1).transpose(1, 2)
            return x.reshape(rows, kv_heads, repeat, tokens, x.shape[-1])

        shared = by_group(query) @ self.prefix.keys[layer].mT
        if self.prefix_bias is not None:
            shared = shared + self.prefix_bias
        with torch.no_grad():  # any common shift gives the same softmax
            top = torch.maximum(by_row(shared.amax(-1, keepdim=True)), own.amax(-1, keepdim=True))
            top_shared = by_group(top)
        shared, own = (shared - top_shared).exp(), (own - top).exp()
        total = by_row(shared.sum(-1, keepdim=True)) + own.sum(-1, keepdim=True)
        mixed = by_row(shared @ self.prefix.values[layer]) + own @ value.unsqueeze(2)
        return (mixed / total).view(rows, heads, tokens, size)

    def _remember(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if not self.capacity:
            return key, value
        if layer not in self.keys:
            shape = (*key.shape[:2], self.capacity, key.shape[3])
            self.keys[layer], self.values[layer] = key.new_zeros(shape), value.new_zeros(shape)
        end = self.column + key.shape[2]
        self.keys[layer][:, :, self.column : end] = key
        self.values[layer][:, :, self.column : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


def _bias(hidden: Tensor) -> Tensor:
    # A large finite number, not -inf: a padding query that sees nothing must not become NaN.
    return hidden.to(torch.float32) * -1e9


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    shared: Pass | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    unsupported = [name for name in ("sliding_window", "softcap", "s_aux") if options.get(name) is not None]
    if shared is None or unsupported or options.get("dropout"):
        reason = f"the model uses {', '.join(unsupported)}" if unsupported else "a pass is missing, or dropout is on"
        raise ConfigError(f"shared-prefix attention cannot run: {reason}; use share_prefix=False")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared.attend(module.layer_idx, query, key, value, scale).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


@contextmanager
def shared_prefix(model: PreTrainedModel) -> Iterator[None]:
    """Within it, `model(..., shared=PrefixPass | RowPass)` attends as described above."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual

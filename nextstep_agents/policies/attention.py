"""Attention for rows that share a beginning: the prompt of a group is computed once, then read by all its rows.

Works with any Hugging Face decoder that calls the attention interface. All other layers see packed tokens, [1, M]; the
softmax of a row runs over [the prefix of its group | its own past]. Gradients flow through both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from nextstep_agents.policies.layout import Layout
from nextstep_envs.errors import ConfigError

NAME = "nextstep_shared_prefix"


class SharedPrefix:
    """Keys and values of one batch, and who may see what.

    Args:
        layout: the batch.
        capacity: tokens that each row may grow by after the first call (generation); 0 for training.
    """

    def __init__(self, layout: Layout, capacity: int = 0) -> None:
        self.layout, self.capacity = layout, capacity
        self.prefix_keys: dict[int, Tensor] = {}
        self.prefix_values: dict[int, Tensor] = {}
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        width, depth = layout.prefix.shape[1], layout.rest.shape[1]
        columns = torch.arange(max(width, depth + capacity), device=layout.tokens.device)
        # None where nothing is hidden: prefixes of one length, single new tokens.
        self.prefix_bias = _bias(columns[:width] >= layout.prefix_lengths[:, None])
        self.own_bias = _bias(columns[:depth] > columns[:depth, None])
        hidden = (columns[: depth + capacity] >= layout.rest_lengths[:, None]) & (columns[: depth + capacity] < depth)
        self.past_bias = _bias(hidden)
        self.column = 0  # of the first new token; 0: the batch itself

    def grow(self) -> None:
        """From now on every call brings one new token for each slot, [N*G, 1]."""
        self.column = max(self.column + 1, self.layout.rest.shape[1])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention of one layer: [1, heads, M, size] for the batch itself, [N*G, heads, 1, size] for new tokens."""
        query = query * scaling
        if self.column:
            key, value = self._append(layer, key, value)
            bias = None if self.past_bias is None else self.past_bias[:, None, None, None, : key.shape[2]]
            return self._mix(layer, query, key, value, bias)
        layout = self.layout
        q, k, v = (x.transpose(1, 2).flatten(2)[0] for x in (query, key, value))  # [M, heads * size]

        def on(grid: Tensor, x: Tensor, heads: int) -> Tensor:  # -> [lines, heads, columns, size]
            return x.index_select(0, grid.flatten()).view(*grid.shape, heads, -1).transpose(1, 2)

        heads, kv_heads, size = query.shape[1], key.shape[1], query.shape[3]
        outputs = []
        if layout.prefix.shape[1]:
            prefix_key, prefix_value = on(layout.prefix, k, kv_heads), on(layout.prefix, v, kv_heads)
            self.prefix_keys[layer], self.prefix_values[layer] = prefix_key, prefix_value
            # Causal order alone keeps what is beyond a prefix out of every real token's sight.
            mixed = F.scaled_dot_product_attention(
                on(layout.prefix, q, heads),
                prefix_key,
                prefix_value,
                is_causal=True,
                scale=1.0,
                enable_gqa=heads != kv_heads,
            )
            outputs.append(mixed.transpose(1, 2).reshape(-1, heads * size))
        own_key, own_value = on(layout.rest, k, kv_heads), on(layout.rest, v, kv_heads)
        if self.capacity:
            self._append(layer, own_key, own_value)
        mixed = self._mix(layer, on(layout.rest, q, heads), own_key, own_value, self.own_bias)
        outputs.append(mixed.transpose(1, 2).reshape(-1, heads * size))
        packed = torch.cat(outputs).index_select(0, layout.flat)
        return packed.view(1, -1, heads, size).transpose(1, 2)

    def _mix(self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """One softmax over prefix and own past from two products: the prefix is read by all rows of its group."""
        rows, heads, tokens, size = query.shape
        kv_heads = key.shape[1]
        repeat = heads // kv_heads
        query = query.reshape(rows, kv_heads, repeat, tokens, size)
        own = query @ key.unsqueeze(2).mT
        if bias is not None:
            own = own + bias
        if layer not in self.prefix_keys:
            return (own.softmax(-1) @ value.unsqueeze(2)).reshape(rows, heads, tokens, size)
        groups = self.prefix_keys[layer].shape[0]
        each = rows // groups

        def by_group(x: Tensor) -> Tensor:  # [rows, kv, repeat, tokens, *] -> [N, kv, G * repeat * tokens, *]
            x = x.reshape(groups, each, kv_heads, repeat * tokens, -1).transpose(1, 2)
            return x.reshape(groups, kv_heads, each * repeat * tokens, -1)

        def by_row(x: Tensor) -> Tensor:  # and back
            x = x.reshape(groups, kv_heads, each, repeat * tokens, -1).transpose(1, 2)
            return x.reshape(rows, kv_heads, repeat, tokens, -1)

        shared = by_group(query) @ self.prefix_keys[layer].mT
        if self.prefix_bias is not None:
            shared = shared + self.prefix_bias[:, None, None, :]
        with torch.no_grad():  # any common shift gives the same softmax
            top = torch.maximum(by_row(shared.amax(-1, keepdim=True)), own.amax(-1, keepdim=True))
            top_shared = by_group(top)
        shared, own = (shared - top_shared).exp(), (own - top).exp()
        total = by_row(shared.sum(-1, keepdim=True)) + own.sum(-1, keepdim=True)
        mixed = by_row(shared @ self.prefix_values[layer]) + own @ value.unsqueeze(2)
        return (mixed / total).reshape(rows, heads, tokens, size)

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values from the current column on; returns all of them."""
        if layer not in self.keys:
            shape = (*key.shape[:2], self.layout.rest.shape[1] + self.capacity, key.shape[3])
            self.keys[layer], self.values[layer] = key.new_zeros(shape), value.new_zeros(shape)
        end = self.column + key.shape[2]
        self.keys[layer][:, :, self.column : end] = key
        self.values[layer][:, :, self.column : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


def _bias(hidden: Tensor) -> Tensor | None:
    # A large finite number, not -inf: a slot beyond its length may see nothing and must not become NaN.
    return hidden.to(torch.float32) * -1e9 if bool(hidden.any()) else None


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    shared: SharedPrefix | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    unsupported = [name for name in ("sliding_window", "softcap", "s_aux") if options.get(name) is not None]
    if shared is None or unsupported or options.get("dropout"):
        reason = f"the model uses {', '.join(unsupported)}" if unsupported else "no batch was given, or dropout is on"
        raise ConfigError(f"shared-prefix attention cannot run: {reason}; set share_prefix=False")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return shared.attend(layer, query, key, value, scale).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


@contextmanager
def shared_prefix(model: PreTrainedModel) -> Iterator[None]:
    """Within it, `model(..., shared=SharedPrefix(...))` attends as described above."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual

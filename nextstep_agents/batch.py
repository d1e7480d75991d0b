"""What an algorithm trains on: episodes as tensors, one row each.

B rows, T tokens (for an MLP a token is a decision), K decisions, C costs. A language model's row is a whole
conversation: the messages it was given and the tokens it sampled, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Episodes as tensors.

    Attributes:
        tokens: int64 [B, T]; padded on the right with anything, because padding is known by `action` and `inputs`
            and never by a token id.
        turn: int64 [B, T]: the decision a token belongs to, 0...K-1; -1 at padding.
        action: bool [B, T]: tokens that the policy sampled; only they carry loss.
        logprobs: float32 [B, T]: the sampler's log-probabilities of the action tokens (NaN where it gave none).
        rewards: float32 [B, K], 0 beyond an episode's end.
        costs: float64 [B, K, C] in raw units.
        weight: float32 [B]: 0 for a failed episode, which is not trained on.
        group: int64 [B]: rows of one task, pool and world.
        inputs: what only the policy reads, every tensor with B rows (a language model: `lengths` [B]).
    """

    tokens: Tensor
    turn: Tensor
    action: Tensor
    logprobs: Tensor
    rewards: Tensor
    costs: Tensor
    weight: Tensor
    group: Tensor
    inputs: Mapping[str, Tensor]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors, which `inputs` holds, rather than tokens."""
        return any(name.startswith("action.") for name in self.inputs)

    @property
    def returns(self) -> Tensor:
        """Undiscounted return of each row, [B]."""
        return self.rewards.sum(1)

    @property
    def mask(self) -> Tensor:
        """Float [B, T]: the weight of every action token, 0 elsewhere."""
        return self.action.to(self.weight.dtype) * self.weight[:, None]

    @property
    def decisions(self) -> Tensor:
        """Bool [B, K]: decisions that were taken in episodes that count."""
        turns = self.turn.max(1).values
        taken = torch.arange(self.rewards.shape[1], device=self.turn.device) <= turns[:, None]
        return taken & (self.weight > 0)[:, None]

    def select(self, rows: Tensor) -> Batch:
        """Some of the rows: an index or a boolean mask of length B."""
        tensors = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "inputs"}
        return Batch(**tensors, inputs={name: value[rows] for name, value in self.inputs.items()})

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        tensors = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "inputs"}
        return replace(self, **tensors, inputs={name: value.to(device) for name, value in self.inputs.items()})

"""Small batches by hand, and a policy with a free logit for every decision's number and token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.returns import to_go
from nextstep_agents.algorithms.types import Estimates
from nextstep_agents.batch import Batch


def batch_of(
    tokens: Sequence[Sequence[Sequence[int]]],
    rewards: Sequence[Sequence[float]],
    group: Sequence[int] | None = None,
    costs: Sequence[Sequence[float]] | None = None,
    weight: Sequence[float] | None = None,
) -> Batch:
    """Rows of decisions, each of one or more tokens; a reward and one cost for every decision; old ratio 1 unset."""
    n, width = len(tokens), max(sum(map(len, row)) for row in tokens)
    decisions = max(map(len, tokens))
    flat, turn = torch.zeros(n, width, dtype=torch.long), torch.full((n, width), -1)
    got, paid = torch.zeros(n, decisions), torch.zeros(n, decisions, 1, dtype=torch.float64)
    for row, taken in enumerate(tokens):
        words = [(k, token) for k, decision in enumerate(taken) for token in decision]
        flat[row, : len(words)] = torch.tensor([token for _, token in words])
        turn[row, : len(words)] = torch.tensor([k for k, _ in words])
        got[row, : len(taken)] = torch.tensor(rewards[row])
        if costs is not None:
            paid[row, : len(taken), 0] = torch.tensor(costs[row], dtype=torch.float64)
    return Batch(
        tokens=flat,
        turn=turn,
        action=turn >= 0,
        logprobs=torch.zeros(n, width),
        rewards=got,
        costs=paid,
        weight=torch.ones(n) if weight is None else torch.tensor(weight),
        group=torch.arange(n) if group is None else torch.tensor(group),
        inputs={},
    )


def estimates_of(batch: Batch, excess: float | None = 0.0, scale: float = 1.0) -> Estimates:
    """Returns to go, of the cost as well unless `excess` is None, in units of `scale`."""
    reward, cost = to_go(batch.rewards) / scale, to_go(batch.costs).float()
    excesses = np.zeros(0) if excess is None else np.array([excess])
    return Estimates(reward, cost[..., : len(excesses)], excesses, (0,) * len(excesses), 1.0, 0.0, scale)


class Table:
    """Log-probabilities that can be checked by hand: a softmax for every decision's number."""

    def __init__(self, logits: Any) -> None:
        self.logits = torch.tensor(logits, requires_grad=True)

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        every = (self.logits / temperature).log_softmax(-1)[batch.turn.clamp(min=0)]
        picked = every.gather(2, batch.tokens[..., None])[..., 0]
        entropy = -(every.exp() * every).sum(-1)
        return torch.where(batch.action, picked, 0.0), torch.where(batch.action, entropy, 0.0)

    def old(self, batch: Batch) -> Batch:
        """The batch as if this policy had sampled it."""
        return replace(batch, logprobs=self.log_probs(batch)[0].detach())

"""What an algorithm minimises in one round: sums over action tokens, so that a batch may be cut anywhere.

An objective holds the advantages of the whole batch, [B, K] by decision, and is asked for some of its rows. A token
carries the advantage of its decision (`Batch.turn`), so a plan of many tokens and a single choice are treated alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nextstep_agents.algorithms.losses import clipped, clipped_surrogate, k2, k3, masked_log_ratio
from nextstep_agents.batch import Batch


class Objective(Protocol):
    """What an update minimises."""

    @property
    def entropy(self) -> float:
        """Weight of the entropy bonus; 0 saves its gradient."""
        ...

    def loss(
        self, batch: Batch, rows: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and what is logged, both as sums over the action tokens of `batch`.

        Args:
            batch: rows `rows` of the batch that the objective was made for, perhaps without empty columns.
            rows: int64 [b].
            logp, entropy: of the policy, [b, T].
            reference: log-probabilities of the reference policy, [b, T], or None.
        """
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """An objective whose loss on some rows depends on all of them."""

    def at(self, batch: Batch, logp: Tensor) -> Objective:
        """The objective at a policy: log-probabilities [B, T] of the whole batch, before every optimiser step."""
        ...


def per_token(values: Tensor, batch: Batch) -> Tensor:
    """Values by decision [B, K] (or [B, K, C]) as values by token [B, T] (or [B, T, C]); anything at padding."""
    turn = batch.turn.clamp(min=0)
    if values.dim() == 2:
        return values.gather(1, turn)
    return values.gather(1, turn[..., None].expand(*turn.shape, values.shape[2]))


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of values times mask; what the mask hides cannot matter, NaN included."""
    return torch.where(mask > 0, values * mask, 0.0).sum()


@dataclass(frozen=True)
class ClippedSurrogate:
    r"""PPO's loss with an entropy bonus and a pull towards a reference policy (arXiv 1707.06347, eq. 7 and 9).

    $-\min(r A, \mathrm{clip}(r, 1 - low, 1 + high) A) + \beta\,\mathrm{KL}(\pi, \pi_{ref}) - \eta\,\mathrm{H}(\pi)$

    Attributes:
        advantage: [B, K], or by token [B, T].
        low, high: the clip range around 1.
        entropy: eta. kl: beta.
        by_token: whether the advantage is by token.
        estimator: of the KL: "k3", or "k2", whose gradient is unbiased.
        sequence: one ratio for each decision, the mean of its tokens' (GSPO, arXiv 2507.18071, eq. 7).
    """

    advantage: Tensor
    low: float
    high: float
    entropy: float = 0.0
    kl: float = 0.0
    sequence: bool = False
    by_token: bool = False
    estimator: str = "k3"

    def loss(
        self, batch: Batch, rows: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `Objective`."""
        mask = batch.mask
        ratio = masked_log_ratio(logp, batch.logprobs, mask)
        if self.sequence:
            ratio = decision_ratio(ratio, batch)
        advantage = self.advantage[rows]
        advantage = advantage[:, : mask.shape[1]] if self.by_token else per_token(advantage, batch)
        loss = clipped_surrogate(ratio, advantage, self.low, self.high)
        sums = {
            "clip_share": masked_sum(clipped(ratio, advantage, self.low, self.high).to(mask.dtype), mask),
            "entropy": masked_sum(entropy, mask),
        }
        if self.kl and reference is not None:
            distance = masked_log_ratio(reference, logp, mask)
            divergence = k2(distance) if self.estimator == "k2" else k3(distance)
            loss = loss + self.kl * divergence
            sums["kl_reference"] = masked_sum(divergence, mask)
        if self.entropy:
            loss = loss - self.entropy * entropy
        return masked_sum(loss, mask), {name: value.detach() for name, value in sums.items()}


@dataclass(frozen=True)
class PolicyGradient:
    r"""REINFORCE's loss, $-A \log \pi$, with an entropy bonus.

    Attributes:
        advantage: [B, K].
        entropy: weight of the bonus.
    """

    advantage: Tensor
    entropy: float = 0.0

    def loss(
        self, batch: Batch, rows: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `Objective`."""
        mask = batch.mask
        loss = -per_token(self.advantage[rows], batch) * logp
        if self.entropy:
            loss = loss - self.entropy * entropy
        return masked_sum(loss, mask), {"entropy": masked_sum(entropy, mask).detach()}


def decision_ratio(log_ratio: Tensor, batch: Batch) -> Tensor:
    """The mean log-ratio of the tokens of each decision, at each of its tokens, [B, T]."""
    turn, action = batch.turn.clamp(min=0), batch.action.to(log_ratio.dtype)
    zero = log_ratio.new_zeros(len(batch), batch.rewards.shape[1])
    count = zero.scatter_add(1, turn, action)
    mean = zero.scatter_add(1, turn, log_ratio * action) / count.clamp(min=1)
    return mean.gather(1, turn)

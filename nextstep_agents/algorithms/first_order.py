"""Algorithms that follow a gradient: what they share, and the optimiser steps on a batch of an actor's decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.losses import masked_log_ratio
from nextstep_agents.algorithms.objectives import Objective, WholeBatch, masked_sum
from nextstep_agents.algorithms.types import Actor, Estimates, Memory
from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError

DECISIONS = 512  # of an optimiser step


@dataclass(frozen=True, kw_only=True)
class FirstOrder(ABC):
    """Settings of every first-order algorithm.

    Attributes:
        epochs: passes over a round.
        minibatches: optimiser steps of a pass, by whole episodes; None: one for about `DECISIONS` decisions.
        target_kl: no further pass once the mean KL from the round's own policy exceeds this.
        entropy: weight of the entropy bonus in the first round; it falls linearly to a twentieth in the last. Without
            it a policy under a budget can end on the nearest deterministic one: what it never tries has no gradient.
            None: `choice_entropy` for choices, and 0 for continuous actions, whose entropy has no bound.
        max_grad_norm: gradients are scaled down to this norm.
    """

    choice_entropy: ClassVar[float] = 0.03
    epochs: int = 4
    minibatches: int | None = None
    target_kl: float = 0.03
    entropy: float | None = None
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")
        for name in ("target_kl", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be > 0")
        if self.entropy is not None and self.entropy < 0:
            raise ConfigError(f"entropy={self.entropy} must be >= 0")

    @abstractmethod
    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[Objective, Memory, dict[str, float]]:
        """What this round minimises, the memory after it, and metrics."""

    def improve(
        self,
        actor: Actor,
        optimiser: torch.optim.Optimizer,
        batch: Batch,
        estimates: Estimates,
        memory: Memory,
        seed: int,
    ) -> tuple[Memory, dict[str, float]]:
        """One objective for the round, then optimiser steps on it."""
        objective, memory, metrics = self.objective(batch, estimates, memory)
        metrics |= descend(actor, optimiser, batch, objective, self, seed)
        return memory, metrics

    def steps_per_pass(self, batch: Batch) -> int:
        """Optimiser steps of one pass over a batch."""
        if self.minibatches is not None:
            return self.minibatches
        return max(1, min(len(batch), round(int(batch.decisions.sum()) / DECISIONS)))

    def entropy_now(self, batch: Batch, estimates: Estimates) -> float:
        """Weight of the entropy bonus in this round."""
        return self.first_entropy(batch) * (1 - 0.95 * estimates.progress)

    def first_entropy(self, batch: Batch) -> float:
        """Weight of the entropy bonus in the first round."""
        if self.entropy is not None:
            return self.entropy
        return 0.0 if batch.continuous else self.choice_entropy


def in_proportion(advantage: Tensor, valid: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """The advantage over the largest smoothed deviation it has had, and the memory of that.

    Not over the deviation of the round: near its end a policy under a budget has little to gain, and noise scaled up to
    1 would outweigh the entropy bonus and drive it into a corner.

    Args:
        advantage: [B, K]. valid: bool [B, K].
        memory: holds "spread": the smoothed deviation and the largest one.
    """
    kept = advantage[valid]
    now = float(kept.std(correction=0)) if kept.numel() > 1 else 0.0
    before = memory.get("spread")
    smoothed = now if before is None else 0.9 * float(before[0]) + 0.1 * now
    largest = smoothed if before is None else max(float(before[1]), smoothed)
    return advantage / (largest or 1.0), {**memory, "spread": np.array([smoothed, largest])}


def descend(
    actor: Actor,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    objective: Objective,
    settings: FirstOrder,
    seed: int,
) -> dict[str, float]:
    """Optimiser steps on a batch; returns means over action tokens, those of the last step, and how many there were."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    everything = torch.arange(len(batch))
    count = settings.steps_per_pass(batch)
    metrics: dict[str, float] = {"optimiser_steps": 0.0}
    for _ in range(settings.epochs):
        parts = [everything] if count == 1 else torch.randperm(len(batch), generator=generator).chunk(count)
        for rows in parts:
            piece = batch if rows is everything else batch.select(rows)
            mask = piece.mask
            tokens = float(mask.sum())
            if tokens == 0:
                continue
            logp, entropy = actor.log_probs(piece, entropy_gradient=objective.entropy > 0)
            log_ratio = masked_log_ratio(logp.detach(), piece.logprobs, mask)
            kl = float(masked_sum(log_ratio.exp() - 1 - log_ratio, mask)) / tokens
            metrics["kl"] = kl
            if kl > settings.target_kl:
                return metrics
            if isinstance(objective, WholeBatch):
                with torch.no_grad():
                    objective = objective.at(batch, logp if rows is everything else actor.log_probs(batch)[0])
            loss, sums = objective.loss(piece, rows, logp, entropy)
            optimiser.zero_grad(set_to_none=True)
            (loss / tokens).backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            if not torch.isfinite(norm):
                raise TrainingError(f"the gradient norm is {float(norm)}; lower the learning rate or check the rewards")
            optimiser.step()
            metrics |= {name: float(value) / tokens for name, value in sums.items()}
            metrics |= {"loss": float(loss.detach()) / tokens, "grad_norm": float(norm)}
            metrics["optimiser_steps"] += 1
    return metrics

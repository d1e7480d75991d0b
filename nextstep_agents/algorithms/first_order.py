"""Algorithms that follow a gradient: what they share, and the optimiser steps on a batch of an actor's decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from nextstep_agents.algorithms.losses import masked_log_ratio
from nextstep_agents.algorithms.objectives import Objective, masked_sum
from nextstep_agents.algorithms.types import Actor, Estimates, Memory
from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FirstOrder(ABC):
    """Settings of every first-order algorithm.

    Attributes:
        epochs: passes over a round.
        minibatches: optimiser steps of a pass, by whole episodes.
        target_kl: no further pass once the mean KL from the round's own policy exceeds this.
        entropy: weight of the entropy bonus in the first round; it falls linearly to 0 in the last.
        max_grad_norm: gradients are scaled down to this norm.
    """

    epochs: int = 4
    minibatches: int = 1
    target_kl: float = 0.03
    entropy: float = 0.01
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("target_kl", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be > 0")
        if self.entropy < 0:
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

    def entropy_now(self, estimates: Estimates) -> float:
        """Weight of the entropy bonus in this round."""
        return self.entropy * (1 - estimates.progress)


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
    metrics: dict[str, float] = {"optimiser_steps": 0.0}
    for _ in range(settings.epochs):
        parts = (
            [everything]
            if settings.minibatches == 1
            else torch.randperm(len(batch), generator=generator).chunk(settings.minibatches)
        )
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

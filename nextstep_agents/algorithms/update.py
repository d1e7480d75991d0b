"""One or more optimiser steps on a batch. However an optimiser batch is cut, its gradient is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nextstep_agents.algorithms.losses import masked_log_ratio, mismatch
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, NextStepError


class TrainingError(NextStepError, RuntimeError):
    """Training cannot go on: a gradient is not finite, or too many samples failed."""


class Policy(Protocol):
    """What an update needs of a policy (language model or MLP)."""

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every action token, [B, T]."""
        ...


class Algorithm(Protocol):
    """What an update needs of an algorithm."""

    @property
    def entropy(self) -> float:
        """Weight of the entropy bonus."""
        ...

    def loss(
        self, batch: Batch, advantage: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sums over action tokens: the loss, and what is logged."""
        ...


@dataclass(frozen=True)
class UpdateSettings:
    """How a batch becomes optimiser steps.

    Attributes:
        epochs: passes over the batch.
        minibatches: optimiser batches a pass is cut into, by whole groups.
        micro_groups: groups per forward and backward pass, which bounds memory and changes nothing else.
        max_grad_norm: gradients are scaled down to this norm.
    """

    epochs: int = 1
    minibatches: int = 1
    micro_groups: int = 16
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches", "micro_groups", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be > 0")


def update(
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    algorithm: Algorithm,
    batch: Batch,
    advantage: Tensor,
    settings: UpdateSettings,
    temperature: float,
    seed: int,
    reference: Policy | None = None,
) -> dict[str, float]:
    """Train on `batch` and return the metrics, means over action tokens; an empty batch changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    log: dict[str, list[float]] = {}
    for _ in range(settings.epochs):
        for part in _minibatches(batch.group, settings.minibatches, generator):
            if float(batch.mask[part].sum()) > 0:
                metrics = _step(policy, optimiser, algorithm, batch, advantage, part, settings, temperature, reference)
                for name, value in metrics.items():
                    log.setdefault(name, []).append(value)
    pick: dict[str, Any] = {"ratio_min": min, "ratio_max": max, "effective_sample_share": min}
    return {name: float(pick.get(name, _mean)(values)) for name, values in log.items()} | {
        "optimiser_steps": float(len(log.get("loss", [])))
    }


def _step(
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    algorithm: Algorithm,
    batch: Batch,
    advantage: Tensor,
    part: Tensor,
    settings: UpdateSettings,
    temperature: float,
    reference: Policy | None,
) -> dict[str, float]:
    """One optimiser step on the rows `part`: the sum over all its micro-batches, divided once by all its tokens."""
    optimiser.zero_grad(set_to_none=True)
    tokens = batch.mask[part].sum()
    sums: dict[str, float] = {}
    ratios, masks = [], []
    for rows in _micro_batches(batch.group, part, settings.micro_groups):
        piece = trim(batch.select(rows))
        logp, entropy = policy.log_probs(piece, temperature, entropy_gradient=algorithm.entropy > 0)
        anchor = None
        if reference is not None:
            with torch.no_grad():
                anchor = reference.log_probs(piece, temperature)[0]
        loss, logged = algorithm.loss(piece, advantage[rows], logp, entropy, anchor)
        (loss / tokens).backward()
        for name, value in {"loss": loss.detach(), **logged}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        mask = piece.mask
        ratios.append(masked_log_ratio(logp.detach(), piece.logprobs, mask)[mask > 0])
        masks.append(mask[mask > 0])
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    if not torch.isfinite(norm):
        raise TrainingError(f"the gradient norm is {float(norm)}; lower the learning rate or check the rewards")
    optimiser.step()
    metrics = {name: value / float(tokens) for name, value in sums.items()}
    return metrics | mismatch(torch.cat(ratios), torch.cat(masks)) | {"grad_norm": float(norm)}


def _minibatches(group: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of each optimiser batch; groups stay whole, in random order if there is more than one batch."""
    names = torch.unique(group)
    if count == 1:
        return [torch.arange(len(group), device=group.device)]
    order = names[torch.randperm(len(names), generator=generator)]
    parts: Sequence[Tensor] = order.chunk(count)
    return [torch.isin(group, part).nonzero()[:, 0] for part in parts]


def _micro_batches(group: Tensor, part: Tensor, groups: int) -> Iterator[Tensor]:
    for names in torch.unique(group[part]).split(groups):
        yield part[torch.isin(group[part], names)]


def trim(batch: Batch) -> Batch:
    """The batch without columns that no row reaches."""
    width = int((batch.turn >= 0).sum(1).max())
    columns = {name: getattr(batch, name)[:, :width] for name in ("tokens", "turn", "action", "logprobs")}
    kept = {name: getattr(batch, name) for name in ("rewards", "costs", "weight", "group", "inputs")}
    return Batch(**columns, **kept)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""One or more optimiser steps on a batch. However an optimiser batch is cut, its gradient is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from nextstep_agents.algorithms.losses import masked_log_ratio, mismatch
from nextstep_agents.algorithms.objectives import Objective
from nextstep_agents.batch import Batch
from nextstep_envs.errors import NextStepError

if TYPE_CHECKING:
    from nextstep_agents.algorithms.first_order import FirstOrder


class TrainingError(NextStepError, RuntimeError):
    """Training cannot go on: a gradient is not finite, or too many samples failed."""


class Policy(Protocol):
    """What an update needs of a policy (language model or MLP)."""

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every action token, [B, T]."""
        ...


def update(
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    batch: Batch,
    settings: FirstOrder,
    temperature: float,
    seed: int,
    reference: Policy | None = None,
    keep: Tensor | None = None,
    micro_groups: int = 16,
) -> dict[str, float]:
    """Train on `batch` and return the metrics, means over action tokens; without rows nothing changes.

    Args:
        policy, optimiser: what is trained, and how.
        objective: made for `batch`.
        batch: the round.
        settings: how the batch becomes optimiser steps. A pass is cut by whole groups.
        temperature: of sampling.
        seed: of the order of the groups.
        reference: the policy to stay near.
        keep: rows to train on, bool [B]; None: all.
        micro_groups: groups per forward and backward pass, which bounds memory and changes nothing else.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(len(batch), device=batch.group.device) if keep is None else keep.nonzero()[:, 0]
    log: dict[str, list[float]] = {}
    for part in _parts(batch.group, rows, settings.epochs, settings.steps_per_pass(batch), generator):
        if float(batch.mask[part].sum()) == 0:
            continue
        bound = settings.target_kl if log else None
        metrics = _step(
            policy, optimiser, objective, batch, part, settings, temperature, reference, micro_groups, bound
        )
        if metrics is None:
            break
        for name, value in metrics.items():
            log.setdefault(name, []).append(value)
    pick: dict[str, Any] = {"ratio_min": min, "ratio_max": max, "effective_sample_share": min}
    return {name: float(pick.get(name, _mean)(values)) for name, values in log.items()} | {
        "optimiser_steps": float(len(log.get("loss", [])))
    }


def _step(
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    batch: Batch,
    part: Tensor,
    settings: FirstOrder,
    temperature: float,
    reference: Policy | None,
    micro_groups: int,
    kl_bound: float | None,
) -> dict[str, float] | None:
    """One optimiser step on the rows `part`: the sum over all its micro-batches, divided once by all its tokens.

    None, and no step, if the policy is already further than `kl_bound` from the sampler.
    """
    optimiser.zero_grad(set_to_none=True)
    tokens = batch.mask[part].sum()
    sums: dict[str, float] = {}
    ratios, masks = [], []
    for rows in _micro_batches(batch.group, part, micro_groups):
        piece = trim(batch.select(rows))
        logp, entropy = policy.log_probs(piece, temperature, entropy_gradient=objective.entropy > 0)
        anchor = None
        if reference is not None:
            with torch.no_grad():
                anchor = reference.log_probs(piece, temperature)[0]
        loss, logged = objective.loss(piece, rows, logp, entropy, anchor)
        (loss / tokens).backward()
        for name, value in {"loss": loss.detach(), **logged}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        mask = piece.mask
        ratios.append(masked_log_ratio(logp.detach(), piece.logprobs, mask)[mask > 0])
        masks.append(mask[mask > 0])
    distance = mismatch(torch.cat(ratios), torch.cat(masks))
    if kl_bound is not None and distance["kl_sampler"] > kl_bound:
        return None
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    if not torch.isfinite(norm):
        raise TrainingError(f"the gradient norm is {float(norm)}; lower the learning rate or check the rewards")
    optimiser.step()
    metrics = {name: value / float(tokens) for name, value in sums.items()}
    return metrics | distance | {"grad_norm": float(norm)}


def _parts(group: Tensor, rows: Tensor, epochs: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of each optimiser batch; groups stay whole, in random order if a pass has more than one batch."""
    names = torch.unique(group[rows])
    for _ in range(epochs):
        if count == 1:
            yield rows
            continue
        order = names[torch.randperm(len(names), generator=generator)]
        for part in order.chunk(count):
            yield rows[torch.isin(group[rows], part)]


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

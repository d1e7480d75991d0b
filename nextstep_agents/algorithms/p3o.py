r"""Penalised PPO (P3O, Zhang et al. 2022, arXiv 2205.11814, eq. 10 and 13).

The budgets are in the loss as an exact penalty, with PPO's clip on either part:

$$ L = L_R + \sum_k \kappa_k \max(0, L_{C_k}), \qquad
   L_{C_k} = E\big[\max(r A_{C_k}, \mathrm{clip}(r) A_{C_k}) - A_{C_k}\big] + (J_{C_k} - d_k) / T. $$

$E$ is a mean over decisions, $T$ the decisions of an episode: an episode's cost less its budget, spread over its
decisions. The paper's factor $1 - \gamma$ in place of $1/T$ would lose the budget where nothing is discounted; and with
$A_{C_k}$ taken off, $L_{C_k}$ is that excess at $r = 1$, however wrong the critic.

For $\kappa_k \ge \lambda^*_k$, the multiplier at the optimum, the minimum is that of the constrained problem. Below, it
overspends; far above, noise in $J_C$ makes it timid. The penalty is an on-off force, and where the policy comes to rest
on the budget, $\kappa_k$ times the share of steps in which it is on balances the reward: that product is the
multiplier. So it can be watched, and the automatic $\kappa$ is a multiple of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.first_order import FirstOrder, descend, in_proportion
from nextstep_agents.algorithms.losses import clipped, clipped_surrogate, masked_log_ratio
from nextstep_agents.algorithms.objectives import masked_sum, per_token
from nextstep_agents.algorithms.types import Actor, Estimates, Floats, Memory
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError

logger = logging.getLogger("nextstep")

SMOOTHING = 0.95  # of what is watched, over rounds
ALWAYS = 0.95  # share of steps from which a penalty counts as always on
OVERSPENT = 0.05  # share of the budget beyond which an excess is no noise


@dataclass(frozen=True, kw_only=True)
class P3O(FirstOrder):
    """PPO with an exact penalty for what exceeds the budgets; without costs it is PPO.

    Attributes:
        clip, cost_clip: epsilon of the reward's part and of the costs'.
        kappa: weight of the penalty in reward per budget, the same for every cost: it is exact above the largest
            lambda*_k d_k, and best at 2 to 3 times that. None: found for each cost by itself.
        margin: the automatic kappa is so many times the multiplier it estimates.
        first: its estimate before the first round, as a share of the reward scale.
        least, most: bounds of the estimate within the automatic kappa, likewise.
        max_grad_norm: wide, because it must not cut the penalty's gradients, the larger ones, and spare the reward's.
    """

    choice_entropy = 0.04  # more than elsewhere: an on-off force is rougher
    max_grad_norm: float = 20.0
    clip: float = 0.2
    cost_clip: float = 0.2
    kappa: float | None = None
    margin: float = 2.0
    first: float = 0.2
    least: float = 0.1
    most: float = 20.0
    critic = True
    group_size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clip", "cost_clip", "kappa", "first", "least"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value} must be > 0")
        if not self.margin >= 1:
            raise ConfigError(f"margin={self.margin} must be at least 1: below, the penalty is not exact")
        if not self.least <= self.first <= self.most:
            raise ConfigError(f"first={self.first} must be between least={self.least} and most={self.most}")

    def start(self, costs: int) -> Memory:
        """See `Algorithm`."""
        zero = np.zeros(costs)
        return {"multipliers": np.full(costs, self.first), "active": zero, "excess": zero, "warned": np.zeros(1)}

    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[PenalisedSurrogate, Memory, dict[str, float]]:
        """See `FirstOrder`."""
        assert estimates.advantage is not None and estimates.cost_advantage is not None
        kappa = self.kappa_now(estimates, memory)
        reward, costs = estimates.advantage, estimates.cost_advantage
        combined = reward - (costs * costs.new_tensor(memory["multipliers"])).sum(-1)
        _, memory = in_proportion(combined, batch.decisions, memory)
        unit = float(memory["spread"][1]) or 1.0  # of both parts alike: kappa keeps its meaning
        tokens = float(batch.mask.sum()) / max(float(batch.weight.sum()), 1.0)
        objective = PenalisedSurrogate(
            advantage=reward / unit,
            cost_advantage=costs / unit,
            excess=costs.new_tensor(estimates.excess / tokens / unit),
            kappa=costs.new_tensor(kappa),
            clip=self.clip,
            cost_clip=self.cost_clip,
            entropy=self.entropy_now(batch, estimates),
        )
        return objective, memory, {f"kappa/{k}": v * estimates.reward_scale for k, v in enumerate(kappa.tolist())}

    def improve(
        self,
        actor: Actor,
        optimiser: torch.optim.Optimizer,
        batch: Batch,
        estimates: Estimates,
        memory: Memory,
        seed: int,
    ) -> tuple[Memory, dict[str, float]]:
        """Optimiser steps on the round's objective; then what share of them paid the penalty is taken in."""
        objective, memory, metrics = self.objective(batch, estimates, memory)
        metrics |= descend(actor, optimiser, batch, objective, self, seed)
        if not objective.gates:  # no step, nothing learnt
            return memory, metrics
        active = torch.stack(objective.gates).double().mean(0).cpu().numpy()
        kappa = self.kappa_now(estimates, memory)
        watched = {"multipliers": kappa * active, "active": active, "excess": estimates.excess}
        memory = {**memory, **{k: SMOOTHING * memory[k] + (1 - SMOOTHING) * v for k, v in watched.items()}}
        metrics |= {f"active/{k}": share for k, share in enumerate(memory["active"].tolist())}
        if len(kappa):
            metrics["kappa_over_multiplier"] = float(np.min(kappa / np.maximum(memory["multipliers"], 0.01 * kappa)))
        return self.advise(memory, kappa * estimates.reward_scale), metrics

    def kappa_now(self, estimates: Estimates, memory: Memory) -> Floats:
        """Kappa of every cost in common units, [C]."""
        if self.kappa is not None:
            return np.full(len(estimates.excess), self.kappa / estimates.reward_scale)
        return self.margin * np.clip(memory["multipliers"], self.least, self.most)

    def advise(self, memory: Memory, kappa: Floats) -> Memory:
        """Warn, once, of a penalty that is always on and yet leaves a cost above its budget; kappa in raw rewards."""
        settled = self.kappa is not None or memory["multipliers"] >= ALWAYS * self.most
        short = (memory["active"] >= ALWAYS) & (memory["excess"] > OVERSPENT) & settled
        if memory["warned"][0] or not short.any():
            return memory
        worst = int(np.argmax(np.where(short, memory["excess"], -np.inf)))
        logger.warning(
            "P3O is not exact: constraint %d is %.0f%% over its budget though its penalty, kappa=%.3g reward per "
            "budget, is always on. kappa is below lambda* d, or the budget cannot be met; %s.",
            worst,
            100 * memory["excess"][worst],
            kappa[worst],
            "raise kappa to at least twice that, or leave it out to have it found" if self.kappa else "raise `most`",
        )
        return {**memory, "warned": np.ones(1)}


@dataclass(frozen=True)
class PenalisedSurrogate:
    """The loss above. Which penalties are on is a matter of the whole batch: see `WholeBatch`.

    Attributes:
        advantage: [B, K]. cost_advantage: [B, K, C].
        excess: mean cost of an episode less its budget, over the tokens of an episode, [C].
        kappa: [C].
        clip, cost_clip: epsilon of either part.
        entropy: weight of the bonus.
        gate: 1 where L_C of the whole batch is positive, else 0, [C].
        gates: all gates since the objective was made.
    """

    advantage: Tensor
    cost_advantage: Tensor
    excess: Tensor
    kappa: Tensor
    clip: float
    cost_clip: float
    entropy: float = 0.0
    gate: Tensor | None = None
    gates: list[Tensor] = field(default_factory=list)

    def at(self, batch: Batch, logp: Tensor) -> PenalisedSurrogate:
        """See `WholeBatch`."""
        with torch.no_grad():
            cost = self.costs(batch, torch.arange(len(batch)), masked_log_ratio(logp, batch.logprobs, batch.mask))
        gate = (cost > 0).to(self.kappa.dtype)
        self.gates.append(gate)
        return replace(self, gate=gate)

    def costs(self, batch: Batch, rows: Tensor, log_ratio: Tensor) -> Tensor:
        """L_C of some rows, summed over their action tokens, [C]."""
        advantage, ratio = per_token(self.cost_advantage[rows], batch), log_ratio.exp()[..., None]
        worse = torch.maximum(ratio * advantage, ratio.clamp(1 - self.cost_clip, 1 + self.cost_clip) * advantage)
        mask = batch.mask[..., None]
        change = torch.where(mask > 0, (worse - advantage) * mask, 0.0).sum((0, 1))
        return change + self.excess * mask.sum()

    def loss(
        self, batch: Batch, rows: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `Objective`; at the gate that `at` found."""
        if self.gate is None:
            raise ValueError("a penalty needs the whole batch: call at(batch, logp) before every optimiser step")
        mask = batch.mask
        ratio = masked_log_ratio(logp, batch.logprobs, mask)
        advantage = per_token(self.advantage[rows], batch)
        reward = masked_sum(clipped_surrogate(ratio, advantage, self.clip, self.clip), mask)
        penalty = (self.kappa * self.gate * self.costs(batch, rows, ratio)).sum()
        bonus = masked_sum(entropy, mask)
        off = clipped(ratio, advantage, self.clip, self.clip).to(mask.dtype)
        sums = {"clip_share": masked_sum(off, mask), "entropy": bonus.detach(), "penalty": penalty.detach()}
        return reward + penalty - self.entropy * bonus, sums

r"""PPO-Lagrangian (Ray, Achiam and Amodei 2019) and its PID form (Stooke, Achiam and Abbeel 2020, arXiv 2007.03964).

Each round, before the policy: $\lambda_k$ moves by the excess $J_{C_k} - d_k$ of the round's own whole episodes. Then
PPO on $A = (A_R - \sum_k \lambda_k A_{C_k}) / (1 + \sum_k \lambda_k)$, scaled as one number. The parts are not: what
a multiplier weighs keeps its units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nextstep_agents.algorithms.first_order import FirstOrder, in_proportion
from nextstep_agents.algorithms.multipliers import PID, Ascent
from nextstep_agents.algorithms.objectives import ClippedSurrogate, Objective
from nextstep_agents.algorithms.types import Estimates, Memory
from nextstep_agents.batch import Batch


@dataclass(frozen=True, kw_only=True)
class PPOLagrangian(FirstOrder):
    """PPO on rewards less weighted costs, the multipliers by gradient ascent; without costs it is PPO.

    Attributes:
        clip: epsilon.
        multiplier: how the multipliers move.
    """

    clip: float = 0.2
    multiplier: Ascent = field(default_factory=Ascent)
    critic = True
    group_size = 1

    def start(self, costs: int) -> Memory:
        """See `Algorithm`."""
        return self.multiplier.start(costs)

    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[Objective, Memory, dict[str, float]]:
        """See `FirstOrder`."""
        memory = {**memory, **self.multiplier.step(memory, estimates.excess, estimates.progress)}
        assert estimates.advantage is not None and estimates.cost_advantage is not None
        multipliers = torch.as_tensor(memory["multipliers"], dtype=torch.float32)
        advantage = lagrangian(estimates.advantage, estimates.cost_advantage, multipliers)
        advantage, memory = in_proportion(advantage, batch.decisions, memory)
        return ClippedSurrogate(advantage, self.clip, self.clip, self.entropy_now(batch, estimates)), memory, {}


@dataclass(frozen=True, kw_only=True)
class PIDLagrangian(PPOLagrangian):
    """PPO-Lagrangian whose multipliers a PID controller moves."""

    multiplier: PID = field(default_factory=PID)  # type: ignore[assignment]


def lagrangian(reward: Tensor, costs: Tensor, multipliers: Tensor) -> Tensor:
    r"""$(A_R - \sum_k \lambda_k A_{C_k}) / (1 + \sum_k \lambda_k)$ for A_R [...], A_C [..., C] and lambda [C]."""
    return (reward - (costs * multipliers).sum(-1)) / (1 + multipliers.sum())

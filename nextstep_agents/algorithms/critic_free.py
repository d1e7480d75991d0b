"""What the algorithms without a critic share: a Lagrangian of what is still to come, by a controller of multipliers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.first_order import FirstOrder
from nextstep_agents.algorithms.multipliers import PID
from nextstep_agents.algorithms.ppo_lagrangian import lagrangian
from nextstep_agents.algorithms.returns import to_go
from nextstep_agents.algorithms.types import Estimates, Memory
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CriticFree(FirstOrder):
    r"""Settings of every algorithm without a critic.

    Under budgets, rewards and costs become one signal before anything else happens to them,
    $(G_R - \sum_k \lambda_k G_{C_k}) / (1 + \sum_k \lambda_k)$ with $G$ what is still to come. What follows (a
    baseline, one scale for all) is linear in it, so a multiplier keeps its meaning, the price of a budget in the
    linear program. Dividing each signal by its own spread, or each group by the spread of the sum, would change the
    prices, by group even (arXiv 2602.05863).

    Attributes:
        multiplier: how the multipliers move.
    """

    multiplier: PID = field(default_factory=PID)
    critic = False

    def start(self, costs: int) -> Memory:
        """See `Algorithm`."""
        return self.multiplier.start(costs)

    def weigh(self, batch: Batch, estimates: Estimates, memory: Memory) -> tuple[Tensor, Memory]:
        """What was still to come at every decision as one signal, [B, K], and the memory after the round."""
        memory = self.multiplier.step(memory, estimates.excess, estimates.progress)
        assert estimates.advantage is not None and estimates.cost_advantage is not None
        multipliers = torch.as_tensor(memory["multipliers"], dtype=torch.float32, device=estimates.advantage.device)
        ahead = lagrangian(estimates.advantage, estimates.cost_advantage, multipliers)
        return torch.where(batch.decisions, ahead, 0.0), memory  # a failed episode may hold anything


def without_budgets(batch: Batch, progress: float = 0.0, reference: Tensor | None = None) -> Estimates:
    """The estimates of a round in which nothing is limited: undiscounted returns to go, in raw units.

    Args:
        batch: the round.
        progress: share of the training that is done.
        reference: log-probabilities of the action tokens under a reference policy, [B, T].
    """
    ahead = to_go(batch.rewards)
    length = float(batch.decisions.sum()) / max(float((batch.weight > 0).sum()), 1.0)
    return Estimates(ahead, ahead[..., None][..., :0], np.zeros(0), (), length, progress, reference=reference)


def decision_number(batch: Batch) -> Tensor:
    """The number of each decision in its episode, int64 [B, K]: a key for `against_peers`."""
    return torch.arange(batch.rewards.shape[1], device=batch.rewards.device).expand(batch.rewards.shape)


def group_and_number(batch: Batch) -> Tensor:
    """One number for each pair of a group and a decision's number, int64 [B, K]: a key for `against_peers`."""
    _, index = torch.unique(batch.group, return_inverse=True)
    both: Tensor = index[:, None] * batch.rewards.shape[1] + decision_number(batch)
    return both


def refuse_reference(name: str, value: float | None) -> None:
    """Raise `ConfigError` for a pull towards a reference policy where there is none."""
    if value:
        raise ConfigError(f"{name}={value}: on vectors there is no reference policy to stay near; use {name}=0")

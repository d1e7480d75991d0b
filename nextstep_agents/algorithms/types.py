"""How algorithms, policies and the training loop meet. Read this first.

A round: episodes are played and become a `Batch`; its rewards and costs are put on a common scale (rewards over the
spread of returns, costs over their budgets); critics turn them into `Estimates`; the algorithm improves the actor. What
it carries from round to round (multipliers, averages) is a `Memory`, plain arrays that a checkpoint can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nextstep_agents.batch import Batch

Floats = npt.NDArray[np.float64]
Memory = Mapping[str, Floats]


@dataclass(frozen=True)
class Estimates:
    """What the critics and the totals of a round say. B episodes, K decisions, C constrained costs.

    Everything is in common units: rewards over the reward scale, costs over their budgets.

    Attributes:
        advantage: of the reward, [B, K]; for algorithms without a critic, what was still to come.
        cost_advantage: [B, K, C], likewise. Never standardised: it keeps the units of `excess`.
        excess: float64 [C]: mean cost of the whole episodes of the round less the budget; > 0 is too much.
        owners: [C]: the agent that answers for each cost.
        length: mean number of decisions of an episode, T.
        progress: share of the training that is done, 0...1.
        reward_scale: what rewards were divided by.
        reference: log-probabilities of the action tokens under a reference policy, [B, T], where there is one.
    """

    advantage: Tensor | None
    cost_advantage: Tensor | None
    excess: Floats
    owners: tuple[int, ...]
    length: float
    progress: float
    reward_scale: float = 1.0
    reference: Tensor | None = None


class Actor(Protocol):
    """What an algorithm needs of a policy (language model or MLP)."""

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every action token, [B, T]."""
        ...


class Algorithm(Protocol):
    """How an actor gets better from a round of episodes.

    Attributes:
        critic: whether it needs `Estimates.advantage`.
        group_size: episodes that start alike, for algorithms that compare them; else 1.
    """

    critic: bool
    group_size: int

    def start(self, costs: int) -> Memory:
        """The memory before the first round, for so many constrained costs."""
        ...

    def improve(
        self,
        actor: Any,
        optimiser: torch.optim.Optimizer,
        batch: Batch,
        estimates: Estimates,
        memory: Memory,
        seed: int,
    ) -> tuple[Memory, dict[str, float]]:
        """Change the actor's parameters; return the new memory and metrics. `memory["multipliers"]` is logged."""
        ...

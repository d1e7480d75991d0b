r"""REINFORCE++ (arXiv 2501.03262): returns normalised over the whole batch, PPO's clip, no critic.

$A_t = \sum_{t' \ge t} (r_{t'} - \beta \log \frac{\pi_{old}}{\pi_{ref}})$ by token, then less the mean and over the
standard deviation of all action tokens of the batch. One scale for all tasks, so easy and hard ones keep their
proportion, and a task need not be answered twice. With `baseline="group"` each return is first compared with its group;
REINFORCE++-baseline is that with `kl_in="loss"`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextstep_agents.algorithms.advantages import against_peers, normalised
from nextstep_agents.algorithms.critic_free import CriticFree, decision_number, group_and_number, refuse_reference
from nextstep_agents.algorithms.losses import masked_log_ratio
from nextstep_agents.algorithms.objectives import ClippedSurrogate, Objective, per_token
from nextstep_agents.algorithms.types import Actor, Estimates, Memory
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, check_choice


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlus(CriticFree):
    """Settings of the algorithm.

    Attributes:
        clip: epsilon.
        baseline: "none"; "mean": less the mean of the round's decisions of the same number; or "group": of the group's.
        group_size: episodes that start alike; at least 2 with `baseline="group"`.
        kl: beta, towards a reference policy.
        kl_in: "reward" (estimator k1, by token) or "loss" (k2, whose gradient is that of the KL).
    """

    clip: float = 0.2
    baseline: str = "none"
    group_size: int = 1
    kl: float = 0.0
    kl_in: str = "reward"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, ("none", "mean", "group"))
        check_choice("kl_in", self.kl_in, ("reward", "loss"))
        for name in ("clip", "kl"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be >= 0")
        least = 2 if self.baseline == "group" else 1
        if self.group_size < least:
            raise ConfigError(f"group_size={self.group_size} must be at least {least} with baseline={self.baseline!r}")

    def improve(
        self,
        actor: Actor,
        optimiser: torch.optim.Optimizer,
        batch: Batch,
        estimates: Estimates,
        memory: Memory,
        seed: int,
    ) -> tuple[Memory, dict[str, float]]:
        """See `Algorithm`."""
        refuse_reference("kl", self.kl)
        return super().improve(actor, optimiser, batch, estimates, memory, seed)

    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[Objective, Memory, dict[str, float]]:
        """See `FirstOrder`."""
        ahead, memory = self.weigh(batch, estimates, memory)
        if self.baseline != "none":
            keys = [group_and_number(batch)] if self.baseline == "group" else []
            keys.append(decision_number(batch))
            ahead = against_peers(ahead, batch.decisions, keys, leave_one_out=False)
        advantage = per_token(ahead, batch)
        in_loss = self.kl if self.kl_in == "loss" else 0.0
        if self.kl and not in_loss:
            advantage = advantage - self.kl * divergence_to_go(batch, estimates.reference)
        advantage = normalised(advantage, batch.mask)
        entropy = self.entropy_now(batch, estimates)
        surrogate = ClippedSurrogate(advantage, self.clip, self.clip, entropy, in_loss, by_token=True, estimator="k2")
        return surrogate, memory, {}


def divergence_to_go(batch: Batch, reference: Tensor | None) -> Tensor:
    r"""$\log \pi_{old} - \log \pi_{ref}$ from each token to the end of its row, over action tokens, [B, T]."""
    if reference is None:
        raise ConfigError("kl > 0 in the reward needs the reference policy's log-probabilities")
    gap = masked_log_ratio(batch.logprobs, reference, batch.mask) * batch.action
    return gap.flip(1).cumsum(1).flip(1)

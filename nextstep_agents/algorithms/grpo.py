r"""Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300) and its relatives.

For a task, sample $G$ answers $o_1 \dots o_G$ from the current policy. With $A_i = (R_i - \bar R) / \sigma_R$ for
every token of $o_i$, and $r_{i,t} = \pi(o_{i,t}) / \pi_{old}(o_{i,t})$, minimise

$$ -\frac{1}{\sum_i |o_i|} \sum_{i,t} \min(r_{i,t} A_i, \mathrm{clip}(r_{i,t}, 1-\epsilon, 1+\epsilon') A_i)
   + \beta \, \mathrm{KL}(\pi, \pi_{ref}) - \eta \, \mathrm{H}(\pi). $$

The normaliser counts the action tokens of the whole optimiser batch, so no answer weighs less for being long, and
the gradient does not depend on how the batch is cut. $\pi_{old}$ is what the sampler reported.

| Relative | Settings |
|---|---|
| Dr. GRPO (arXiv 2503.20783) | `scale="none"` |
| RLOO (arXiv 2402.14740) | `scale="none", baseline="leave_one_out"` |
| DAPO (arXiv 2503.14476) | `clip_high=0.28`; flat groups are left out anyway, and tokens weigh alike |
| GSPO (arXiv 2507.18071) | `sequence=True, clip=3e-4, clip_high=4e-4` |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextstep_agents.algorithms.advantages import (
    against_peers,
    flat_rows,
    group_advantages,
    group_scale,
    group_stats,
)
from nextstep_agents.algorithms.critic_free import CriticFree, decision_number, group_and_number, refuse_reference
from nextstep_agents.algorithms.objectives import ClippedSurrogate
from nextstep_agents.algorithms.types import Actor, Estimates, Memory
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, check_choice


@dataclass(frozen=True, kw_only=True)
class GRPO(CriticFree):
    """Settings of the algorithm, for language models and vectors alike.

    Attributes:
        group_size: answers per task, G.
        groups_per_step: tasks per training step of a language model. On vectors it is None, and the run says how many
            episodes make a round.
        clip, clip_high: epsilon below and above 1; `clip_high` None means `clip`.
        kl: beta, towards the warm start, at the first training step.
        kl_end: beta at the last one, reached linearly; None: `kl` throughout. A strong start keeps the first, noisy
            gradients from unlearning how to answer at all.
        baseline: "mean" or "leave_one_out".
        credit: "episode": a decision is credited with the whole return; "decision": with what was still to come,
            against the group's decisions of the same number.
        scale: "group", "batch" or "none", see `group_scale`; "auto" is "group", but under budgets "none".
        sequence: one ratio for each decision, the geometric mean of its tokens'.
        advantage_clip: bound on the advantage's size, or None.
    """

    choice_entropy = 0.015  # less than elsewhere: under budgets its advantages are not divided by their size
    group_size: int = 8
    groups_per_step: int | None = None
    clip: float = 0.2
    clip_high: float | None = None
    kl: float = 0.0
    kl_end: float | None = None
    baseline: str = "mean"
    credit: str = "episode"
    scale: str = "auto"
    sequence: bool = False
    advantage_clip: float | None = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, ("mean", "leave_one_out"))
        check_choice("credit", self.credit, ("episode", "decision"))
        check_choice("scale", self.scale, ("auto", "group", "batch", "none"))
        if self.group_size < 2:
            raise ConfigError(f"group_size={self.group_size} must be at least 2: GRPO compares answers to one task")
        if self.groups_per_step is not None and self.groups_per_step < 1:
            raise ConfigError(f"groups_per_step={self.groups_per_step} must be at least 1")
        for name in ("clip", "clip_high", "kl", "kl_end", "advantage_clip"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name}={value} must be >= 0")

    def keep(self, batch: Batch) -> Tensor:
        """Rows that teach something, bool [B]: not failed, and in a group that is not flat in reward and cost."""
        return ~flat_rows(batch.returns, batch.costs.sum(1), batch.group, batch.weight) & (batch.weight > 0)

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
        refuse_reference("kl_end", self.kl_end)
        if self.groups_per_step is not None:
            raise ConfigError(f"groups_per_step={self.groups_per_step} is for language models; on vectors set episodes")
        return super().improve(actor, optimiser, batch, estimates, memory, seed)

    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[ClippedSurrogate, Memory, dict[str, float]]:
        """See `FirstOrder`."""
        ahead, memory = self.weigh(batch, estimates, memory)
        advantage = self.advantages(batch, ahead, self.scale_for(len(estimates.excess)))
        high = self.clip if self.clip_high is None else self.clip_high
        entropy, kl = self.entropy_now(batch, estimates), self.kl_now(estimates.progress)
        return ClippedSurrogate(advantage, self.clip, high, entropy, kl, self.sequence), memory, {}

    def advantages(self, batch: Batch, ahead: Tensor, scale: str) -> Tensor:
        """Advantages by decision, [B, K], of what was still to come."""
        returns, group, weight = ahead[:, 0], batch.group, batch.weight
        if self.credit == "episode":
            advantage = group_advantages(returns, group, weight, self.baseline, scale)[:, None].expand_as(ahead)
        else:
            keys, others = [group_and_number(batch), decision_number(batch)], self.baseline == "leave_one_out"
            stats = group_stats(returns, group, weight)
            advantage = against_peers(ahead, batch.decisions, keys, others)
            advantage = (advantage / group_scale(stats, scale)[:, None]).to(ahead.dtype)
            if scale == "group":
                advantage = torch.where((stats.spread > 0)[stats.index, None], advantage, 0.0)
        bound = self.advantage_clip
        return advantage if bound is None else advantage.clamp(-bound, bound)

    def scale_for(self, constraints: int) -> str:
        """`scale` in a run with so many constraints."""
        if self.scale == "auto":
            return "none" if constraints else "group"
        if self.scale == "group" and constraints:
            raise ConfigError(
                "scale='group' gives every group its own price of a budget; under cost_limits use auto, batch or none"
            )
        return self.scale

    def kl_now(self, progress: float) -> float:
        """Beta at a share of the training, 0...1."""
        return self.kl if self.kl_end is None else self.kl + (self.kl_end - self.kl) * progress

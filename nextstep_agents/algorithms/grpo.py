r"""Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300).

For a task, sample $G$ answers $o_1 \dots o_G$ from the current policy. With $A_i = (R_i - \bar R) / \sigma_R$ for
every token of $o_i$, and $r_{i,t} = \pi(o_{i,t}) / \pi_{old}(o_{i,t})$, minimise

$$ -\frac{1}{\sum_i |o_i|} \sum_{i,t} \min(r_{i,t} A_i, \mathrm{clip}(r_{i,t}, 1-\epsilon, 1+\epsilon') A_i)
   + \beta \, \mathrm{KL}(\pi, \pi_{ref}) - \eta \, \mathrm{H}(\pi). $$

The normaliser counts the action tokens of the whole optimiser batch, so no answer weighs less for being long, and
the gradient does not depend on how the batch is cut. $\pi_{old}$ is what the sampler reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nextstep_agents.algorithms.advantages import flat_rows, group_advantages
from nextstep_agents.algorithms.losses import clipped, clipped_surrogate, k3, masked_log_ratio
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, check_choice


@dataclass(frozen=True)
class GRPO:
    """Settings of the algorithm, and its two formulas.

    Attributes:
        group_size: answers per task, G.
        groups_per_step: tasks per training step.
        clip, clip_high: epsilon below and above 1; `clip_high` None means `clip`.
        kl: beta, towards the warm start, at the first training step.
        kl_end: beta at the last one, reached linearly; None: `kl` throughout. A strong start keeps the first, noisy
            gradients from unlearning how to answer at all.
        entropy: eta, a bonus that keeps exploration alive.
        baseline: "mean" or "leave_one_out" (RLOO, arXiv 2402.14740).
        scale: "group", "batch" or "none" (Dr. GRPO); see `group_advantages`.
        advantage_clip: bound on the advantage's size, or None.
    """

    group_size: int = 8
    groups_per_step: int = 16
    clip: float = 0.2
    clip_high: float | None = None
    kl: float = 0.0
    kl_end: float | None = None
    entropy: float = 0.0
    baseline: str = "mean"
    scale: str = "group"
    advantage_clip: float | None = 5.0

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, ("mean", "leave_one_out"))
        check_choice("scale", self.scale, ("group", "batch", "none"))
        if self.group_size < 2:
            raise ConfigError(f"group_size={self.group_size} must be at least 2: GRPO compares answers to one task")
        if self.groups_per_step < 1:
            raise ConfigError(f"groups_per_step={self.groups_per_step} must be at least 1")
        for name in ("clip", "kl", "entropy"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be >= 0")

    def at(self, progress: float) -> GRPO:
        """The settings at a share of the training, 0...1: beta on its way from `kl` to `kl_end`."""
        return self if self.kl_end is None else replace(self, kl=self.kl + (self.kl_end - self.kl) * progress)

    def keep(self, batch: Batch) -> Tensor:
        """Rows to train on, bool [B]: not failed, and in a group that is not flat in reward and cost."""
        return ~flat_rows(batch.returns, batch.costs.sum(1), batch.group, batch.weight) & (batch.weight > 0)

    def advantages(self, batch: Batch) -> Tensor:
        """One advantage per row, [B]: the whole episode's return against its group, never a baseline per turn."""
        advantage = group_advantages(batch.returns, batch.group, batch.weight, self.baseline, self.scale)
        bound = self.advantage_clip
        return advantage if bound is None else advantage.clamp(-bound, bound)

    def loss(
        self, batch: Batch, advantage: Tensor, logp: Tensor, entropy: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the loss over the action tokens of `batch`, and sums of what is logged; divide by the token count."""
        mask, high = batch.mask, self.clip if self.clip_high is None else self.clip_high
        ratio = masked_log_ratio(logp, batch.logprobs, mask)
        spread = advantage[:, None].expand_as(ratio)
        loss = clipped_surrogate(ratio, spread, self.clip, high)
        sums = {"clip_share": (clipped(ratio, spread, self.clip, high) * mask).sum(), "entropy": (entropy * mask).sum()}
        if self.kl and reference is not None:
            divergence = k3(masked_log_ratio(reference, logp, mask))
            loss = loss + self.kl * divergence
            sums["kl_reference"] = (divergence * mask).sum()
        if self.entropy:
            loss = loss - self.entropy * entropy
        return torch.where(mask > 0, loss * mask, 0.0).sum(), {name: value.detach() for name, value in sums.items()}

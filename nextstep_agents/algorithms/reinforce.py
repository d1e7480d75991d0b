r"""REINFORCE (Williams 1992), and with budgets its Lagrangian form.

$\nabla J = \mathrm{E} \sum_t \nabla \log \pi(a_t \mid s_t) \, (G_t - b_t)$, where
$G_t = \sum_{l \ge t} \gamma^{l-t} r_l$. Every episode is used once, since nothing corrects for an older policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from nextstep_agents.algorithms.advantages import against_peers
from nextstep_agents.algorithms.critic_free import CriticFree, decision_number
from nextstep_agents.algorithms.objectives import Objective, PolicyGradient
from nextstep_agents.algorithms.types import Estimates, Memory
from nextstep_agents.batch import Batch
from nextstep_envs.errors import ConfigError, check_choice

PUPPETEER = MappingProxyType({"baseline": "none", "raw_rewards": True, "entropy": 1.0, "entropy_end": 1.0})
"""How Puppeteer's code (arXiv 2505.19591) sets the algorithm, with `gamma=0.99` and `learning_rate=1e-4`.

Returns as they are, and the sum of entropies at weight 1: fragile, and kept for comparison. Its step rewards, with
their factors, are those of `wrappers.RoutingReward(reward_mode="code")`.
"""


@dataclass(frozen=True, kw_only=True)
class Reinforce(CriticFree):
    """Settings of the algorithm.

    Attributes:
        epochs: passes over a round; 1 is REINFORCE.
        minibatches: steps of a pass, each on episodes of its own. 1 is REINFORCE to the letter; of a few steps the last
            sees episodes of a slightly older policy, and learning is faster.
        baseline: "mean": what the other episodes of the round still got from the decision of the same number, which
            leaves the gradient unbiased; or "none".
        entropy_end: weight of the entropy bonus in the last round; None: as in `FirstOrder`.
        raw_rewards: weigh the entropy bonus against rewards as the environment gives them, not against rewards over the
            spread of returns.
    """

    epochs: int = 1
    minibatches: int | None = 4
    baseline: str = "mean"
    entropy_end: float | None = None
    raw_rewards: bool = False
    group_size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, ("mean", "none"))
        if self.entropy_end is not None and self.entropy_end < 0:
            raise ConfigError(f"entropy_end={self.entropy_end} must be >= 0")

    def objective(
        self, batch: Batch, estimates: Estimates, memory: Memory
    ) -> tuple[Objective, Memory, dict[str, float]]:
        """See `FirstOrder`."""
        advantage, memory = self.weigh(batch, estimates, memory)
        if self.baseline == "mean":
            advantage = against_peers(advantage, batch.decisions, [decision_number(batch)])
        if self.raw_rewards:
            advantage = advantage * estimates.reward_scale
        return PolicyGradient(advantage, self.entropy_now(batch, estimates)), memory, {}

    def entropy_now(self, batch: Batch, estimates: Estimates) -> float:
        """See `FirstOrder`."""
        if self.entropy_end is None:
            return super().entropy_now(batch, estimates)
        first = self.first_entropy(batch)
        return first + (self.entropy_end - first) * estimates.progress

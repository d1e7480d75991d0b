"""From a round of episodes to what an algorithm learns from: common scales, advantages, and the critic's targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.returns import advantages
from nextstep_agents.algorithms.types import Estimates, Floats
from nextstep_agents.batch import Batch
from nextstep_agents.learning.constraints import Constraints
from nextstep_agents.learning.play import Round
from nextstep_agents.policies.mlp import Critic

SMOOTHING = 0.9  # of the reward scale, over rounds


@dataclass(frozen=True)
class Scales:
    """What rewards and costs are divided by, so that one set of defaults fits every environment.

    Attributes:
        reward: the largest smoothed standard deviation of the return so far. The largest, because a policy that
            becomes certain has a spread of 0. Until returns differ, the size of the return, or 1.
        spread: the smoothed standard deviation itself; 0 until returns differ.
        costs: float64 [C]: each budget; for a budget of 0 the first round's mean cost.
    """

    reward: float
    spread: float
    costs: Floats

    @staticmethod
    def first(returns: Tensor, totals: Tensor, constraints: Constraints) -> Scales:
        """The scales after the first round: returns [B], totals [B, C] of whole episodes."""
        spread = _deviation(returns)
        reward = spread or (float(returns.abs().mean()) if len(returns) else 0.0) or 1.0
        means = totals.mean(0).numpy() if len(totals) else np.zeros(len(constraints))
        costs = np.where(constraints.limits > 0, constraints.limits, np.where(means > 0, means, 1.0))
        return Scales(reward, spread, costs)

    def after(self, returns: Tensor) -> Scales:
        """The scales after another round."""
        now = _deviation(returns)
        if not self.spread:  # what the first returns had in common says nothing about how much there is to gain
            return replace(self, reward=now or self.reward, spread=now)
        if not len(returns):
            return self
        spread = SMOOTHING * self.spread + (1 - SMOOTHING) * now
        return replace(self, reward=max(self.reward, spread), spread=spread)

    def of(self, batch: Batch) -> Batch:
        """The batch in common units."""
        costs = batch.costs / torch.from_numpy(self.costs)
        return replace(batch, rewards=batch.rewards / self.reward, costs=costs)

    def multipliers(self, dimensionless: Floats) -> Floats:
        """Multipliers in units of reward per unit of cost."""
        raw: Floats = dimensionless * self.reward / self.costs
        return raw

    def arrays(self) -> Mapping[str, Floats]:
        """For a checkpoint."""
        return {"scale.reward": np.array([self.reward, self.spread]), "scale.costs": self.costs}

    @staticmethod
    def restored(arrays: Mapping[str, Floats]) -> Scales:
        """From a checkpoint."""
        reward, spread = arrays["scale.reward"].tolist()
        return Scales(reward, spread, arrays["scale.costs"])


def _deviation(values: Tensor) -> float:
    return float(values.std(correction=0)) if len(values) else 0.0


@dataclass(frozen=True)
class Targets:
    """What the critic is fitted to: inputs by agent [N, F_i], values [N, S] as they were, and targets [N, S]."""

    views: tuple[Tensor, ...]
    values: Tensor
    targets: Tensor


@torch.no_grad()
def estimate(
    played: Round,
    batch: Batch,
    critic: Critic | None,
    constraints: Constraints,
    scales: Scales,
    gamma: float,
    lam: float,
    progress: float,
) -> tuple[Estimates, Targets | None]:
    """Advantages and the excess over the budgets of a round, `batch` being in common units."""
    totals = constraints.totals(batch.costs)
    complete = played.complete
    level = totals[complete].mean(0).numpy() if bool(complete.any()) else np.full(len(constraints), np.nan)
    excess = level - constraints.limits / scales.costs
    length = float(batch.decisions.sum()) / max(float((batch.weight > 0).sum()), 1.0)
    common = (excess, constraints.owners, length, progress, scales.reward)
    valid = batch.decisions
    signals = torch.cat([batch.rewards[..., None], batch.costs.float()], 2)
    discounts = torch.tensor([gamma] + [constraints.gamma] * len(constraints))
    if critic is None:  # values of 0 and lambda 1: what is still to come
        nothing = torch.zeros_like(signals)
        found = _weighted(advantages(signals, nothing, nothing[:, 0], valid, discounts, 1.0), constraints)
        return Estimates(found[..., 0], found[..., 1:], *common), None
    views = [batch.inputs[f"observation.{i}"] for i in range(len(played.last))]
    values = torch.zeros_like(signals)
    seen = tuple(view[valid] for view in views)
    values[valid] = critic(seen)
    last = torch.zeros_like(signals[:, 0])
    if bool(played.truncated.any()):
        last[played.truncated] = critic([view[played.truncated] for view in played.last])
    found = advantages(signals, values, last, valid, discounts, lam)
    targets = Targets(seen, values[valid], (found + values)[valid])
    if lam == 1.0:  # then values are nothing but a baseline
        found[valid] = targets.targets - calibrated(targets.values, targets.targets)
    found = _weighted(found, constraints)
    return Estimates(found[..., 0], found[..., 1:], *common), targets


def calibrated(values: Tensor, targets: Tensor) -> Tensor:
    r"""A critic's values [N, S] as the best baseline they make: $\bar G + c (V - \bar V)$ with c between 0 and 1.

    A critic of many inputs that has seen few episodes says more about those than about new ones, and a baseline in
    error adds its variance to the advantage. $c = \mathrm{Cov}(G, V) / \mathrm{Var}(V)$ is a control variate's
    coefficient: what does not predict the targets G [N, S] is not subtracted from them.
    """
    centred = values - values.mean(0)
    slope = (centred * (targets - targets.mean(0))).sum(0) / (centred**2).sum(0).clamp(min=1e-12)
    return targets.mean(0) + slope.clamp(0.0, 1.0) * centred


def _weighted(found: Tensor, constraints: Constraints) -> Tensor:
    """Where the objective itself is discounted, later decisions weigh less."""
    if constraints.gamma == 1.0:
        return found
    return found * (constraints.gamma ** torch.arange(found.shape[1]))[:, None]


def fit(
    critic: Critic, optimiser: torch.optim.Optimizer, targets: Targets, epochs: int, batch_size: int, seed: int
) -> dict[str, float]:
    """Regress the critic on its targets; returns the explained variance of the reward's values before and the loss."""
    generator = torch.Generator().manual_seed(seed)
    loss = torch.zeros(())
    n = len(targets.targets)
    count = max(1, round(n / batch_size))
    for _ in range(epochs):
        parts = [None] if count == 1 else torch.randperm(n, generator=generator).chunk(count)
        for part in parts:
            views = targets.views if part is None else tuple(view[part] for view in targets.views)
            wanted = targets.targets if part is None else targets.targets[part]
            loss = torch.nn.functional.mse_loss(critic(views), wanted)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    wanted, values = targets.targets[:, 0], targets.values[:, 0]
    spread = float(wanted.var(correction=0))
    explained = 1 - float((wanted - values).var(correction=0)) / spread if spread > 0 else float("nan")
    return {"critic_loss": float(loss.detach()), "explained_variance": explained}

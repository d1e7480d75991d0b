"""PPO-Lagrangian against exact gradients, and the invariances that its users count on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextstep_agents.algorithms.multipliers import Ascent
from nextstep_agents.algorithms.objectives import ClippedSurrogate, PolicyGradient
from nextstep_agents.algorithms.ppo_lagrangian import PIDLagrangian, PPOLagrangian, lagrangian
from nextstep_agents.algorithms.types import Estimates
from nextstep_envs.tabular import DagRetries, RetryStop, TabularCMDP, TierRouting
from tests.agents.algorithms.exact import exact_batch, slope, table, tabular_actor

DISCOUNTED = TabularCMDP(
    P=np.array([[[0.3, 0.5], [0.0, 0.9]], [[0.6, 0.2], [0.1, 0.1]]]),
    R=np.array([[1.0, 0.2], [0.0, 2.0]]),
    C=np.array([[[0.5, 0.1], [0.2, 1.5]]]),
    mu=[0.7, 0.3],
    d=[1.0],
    gamma=0.9,
)
PROBLEMS = {"tier": TierRouting(), "retry": RetryStop(), "two costs": DagRetries(), "discounted": DISCOUNTED}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("kind", ["clipped", "gradient"])
def test_the_surrogate_has_the_gradient_of_the_lagrangian(name: str, kind: str) -> None:
    """At ratio 1 it is that of (J_R - sum_k lambda_k J_Ck) / (1 + sum lambda), by finite differences."""
    cmdp = PROBLEMS[name]
    actor = tabular_actor(cmdp, seed=3)
    multipliers = torch.tensor([0.7, 2.0])[: len(cmdp.d)].double()
    batch, reward, costs = exact_batch(cmdp, actor)
    advantage = lagrangian(reward, costs, multipliers)
    objective = ClippedSurrogate(advantage, 0.2, 0.2) if kind == "clipped" else PolicyGradient(advantage)
    logp, entropy = actor.log_probs(batch)
    loss, _ = objective.loss(batch, torch.arange(len(batch)), logp, entropy)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(actor.parameters()))])

    def value() -> float:
        exact = cmdp.evaluate(table(cmdp, actor))
        total = exact["return"] - float((multipliers.numpy() * exact["costs"]).sum())
        return total / (1 + float(multipliers.sum()))

    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        direction = torch.randn(len(found), generator=generator, dtype=torch.float64)
        assert float(found @ direction) == pytest.approx(-slope(actor, value, direction), rel=1e-5, abs=1e-8)


def estimates(excess: float, scale: float = 1.0) -> Estimates:
    advantage = scale * torch.tensor([[1.0], [-0.5]])
    return Estimates(advantage, advantage[..., None] * 0.5, np.array([excess]), (0,), 2.0, 0.0)


@pytest.mark.parametrize("method", [PPOLagrangian(), PIDLagrangian()])
def test_the_multiplier_knows_nothing_of_how_advantages_are_scaled(method: PPOLagrangian) -> None:
    batch, *_ = exact_batch(TierRouting(), tabular_actor(TierRouting()))
    batch = batch.select(torch.tensor([0, 1]))
    first, second = (
        method.objective(batch, estimates(0.3, scale), method.start(1))[1]["multipliers"] for scale in (1.0, 50.0)
    )
    assert first == second > 0


def test_the_multiplier_moves_before_the_policy() -> None:
    method = PPOLagrangian(multiplier=Ascent(rate=2.0))
    batch, *_ = exact_batch(TierRouting(), tabular_actor(TierRouting()))
    batch = batch.select(torch.tensor([0, 1]))
    before, *_ = method.objective(batch, estimates(0.0), method.start(1))
    after, memory, _ = method.objective(batch, estimates(1.0), method.start(1))
    assert isinstance(before, ClippedSurrogate) and isinstance(after, ClippedSurrogate)
    assert memory["multipliers"] == [2.0] and not torch.equal(before.advantage, after.advantage)

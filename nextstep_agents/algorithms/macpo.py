r"""Multi-agent constrained policy optimisation (MACPO, Gu et al. 2021, arXiv 2110.02793, algorithm 1).

The agents are updated one after the other, in a new random order every round. What the joint advantage $A$ is worth to
the next agent follows from what those before it have become (its eq. 5, the advantage decomposition):

$$ M = \prod_{j \text{ before } i} \frac{\pi^j_{new}}{\pi^j_{old}} A, \qquad
   \max_{\pi^i} E[r^i M] \;\text{ s.t. }\; c^i_k + E[(r^i - 1) M^i_{C_k}] \le 0, \;\; E[\mathrm{KL}] \le \delta, $$

with $r^i$ the agent's own probability ratio, $M^i_{C_k}$ made likewise of the advantage of its own cost k, and $c^i_k$
that cost less its budget, including the change the earlier agents made this round. All are per episode.

Every agent answers for its own constraints only, as in the paper: what its step does to the costs of others is seen
and mended in their next turns. One agent with constraints is CPO (Achiam et al. 2017), without it is TRPO; several
without constraints are HATRPO.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.trust_region import (
    Accepted,
    Floats,
    Step,
    assign,
    categorical_kl,
    constrained_step,
    fisher_product,
    flat,
    gaussian_kl,
    line_search,
)
from nextstep_agents.algorithms.types import Estimates, Memory
from nextstep_agents.batch import Batch
from nextstep_agents.policies.mlp import Actor
from nextstep_envs.errors import ConfigError

CASES = ("reward", "constrained", "recovery")  # as numbers in the metrics
SMOOTHING = 0.9  # of the multipliers, over rounds
SPARE = -0.1  # of a budget: what is spent less than this has no price


@dataclass(frozen=True, kw_only=True)
class MACPO:
    """Settings of the algorithm.

    Attributes:
        delta: bound on an agent's mean KL per decision, as its quadratic approximation has it, at the start. Steps get
            linearly shorter, to a twentieth, so it falls with their square: late rounds have less to gain from a step
            than to lose by what the sample promised in vain.
        kl_tolerance: the exact KL may exceed `delta` by this factor.
        damping: added to the diagonal of the Fisher matrix.
        iterations: of conjugate gradients.
        shrink: how much shorter the next step of the line search is. attempts: how many are tried.
        episodes: at most in a round, unless the run says otherwise. A step believes the costs it is told, so they
            must be measured well.
    """

    delta: float = 0.01
    kl_tolerance: float = 1.5
    damping: float = 0.01
    iterations: int = 10
    shrink: float = 0.5
    attempts: int = 10
    critic = True
    group_size = 1
    episodes = 512

    def __post_init__(self) -> None:
        if not self.delta > 0 or not self.kl_tolerance >= 1:
            raise ConfigError(f"delta={self.delta} must be > 0 and kl_tolerance={self.kl_tolerance} at least 1")
        if not self.damping >= 0 or not 0 < self.shrink < 1:
            raise ConfigError(f"damping={self.damping} must be >= 0 and shrink={self.shrink} in (0, 1)")
        for name in ("iterations", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")

    def start(self, costs: int) -> Memory:
        """See `Algorithm`."""
        return {"multipliers": np.zeros(costs)}

    def improve(
        self,
        actor: Actor,
        optimiser: torch.optim.Optimizer,
        batch: Batch,
        estimates: Estimates,
        memory: Memory,
        seed: int,
    ) -> tuple[Memory, dict[str, float]]:
        """A step of every agent; `optimiser` is not used."""
        if actor.shared:
            raise ConfigError("share=True, but MACPO updates the agents one by one; use share=False")
        assert estimates.advantage is not None and estimates.cost_advantage is not None
        kept = batch.weight > 0
        batch = batch.select(kept)
        signals = torch.cat([estimates.advantage[..., None], estimates.cost_advantage], 2)[kept]
        now = replace(self, delta=self.delta * (1 - 0.95 * estimates.progress) ** 2)
        multipliers, metrics = memory["multipliers"].copy(), {"kl": 0.0}
        factor = torch.ones_like(signals[..., :1])  # the ratios of the agents updated so far, multiplied
        for agent in torch.randperm(len(actor.agents), generator=torch.Generator().manual_seed(seed)).tolist():
            own = [k for k, owner in enumerate(estimates.owners) if owner == agent]
            mine = signals[..., [0, *(1 + k for k in own)]]
            drift = per_episode((factor - 1) * mine, batch.weight)[1:].double().numpy()
            view = view_of(actor, batch, agent, factor * mine)
            step, accepted = take_step(view, estimates.excess[own] + drift, now)
            factor = factor * view.ratio().detach()[..., None]
            price = np.where(estimates.excess[own] > SPARE, step.price.numpy(), 0.0)
            past = np.where(multipliers[own] > 0, SMOOTHING, 0.0)  # the first price is taken as it is
            multipliers[own] = past * multipliers[own] + (1 - past) * price
            metrics[f"case/{agent}"] = float(CASES.index(step.case))
            metrics[f"accepted/{agent}"] = float(accepted is not None)
            metrics[f"tries/{agent}"] = float(accepted.tries if accepted is not None else self.attempts)
            metrics["kl"] += accepted.kl if accepted is not None else 0.0
        return {"multipliers": multipliers}, metrics


@dataclass(frozen=True)
class View:
    """One agent's policy as it was, and what its decisions were worth.

    Attributes:
        actor, batch, agent: whose decisions in which episodes.
        signals: advantages of the reward and of its own costs, given the agents before it, [B, K, 1 + m].
        outputs, log_std: logits or means of its decisions [N, outputs], and the deviation of continuous ones.
        logp: log-probabilities of its actions, [B, K].
    """

    actor: Actor
    batch: Batch
    agent: int
    signals: Tensor
    outputs: Tensor
    log_std: Tensor
    logp: Tensor

    def ratio(self) -> Tensor:
        """Probabilities of the actions taken, now over then, [B, K]; 1 where the agent did not act."""
        return (self.actor.agent_log_probs(self.batch, self.agent)[0] - self.logp).exp()

    def changes(self) -> Tensor:
        """By how much reward and own costs of an episode rise, [1 + m]."""
        return per_episode((self.ratio() - 1)[..., None] * self.signals, self.batch.weight)

    def kl(self) -> Tensor:
        """Mean KL of a decision from then to now."""
        taken, outputs, _ = self.actor.decisions(self.batch, self.agent)
        if self.actor.agents[self.agent].discrete:
            kl = categorical_kl(self.outputs.log_softmax(1), outputs.log_softmax(1))
        else:
            kl = gaussian_kl(self.outputs, self.log_std, outputs, log_std_of(self.actor, self.agent))
        weight = self.batch.weight[:, None].expand(taken.shape)[taken]
        return (weight * kl).sum() / weight.sum() if len(kl) else kl.sum()


@torch.no_grad()
def view_of(actor: Actor, batch: Batch, agent: int, signals: Tensor) -> View:
    """The agent's present policy as the one to leave."""
    outputs, log_std = actor.decisions(batch, agent)[1], log_std_of(actor, agent).clone()
    return View(actor, batch, agent, signals, outputs, log_std, actor.agent_log_probs(batch, agent)[0])


def log_std_of(actor: Actor, agent: int) -> Tensor:
    """Of an agent's continuous actions, [D]; [0] where they are discrete."""
    return torch.zeros(0) if actor.agents[agent].discrete else actor.log_stds[str(agent)]


def take_step(view: View, excess: Floats, settings: MACPO) -> tuple[Step, Accepted | None]:
    """Move the agent's parameters by the best step that the line search accepts, or not at all."""
    parameters = view.actor.parameters_of(view.agent)
    gradients = torch.stack([flat(torch.autograd.grad(c, parameters, retain_graph=True)) for c in view.changes()])
    product = fisher_product(view.kl, parameters, settings.damping)
    step = constrained_step(gradients[0], gradients[1:], excess, product, settings.delta, settings.iterations)
    start = flat(parameters).detach()

    @torch.no_grad()
    def evaluate(x: Tensor) -> tuple[float, float, Tensor]:
        assign(parameters, start + x)
        reward, costs = view.changes().double().split([1, len(excess)])
        return float(view.kl()), float(reward), costs

    limit = settings.kl_tolerance * settings.delta
    accepted = line_search(evaluate, step, excess, limit, settings.shrink, settings.attempts)
    assign(parameters, start if accepted is None else start + accepted.x)
    return step, accepted


def per_episode(values: Tensor, weight: Tensor) -> Tensor:
    """Totals of episodes, averaged over them with weights [B]: [B, K, S] to [S]."""
    return weight @ values.sum(1) / weight.sum()

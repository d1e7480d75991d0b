"""The training loop on vectors: play a round, estimate, improve the actor, fit the critic; again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from nextstep_agents.algorithms.types import Memory
from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.learning.constraints import Constraints
from nextstep_agents.learning.estimates import Scales, Targets, estimate, fit
from nextstep_agents.learning.play import SEED_RANGE, Round, play
from nextstep_agents.learning.settings import LearnSettings
from nextstep_agents.learning.stages import Stage
from nextstep_agents.policies.mlp import Actor, Critic, Normaliser
from nextstep_agents.rollout import Start
from nextstep_envs.seeding import derive

ROUND = 2048  # decisions of a round, about, where episodes are long
MOST, FEWEST = 128, 8  # episodes of a round; an algorithm with `episodes` has a largest number of its own
ROUNDS = 400  # a run that is long enough for more rounds has more than `MOST` episodes in each: that is faster
FLOOR = 0.05  # share of the learning rate at the end
BETAS = (0.5, 0.999)  # of the actor's Adam: with the usual momentum a policy follows its multipliers late, and swings
OPENING = 40  # passes of the critic over the first round, before its advantages are taken from it


@dataclass
class Learner:
    """Everything that changes in the course of a run.

    Attributes:
        actor, critic: the networks; no critic for algorithms that do without.
        optimiser, critic_optimiser: theirs.
        memory: the algorithm's.
        scales: None before the first round.
        round: rounds done. steps: decisions taken.
        length: mean decisions of an episode in the last round; 0 before the first.
    """

    actor: Actor
    critic: Critic | None
    optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer | None
    memory: Memory
    scales: Scales | None = None
    round: int = 0
    steps: int = 0
    length: float = 0.0


def make_learner(stage: Stage, settings: LearnSettings, constraints: Constraints) -> Learner:
    """A new run's learner, its weights drawn from the run's seed."""
    generator = torch.Generator().manual_seed(derive(settings.seed, "weights"))
    actor = Actor(stage.agents, settings.mlp, generator)
    optimiser = torch.optim.Adam(_groups(actor), lr=settings.learning_rate, betas=BETAS, fused=True)
    memory = settings.method.start(len(constraints))
    if not settings.method.critic:
        return Learner(actor, None, optimiser, None, memory)
    critic = Critic(actor, 1 + len(constraints), settings.mlp, generator)
    critic_optimiser = torch.optim.Adam(critic.parameters(), lr=settings.critic_learning_rate, fused=True)
    return Learner(actor, critic, optimiser, critic_optimiser, memory)


def learn_round(
    learner: Learner,
    stage: Stage,
    settings: LearnSettings,
    constraints: Constraints,
    gamma: float,
    lam: float,
    measure: Callable[[Round], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """One round; changes the learner and returns the round's metrics.

    Raises:
        TrainingError: too many episodes failed, none was complete, or a gradient is not finite.
    """
    method, progress = settings.method, min(1.0, learner.steps / settings.total_steps)
    share = 1 - (1 - FLOOR) * progress
    _set_rate(learner.optimiser, settings.learning_rate * share)
    starts = _starts(learner, settings, method.group_size, gamma)
    played = play(stage, learner.actor, starts, derive(settings.seed, "actions", learner.round), settings.max_decisions)
    _check(played, settings, len(constraints) > 0)
    opening = learner.round == 0 and _unacquainted(learner.actor)
    if opening:  # before anything is fitted to observations as they are; a new policy is much the same either way
        learner.actor.take_in(played.batch)
        with torch.no_grad():
            logprobs = learner.actor.log_probs(played.batch)[0]
        played = replace(played, batch=replace(played.batch, logprobs=logprobs))
    raw = constraints.costs(played.batch)
    totals = constraints.totals(raw.costs)[played.complete]
    returns = played.batch.returns[played.batch.weight > 0]
    scales = Scales.first(returns, totals, constraints) if learner.scales is None else learner.scales.after(returns)
    batch = scales.of(raw)
    judge = partial(estimate, played, batch, learner.critic, constraints, scales, gamma, lam, progress)
    estimates, targets = judge()
    if learner.round == 0 and targets is not None:  # the size of the first advantages sets a scale
        _fit(learner, targets, settings, OPENING, share)
        estimates, targets = judge()
    learner.memory, metrics = method.improve(
        learner.actor,
        learner.optimiser,
        batch,
        estimates,
        learner.memory,
        derive(settings.seed, "update", learner.round),
    )
    if targets is not None:
        metrics |= _fit(learner, targets, settings, settings.critic_epochs, share)
    if not opening:
        learner.actor.take_in(played.batch)
    learner.scales, learner.length = scales, estimates.length
    learner.round += 1
    learner.steps += int(played.batch.decisions.sum())
    multipliers = scales.multipliers(learner.memory.get("multipliers", np.zeros(len(constraints))))
    for name, limit, cost in zip(constraints.names, constraints.limits, totals.mean(0).tolist(), strict=True):
        metrics |= {f"cost/{name}": cost, f"limit/{name}": float(limit), f"excess/{name}": cost - float(limit)}
    metrics |= {f"multiplier/{name}": float(m) for name, m in zip(constraints.names, multipliers, strict=True)}
    return {
        "round": float(learner.round),
        "steps": float(learner.steps),
        "return": float(returns.mean()),
        "return_std": float(returns.std(correction=0)),
        "episode_length": estimates.length,
        "episodes": float(len(starts)),
        "masked_rate": 1 - len(returns) / len(starts),
        "reward_scale": scales.reward,
        "learning_rate": settings.learning_rate * share,
        **metrics,
        **(measure(played) if measure is not None else {}),
    }


def episodes_of(length: float, settings: LearnSettings, group_size: int, gamma: float) -> int:
    """Episodes of the next round, whole groups; `length` is their mean number of decisions, 0 if unknown."""
    count = settings.episodes
    if count is None:
        length = length or (1.0 if gamma == 1.0 else ROUND)  # episodes that are cut off are long
        most = getattr(settings.method, "episodes", max(MOST, settings.total_steps / ROUNDS / length))
        count = int(np.clip(ROUND / length, FEWEST, most))
    return max(1, round(count / group_size)) * group_size


def _starts(learner: Learner, settings: LearnSettings, group_size: int, gamma: float) -> list[Start]:
    count = episodes_of(learner.length, settings, group_size, gamma)
    return [
        Start(
            derive(settings.seed, "episode", learner.round, i // group_size) % SEED_RANGE,
            i % group_size,
            i // group_size,
        )
        for i in range(count)
    ]


def _fit(learner: Learner, targets: Targets, settings: LearnSettings, epochs: int, share: float) -> dict[str, float]:
    assert learner.critic is not None and learner.critic_optimiser is not None
    _set_rate(learner.critic_optimiser, settings.critic_learning_rate * share)
    seed = derive(settings.seed, "critic", learner.round)
    return fit(learner.critic, learner.critic_optimiser, targets, epochs, settings.critic_batch_size, seed)


def _unacquainted(actor: Actor) -> bool:
    return any(isinstance(one, Normaliser) and float(one.count) == 0 for one in actor.normalisers)


def _groups(actor: Actor) -> list[dict[str, Any]]:
    """The actor's parameters for an optimiser, its output biases apart from the rest.

    Adam moves every parameter by the same step. What many states have in common, such as that an action is worth little
    everywhere, is learned by an output bias alone where normalised observations leave hidden units around 0, and one
    parameter is slow: it may go as fast as the weights of half the units together.
    """
    seen = zip(actor.nets, actor.normalisers, strict=False)
    last = [cast(torch.nn.Linear, list(net.children())[-1]) for net, one in seen if isinstance(one, Normaliser)]
    share = max([1.0, *(layer.in_features / 2 for layer in last)]) if actor.settings.hidden else 1.0
    biases = [layer.bias for layer in last]
    others = [one for one in actor.parameters() if all(one is not bias for bias in biases)]
    return [{"params": others, "share": 1.0}, *([{"params": biases, "share": share}] if biases else [])]


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def _check(played: Round, settings: LearnSettings, constrained: bool) -> None:
    failed = 1 - float((played.batch.weight > 0).float().mean())
    if failed > settings.max_masked_rate:
        raise TrainingError(
            f"{failed:.1%} of the episodes of a round failed, more than max_masked_rate="
            f"{settings.max_masked_rate:.1%}: repair the provider, or allow more"
        )
    if constrained and not bool(played.complete.any()):
        raise TrainingError(
            f"no episode of a round came to its end within max_decisions={settings.max_decisions}, so its cost is "
            "unknown; raise it, or give the environment a time limit of its own"
        )

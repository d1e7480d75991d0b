"""A network that does as an offline plan does: where constrained learning begins, instead of asking at random."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.policies.mlp import Actor, MLPSettings, Normaliser
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_agents.policies.trained import MLPPolicy
from nextstep_agents.recorded.learned import vectors
from nextstep_agents.recorded.play import Integers, Values, ask, seat
from nextstep_envs.env import make_spaces
from nextstep_envs.recorded.board import Board
from nextstep_envs.recorded.rules import QuestionRouting
from nextstep_envs.seeding import derive
from nextstep_envs.setup import Setup

BATCH = 256


class Judge(Protocol):
    """Knows what every action is worth."""

    def worth(self, board: Board) -> Values:
        """Of every action, up to a constant for each episode [N, W + 1]; -inf for those it would never take."""
        ...


def imitate(
    judge: Judge,
    setup: Setup,
    rows: Integers,
    temperature: float = 0.02,
    mlp: MLPSettings | None = None,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    decay: float = 1e-2,
    seed: int = 0,
) -> MLPPolicy:
    r"""A policy near $\pi(a \mid s) \propto \exp(Q(s, a) / \tau)$ of what a judge says about training questions.

    It sees the environment's own vectors. Episodes are played with that distribution, every question twice, and the
    network learns it by cross-entropy.

    Args:
        judge: of actions.
        setup: of the environment that the policy is for (`env.unwrapped.setup`).
        rows: training questions.
        temperature: tau, in right answers; a policy that is not quite certain can still learn.
        mlp: shape of the network.
        epochs, learning_rate, decay: of AdamW; the rate falls linearly to 0.
        seed: of weights, episodes and batches.
    """
    rules = setup.rules
    assert isinstance(rules, QuestionRouting)
    seen, masks, wanted = _visited(judge, rules, np.repeat(rows, 2), temperature, derive(seed, "imitated episodes"))
    generator = torch.Generator().manual_seed(derive(seed, "imitation"))
    actor = Actor([AgentSpaces(*make_spaces(setup))], mlp or MLPSettings(), generator)
    for normaliser in actor.normalisers:
        if isinstance(normaliser, Normaliser):
            normaliser.update(seen)
    optimiser = torch.optim.AdamW(actor.parameters(), lr=learning_rate, weight_decay=decay)
    steps = epochs * max(1, len(seen) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(seen), generator=generator).chunk(max(1, len(seen) // BATCH)):
            logp = actor.outputs(0, seen[part], masks[part]).log_softmax(1)
            loss = -(wanted[part] * logp.clamp(min=-1e3)).sum(1).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return MLPPolicy(actor, 0, derive(seed, "policy"))


def _visited(
    judge: Judge, rules: QuestionRouting, rows: Integers, temperature: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, masks and wanted probabilities of every decision of one episode a row, by the wanted distribution."""
    board, workers, rng = seat(rules.world, rows), len(rules.pool), np.random.default_rng(seed)
    going, found = np.arange(len(rows)), []
    while going.size:
        here = board.take(going)
        seen, masks = vectors(rules, here)
        values = np.where(masks, judge.worth(here), -np.inf)
        chances = np.exp((values - values.max(1, keepdims=True)) / temperature)
        chances /= chances.sum(1, keepdims=True)
        found.append((seen, masks.astype(bool), chances.astype(np.float32)))
        draws = rng.random((len(going), 1))
        chosen = (np.cumsum(chances, 1) <= draws * chances.sum(1, keepdims=True)).sum(1)
        going, chosen = going[chosen < workers], chosen[chosen < workers]
        ask(rules.world, board, going, chosen)
    views, legal, wanted = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
    return views, legal, wanted

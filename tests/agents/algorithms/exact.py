"""Tabular CMDPs solved exactly, as batches: every state and action once, weighted by how often it comes up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nextstep_agents.batch import Batch
from nextstep_agents.policies.mlp import Actor, MLPSettings
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_envs.tabular import TabularCMDP


def tabular_actor(cmdp: TabularCMDP, seed: int = 0) -> Actor:
    """A softmax over logits of their own for every state, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    spaces = AgentSpaces(cmdp.observation_space, cmdp.action_space)
    actor = Actor([spaces], MLPSettings(hidden=()), generator)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return actor.double()


def table(cmdp: TabularCMDP, actor: Actor) -> np.ndarray[Any, Any]:
    """The actor's probabilities [S, A]."""
    states = torch.eye(cmdp.n_states, dtype=next(actor.parameters()).dtype)
    with torch.no_grad():
        return actor.outputs(0, states, torch.from_numpy(cmdp.mask)).double().softmax(1).numpy()


def exact_batch(cmdp: TabularCMDP, actor: Actor) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """One row for each legal pair, weighted by its occupancy; advantages of the reward [B, 1] and costs [B, 1, K]."""
    policy = table(cmdp, actor)
    stay = cmdp.gamma * np.einsum("sa,sat->st", policy, cmdp.P)
    occupancy = np.linalg.solve(np.eye(cmdp.n_states) - stay.T, cmdp.mu)
    signals = np.concatenate([cmdp.R[None], cmdp.C])
    values = np.linalg.solve(np.eye(cmdp.n_states) - stay, np.einsum("sa,ksa->sk", policy, signals))
    advantage = signals + cmdp.gamma * np.einsum("sat,tk->ksa", cmdp.P, values) - values.T[:, :, None]
    states, actions = np.nonzero(cmdp.mask)
    n = len(states)
    weight = torch.from_numpy((occupancy[:, None] * policy)[states, actions])
    chosen = torch.from_numpy(advantage[:, states, actions])
    batch = Batch(
        tokens=torch.from_numpy(actions)[:, None],
        turn=torch.zeros(n, 1, dtype=torch.long),
        action=torch.ones(n, 1, dtype=torch.bool),
        logprobs=torch.from_numpy(np.log(policy[states, actions]))[:, None],
        rewards=torch.from_numpy(cmdp.R[states, actions])[:, None],
        costs=torch.from_numpy(cmdp.C[:, states, actions].T)[:, None, :],
        weight=weight,
        group=torch.arange(n),
        inputs={
            "observation.0": torch.eye(cmdp.n_states, dtype=torch.float64)[states][:, None],
            "mask.0": torch.from_numpy(cmdp.mask[states])[:, None],
        },
    )
    return batch, chosen[0][:, None], chosen[1:].T[:, None, :]


def slope(actor: Actor, value: Callable[[], float], direction: torch.Tensor, step: float = 1e-5) -> float:
    """How a function of the actor's parameters rises along a direction, by a central difference."""
    parameters = list(actor.parameters())
    here = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    found = []
    for side in (step, -step):
        torch.nn.utils.vector_to_parameters(here + side * direction, parameters)
        found.append(value())
    torch.nn.utils.vector_to_parameters(here, parameters)
    return (found[0] - found[1]) / (2 * step)

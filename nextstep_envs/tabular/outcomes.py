"""What can come of a decision: finitely many outcomes, each with a probability, a next state, a reward and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of every state and action; B is the largest number that any has, shorter lists end in probability 0.

    Attributes:
        probability: [S, A, B], rows sum to 1.
        next_state: int [S, A, B]; S means that the episode ends.
        reward: [S, A, B].
        costs: [S, A, B, K].
    """

    probability: Floats
    next_state: npt.NDArray[np.int64]
    reward: Floats
    costs: Floats

    def expected(self) -> tuple[Floats, Floats, Floats]:
        """Transitions [S, A, S], rewards [S, A] and costs [K, S, A] in expectation."""
        n_states, n_actions, _ = self.probability.shape
        transitions: Floats = self.matrix().toarray().reshape(n_states, n_actions, n_states)
        reward = (self.probability * self.reward).sum(-1)
        return transitions, reward, np.einsum("sab,sabk->ksa", self.probability, self.costs)

    def matrix(self) -> Any:
        """Transitions as a sparse matrix [S * A, S]; what is missing from a row ends the episode."""
        n_states, n_actions, width = self.probability.shape
        goes_on = (self.next_state < n_states) & (self.probability > 0)
        rows = np.repeat(np.arange(n_states * n_actions), width)[goes_on.ravel()]
        entries = self.probability[goes_on], (rows, self.next_state[goes_on])
        return sparse.csr_array(entries, shape=(n_states * n_actions, n_states))

    def only(self, mask: Flags) -> Outcomes:
        """The same, where decisions outside `mask` [S, A] end the episode and bring nothing."""
        ends = np.zeros_like(self.probability)
        ends[..., 0] = 1.0
        legal = mask[..., None]
        return Outcomes(
            np.where(legal, self.probability, ends),
            np.where(legal, self.next_state, mask.shape[0]),
            np.where(legal, self.reward, 0.0),
            np.where(legal[..., None], self.costs, 0.0),
        )

    def over_time(self, horizon: int) -> Outcomes:
        """The same with time in the state: state s at time t is number `t * S + s`, and the last step ends."""
        n_states = self.probability.shape[0]
        time = np.arange(horizon)[:, None, None, None]
        goes_on = (self.next_state < n_states) & (time < horizon - 1)
        following = np.where(goes_on, (time + 1) * n_states + self.next_state, horizon * n_states)
        return Outcomes(
            np.tile(self.probability, (horizon, 1, 1)),
            following.reshape(-1, *self.next_state.shape[1:]),
            np.tile(self.reward, (horizon, 1, 1)),
            np.tile(self.costs, (horizon, 1, 1, 1)),
        )


def from_expectations(transitions: Floats, reward: Floats, costs: Floats) -> Outcomes:
    """Outcomes that draw the next state and pay reward and costs as expected.

    Args:
        transitions: [S, A, S]; what is missing from a row ends the episode.
        reward: [S, A].
        costs: [K, S, A].
    """
    n_states, n_actions, _ = transitions.shape
    width = int((transitions > 0).sum(-1).max(initial=0))
    order = np.argsort(transitions <= 0, axis=-1, kind="stable")[..., :width]  # what is possible comes first
    ends = np.maximum(1.0 - transitions.sum(-1, keepdims=True), 0.0)
    return Outcomes(
        np.concatenate([np.take_along_axis(transitions, order, -1), ends], -1),
        np.concatenate([order, np.full((n_states, n_actions, 1), n_states)], -1),
        np.repeat(reward[..., None], width + 1, -1),
        np.repeat(np.moveaxis(costs, 0, -1)[:, :, None, :], width + 1, 2),
    )


def cumulative(probability: Floats) -> Floats:
    """Cumulative sums over the last axis: entry b comes of the uniform numbers in [sum of those before, its own)."""
    positive = probability > 0
    later: Floats = np.flip(np.cumsum(np.flip(positive, -1), -1), -1) - positive
    # Rounding must not leave a gap below 1 through which something impossible could come.
    return np.where(later == 0, 1.0, np.cumsum(probability, -1))

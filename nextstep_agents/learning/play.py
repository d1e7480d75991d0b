"""Plays whole episodes with an actor and makes a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextstep_agents.algorithms.update import TrainingError
from nextstep_agents.batch import Batch
from nextstep_agents.learning.stages import Moved, Seen, Stage
from nextstep_agents.policies.mlp import Actor
from nextstep_agents.rollout import Start

LONGEST = 100_000  # decisions of an episode that is taken for endless
SEED_RANGE = 2**31  # of environment seeds: what every third-party environment takes


@dataclass(frozen=True)
class Round:
    """Episodes as they were played.

    Attributes:
        batch: with every column of costs, in raw units.
        last: what every agent saw after the last decision of each episode, [B, F_i] each.
        truncated: bool [B]: cut off, so that what would have followed counts.
        complete: bool [B]: episodes whose totals may be judged: neither failed nor stopped by us.
    """

    batch: Batch
    last: tuple[Tensor, ...]
    truncated: Tensor
    complete: Tensor


@torch.no_grad()
def play(
    stage: Stage,
    actor: Actor,
    starts: Sequence[Start],
    seed: int,
    max_decisions: int | None = None,
    greedy: bool = False,
) -> Round:
    """Play one episode for each start, as many at once as the stage has slots.

    Every episode is played to its end, so no kind of episode is over-represented for being short.

    Args:
        max_decisions: stop an episode after so many; it is bootstrapped and its totals are not judged.
        seed: of the actions.
        greedy: take the likeliest action instead of a sample.

    Raises:
        TrainingError: an episode does not end.
    """
    generator = torch.Generator().manual_seed(seed)
    waiting = list(range(len(starts)))[::-1]
    length = np.zeros(len(starts), np.int64)
    ends = np.zeros((3, len(starts)), bool)  # truncated, failed, stopped by us
    steps: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Seen, list[Any], list[Any], Moved]] = []
    last: list[Any] = [None] * len(starts)
    slots = list(range(min(stage.size, len(starts))))
    rows = np.array([waiting.pop() for _ in slots])
    seen = stage.reset(slots, [starts[row] for row in rows])
    while slots:
        actions, logps = [], []
        for i in range(len(stage.agents)):
            views, masks = torch.from_numpy(seen.vectors[i]), torch.from_numpy(seen.masks[i])
            action, logp = actor.best(i, views, masks) if greedy else actor.sample(i, views, masks, generator)
            actions.append(action.numpy())
            logps.append(logp.numpy())
        moved = stage.step(slots, actions)
        steps.append((rows, length[rows], seen, actions, logps, moved))
        length[rows] += 1
        if length.max() > LONGEST:
            raise TrainingError(f"an episode goes on after {LONGEST} decisions; set max_decisions, or add a TimeLimit")
        cut = np.zeros(len(rows), bool)
        if max_decisions is not None:
            cut = (length[rows] >= max_decisions) & ~moved.terminated & ~moved.truncated
        over = moved.terminated | moved.truncated | cut
        ends[:, rows] = np.stack([moved.truncated & ~moved.terminated | cut, moved.failed, cut])
        seen = moved.seen
        if over.any():
            for at in np.flatnonzero(over):
                last[rows[at]] = [view[at] for view in seen.vectors]
            slots, rows, seen = _refill(stage, slots, rows, seen, over, waiting, starts)
    batch = _batch(stage, starts, steps, int(length.max()), ~ends[1])
    final = tuple(torch.from_numpy(np.stack([one[i] for one in last])) for i in range(len(stage.agents)))
    truncated, failed, stopped = (torch.from_numpy(flags) for flags in ends)
    return Round(batch, final, truncated, ~failed & ~stopped)


def _refill(
    stage: Stage,
    slots: list[int],
    rows: np.ndarray[Any, Any],
    seen: Seen,
    over: np.ndarray[Any, Any],
    waiting: list[int],
    starts: Sequence[Start],
) -> tuple[list[int], np.ndarray[Any, Any], Seen]:
    """Free the slots whose episodes are over and begin waiting episodes in them."""
    free = [slots[at] for at in np.flatnonzero(over)]
    going = np.flatnonzero(~over)
    slots, rows, seen = [slots[at] for at in going], rows[going], _some(seen, going)
    begun = free[: len(waiting)]
    if begun:
        fresh = np.array([waiting.pop() for _ in begun])
        opening = stage.reset(begun, [starts[row] for row in fresh])
        slots, rows, seen = slots + begun, np.concatenate([rows, fresh]), _joined(seen, opening)
    return slots, rows, seen


def _some(seen: Seen, which: np.ndarray[Any, Any]) -> Seen:
    return Seen(tuple(v[which] for v in seen.vectors), tuple(m[which] for m in seen.masks), seen.acts[which])


def _joined(a: Seen, b: Seen) -> Seen:
    vectors = tuple(np.concatenate(pair) for pair in zip(a.vectors, b.vectors, strict=True))
    masks = tuple(np.concatenate(pair) for pair in zip(a.masks, b.masks, strict=True))
    return Seen(vectors, masks, np.concatenate([a.acts, b.acts]))


def _batch(
    stage: Stage, starts: Sequence[Start], steps: Sequence[Any], width: int, counts: np.ndarray[Any, Any]
) -> Batch:
    """Steps in the order they were taken as padded tensors."""
    n, size = len(stage.agents), len(starts)
    at = np.concatenate([rows for rows, *_ in steps]), np.concatenate([times for _, times, *_ in steps])

    def padded(parts: Sequence[np.ndarray[Any, Any]], dtype: Any) -> Tensor:
        values = np.concatenate(parts)
        out = np.zeros((size, width, *values.shape[1:]), dtype)
        out[at] = values
        return torch.from_numpy(out)

    acts = padded([seen.acts for _, _, seen, *_ in steps], bool)
    inputs, tokens, logprobs = {}, [], []
    for i, spaces in enumerate(stage.agents):
        inputs[f"observation.{i}"] = padded([step[2].vectors[i] for step in steps], np.float32)
        inputs[f"mask.{i}"] = padded([step[2].masks[i] for step in steps], bool)
        actions = [step[3][i] for step in steps]
        if spaces.discrete:
            tokens.append(padded(actions, np.int64))
        else:
            inputs[f"action.{i}"] = padded(actions, np.float32)
            tokens.append(torch.zeros(size, width, dtype=torch.long))
        logprobs.append(padded([step[4][i] for step in steps], np.float32))
    taken = padded([np.ones(len(rows), bool) for rows, *_ in steps], bool)
    turn = torch.where(taken, torch.arange(width), -1)
    return Batch(
        tokens=torch.stack(tokens, 2).flatten(1),
        turn=turn[..., None].expand(size, width, n).flatten(1),
        action=acts.flatten(1),
        logprobs=torch.stack(logprobs, 2).flatten(1),
        rewards=padded([step[5].reward for step in steps], np.float32),
        costs=padded([step[5].costs for step in steps], np.float64),
        weight=torch.from_numpy(counts.astype(np.float32)),
        group=torch.tensor([start.group for start in starts]),
        inputs=inputs,
    )

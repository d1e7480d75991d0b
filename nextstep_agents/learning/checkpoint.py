"""A learner as tensors and plain data, from which it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from nextstep_agents.checkpoint import (
    optimiser_state,
    read_state,
    read_tensors,
    replace_checkpoint,
    restore_optimiser,
    write_state,
)
from nextstep_agents.learning.estimates import Scales
from nextstep_agents.learning.learner import Learner

FILE = "learner.safetensors"


@dataclass(frozen=True)
class Best:
    """The best policy so far.

    Attributes:
        violation: relative excess over the budget that it exceeds most; 0 for none.
        value: mean return.
        weights: of the actor.
    """

    violation: float
    value: float
    weights: Mapping[str, Tensor]

    def beats(self, other: Best | None) -> bool:
        """Whether it is the better one: fewer excesses first, then the return."""
        return other is None or (self.violation, -self.value) < (other.violation, -other.value)


def save_learner(folder: Path, learner: Learner, best: Best | None) -> None:
    """Write a checkpoint in place of the last one."""
    parts: dict[str, Mapping[str, Tensor]] = {"actor": learner.actor.state_dict(), "memory": _tensors(learner.memory)}
    state: dict[str, Any] = {"round": learner.round, "steps": learner.steps, "length": learner.length}
    parts["optimiser"], state["optimiser"] = optimiser_state(learner.optimiser)
    if learner.critic is not None and learner.critic_optimiser is not None:
        parts["critic"] = learner.critic.state_dict()
        parts["critic_optimiser"], state["critic_optimiser"] = optimiser_state(learner.critic_optimiser)
    if learner.scales is not None:
        parts["scales"] = _tensors(learner.scales.arrays())
    if best is not None:
        parts["best"], state["best"] = best.weights, [best.violation, best.value]
    tensors = {f"{part}.{name}": value.contiguous() for part, inner in parts.items() for name, value in inner.items()}

    def write(new: Path) -> None:
        save_file(tensors, new / FILE)
        write_state(new, state)

    replace_checkpoint(folder, learner.round, write)


def restore_learner(checkpoint: Path, learner: Learner) -> Best | None:
    """Put a new learner of the same run where the saved one stood; returns its best policy so far."""
    state = read_state(checkpoint)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(checkpoint / FILE).items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor
    learner.actor.load_state_dict(parts["actor"])
    restore_optimiser(learner.optimiser, parts.get("optimiser", {}), state["optimiser"])
    if learner.critic is not None and learner.critic_optimiser is not None:
        learner.critic.load_state_dict(parts["critic"])
        restore_optimiser(learner.critic_optimiser, parts.get("critic_optimiser", {}), state["critic_optimiser"])
    learner.memory = {name: tensor.numpy() for name, tensor in parts.get("memory", {}).items()}
    if "scales" in parts:
        learner.scales = Scales.restored({name: tensor.numpy() for name, tensor in parts["scales"].items()})
    learner.round, learner.steps, learner.length = state["round"], state["steps"], state["length"]
    if "best" not in state:
        return None
    violation, value = state["best"]
    return Best(violation, value, parts["best"])


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

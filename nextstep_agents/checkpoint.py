"""Saves and restores a training run: weights and optimiser as safetensors, the rest as JSON. No pickle.

All randomness of a run is named by (seed, step), so weights, optimiser state and the step are the whole state, and a
run that was killed at any moment goes on bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from nextstep_agents.policies.llm import LLMPolicy
from nextstep_envs.errors import DataError

LATEST = "latest"


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: training steps done.
        best: highest dev reward so far (-inf: none), and best_step when it was.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0


def save_checkpoint(folder: Path, policy: LLMPolicy, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint beside the last one, then put it in its place: a kill leaves one of the two whole."""
    name = f"step-{progress.step:06d}"
    new = folder / f".{name}.tmp"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    policy.save(new / "policy")
    tensors, scalars = _flatten(optimiser)
    save_file(tensors, new / "optimiser.safetensors")
    state = {"step": progress.step, "best": repr(progress.best), "best_step": progress.best_step, "optimiser": scalars}
    (new / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    final = folder / name
    shutil.rmtree(final, ignore_errors=True)
    new.rename(final)
    write_text(folder / LATEST, name)
    for old in folder.glob("step-*"):
        if old.name != name:
            shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    pointer = folder / LATEST
    return folder / pointer.read_text().strip() if pointer.exists() else None


def load_progress(checkpoint: Path, optimiser: torch.optim.Optimizer) -> Progress:
    """Restore the optimiser (the policy is at `checkpoint / "policy"`) and say how far the run had come."""
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        tensors = load_file(checkpoint / "optimiser.safetensors")
    except (OSError, ValueError) as error:
        raise DataError(f"checkpoint {checkpoint} is not whole: {error}") from error
    stored = optimiser.state_dict()
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor
    stored["state"] = entries
    for group, values in zip(stored["param_groups"], state["optimiser"], strict=True):
        group.update(values)
    optimiser.load_state_dict(stored)
    return Progress(state["step"], float(state["best"]), state["best_step"])


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _flatten(optimiser: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The optimiser's tensors by "<parameter>.<name>", and the learning rate of each group."""
    stored = optimiser.state_dict()
    tensors = {
        f"{index}.{key}": value.contiguous()
        for index, entry in stored["state"].items()
        for key, value in entry.items()
        if isinstance(value, torch.Tensor)
    }
    return tensors, [{"lr": float(group["lr"])} for group in stored["param_groups"]]

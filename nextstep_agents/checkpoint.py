"""Saves and restores training runs: weights and optimiser as safetensors, the rest as JSON. No pickle.

All randomness of a run is named by (seed, step), so weights, optimiser state and the step are the whole state, and a
run that was killed at any moment goes on bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nextstep_envs.errors import DataError

LATEST = "latest"
STATE = "state.json"


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


def save_checkpoint(folder: Path, policy: Any, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint of a policy that saves itself."""

    def write(new: Path) -> None:
        policy.save(new / "policy")
        tensors, scalars = optimiser_state(optimiser)
        save_file(tensors, new / "optimiser.safetensors")
        best = {"best": repr(progress.best), "best_step": progress.best_step}
        write_state(new, {"step": progress.step, **best, "optimiser": scalars})

    replace_checkpoint(folder, progress.step, write)


def load_progress(checkpoint: Path, optimiser: torch.optim.Optimizer) -> Progress:
    """Restore the optimiser (the policy is at `checkpoint / "policy"`) and say how far the run had come."""
    state, tensors = read_state(checkpoint), read_tensors(checkpoint / "optimiser.safetensors")
    restore_optimiser(optimiser, tensors, state["optimiser"])
    return Progress(state["step"], float(state["best"]), state["best_step"])


def replace_checkpoint(folder: Path, step: int, write: Callable[[Path], None]) -> None:
    """Have a checkpoint written beside the last one, then put it in its place: a kill leaves one of the two whole."""
    name = f"step-{step:06d}"
    new = folder / f".{name}.tmp"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
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


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The optimiser's tensors by "<parameter>.<name>", and the learning rate of each group."""
    stored = optimiser.state_dict()
    tensors = {
        f"{index}.{key}": value.contiguous()
        for index, entry in stored["state"].items()
        for key, value in entry.items()
        if isinstance(value, Tensor)
    }
    return tensors, [{"lr": float(group["lr"])} for group in stored["param_groups"]]


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], scalars: list[dict[str, Any]]
) -> None:
    """Put back what `optimiser_state` gave."""
    stored = optimiser.state_dict()
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor
    stored["state"] = entries
    for group, values in zip(stored["param_groups"], scalars, strict=True):
        group.update(values)
    optimiser.load_state_dict(stored)


def write_state(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Write what is no tensor."""
    (checkpoint / STATE).write_text(json.dumps(state, indent=1) + "\n")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `write_state` wrote; `DataError` if it is not whole."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"checkpoint {checkpoint} is not whole: {error}") from error
    return state


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file; `DataError` if it is not whole."""
    try:
        return load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{file} is not whole: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)

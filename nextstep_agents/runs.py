"""What every run has: a folder with its settings, a callback, and evaluations on the same episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nextstep_agents.checkpoint import write_text
from nextstep_envs.errors import ConfigError

Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Called during training with how far it is, in the units of `total_steps`, and metrics; returning False ends it."""

EVALUATION_SEED = 1_000_003  # of evaluations: the same for every run, so that runs can be compared
FOLDERS = "runs/%Y-%m-%d_%H-%M-%S"  # where a run goes that has to be somewhere and is told nothing else
FILE = "settings.json"
IRRELEVANT = ("log_dir", "log_level", "resume", "checkpoint_every")  # they do not change what is computed


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """So many threads of torch, for as long as this lasts: small networks lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def claim(log_dir: str, settings: Any, resume: bool) -> Path:
    """A new folder for a run, or that of the run to resume.

    Args:
        log_dir: its path.
        settings: a dataclass, kept as JSON in `settings.json`.
        resume: go on with the run that is there.

    Raises:
        ConfigError: the folder holds a run already; or, when resuming, none, or one with other settings: going on with
            others would be neither run.
    """
    folder, now = Path(log_dir), stored(settings)
    file = folder / FILE
    if resume:
        if not file.exists():
            raise ConfigError(f"log_dir={log_dir!r} holds no run to resume")
        _check_same(file, now)
    elif file.exists():
        raise ConfigError(f"log_dir={log_dir!r} already holds a run; choose another folder, or set resume=True")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(now, indent=1) + "\n")
    return folder


def stored(settings: Any) -> dict[str, Any]:
    """The settings as JSON gives them back, without those that do not change what is computed."""
    kept = {name: value for name, value in asdict(settings).items() if name not in IRRELEVANT}
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=_plain))
    return plain


def _check_same(file: Path, now: dict[str, Any]) -> None:
    before = json.loads(file.read_text())
    names = dict.fromkeys([*now, *before])
    changed = [f"{n}={now.get(n)!r} (was {before.get(n)!r})" for n in names if now.get(n) != before.get(n)]
    if changed:
        raise ConfigError(f"the run in {str(file.parent)!r} has other settings; repeat them: {', '.join(changed)}")


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as Python's; anything else by its name."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)

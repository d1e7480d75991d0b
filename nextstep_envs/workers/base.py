"""Who can be given work: a worker's public face, separate from how it works."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from nextstep_envs.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an orchestrator may know of a worker.

    Attributes:
        worker_id: its name in actions.
        description: one line for the prompt.
        usd_per_mtok_in, usd_per_mtok_out: price in US dollars of a million prompt / completion tokens.
        params_b: model size in billions of parameters (for FLOPs: 2 * size * tokens).
        skills: (domain, level in [0, 1]) pairs, every worker of a pool with the same domains.
        model: what it runs on, as "<provider>:<model>"; "" where it is no model. Orchestrators are not shown it.
    """

    worker_id: str
    description: str
    usd_per_mtok_in: float
    usd_per_mtok_out: float
    params_b: float = 0.0
    skills: tuple[tuple[str, float], ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        for name in ("usd_per_mtok_in", "usd_per_mtok_out", "params_b"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"worker {self.worker_id!r}: {name}={getattr(self, name)} must be a number >= 0")
        for domain, level in self.skills:
            if not 0 <= level <= 1:
                raise ConfigError(f"worker {self.worker_id!r}: skill {domain}={level} must lie in [0, 1]")


def draw_pool(specs: tuple[WorkerSpec, ...], size: int, rng: random.Random) -> tuple[WorkerSpec, ...]:
    """`size` of the workers, 1 to all of them, in their order."""
    keep = set(rng.sample(range(len(specs)), size))
    return tuple(spec for i, spec in enumerate(specs) if i in keep)

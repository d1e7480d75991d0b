"""Changes who can be hired and at what price, to see how an orchestrator copes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.seeding import stream
from nextstep_envs.workers.base import WorkerSpec, draw_pool


class WorkerPoolShift(RecordConstructorArgs, gym.Wrapper[Any, Any, Any, Any]):
    """Another worker pool than the one an orchestrator was trained with.

    Spaces stay as they are: a dropped worker keeps its slot and is masked, as one that was not drawn. The pool of an
    episode depends on the seed given to `reset` and, without one, goes on from the last.

    Args:
        env: an environment whose `reset` takes `options["pool"]`.
        drop: ids of workers that are never there.
        size: how many of the others are drawn for each episode; by default as many as the environment draws, or
            all of them where fewer are left.
        price_factor: what prices are multiplied by, one number or one for each worker id. Budgets in dollars, the
            costs "usd" and the prices in the observation follow.

    Raises:
        ConfigError: an unknown worker, nobody left, or a size or factor out of range.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        drop: Sequence[str] = (),
        size: int | None = None,
        price_factor: float | Mapping[str, float] = 1.0,
    ) -> None:
        RecordConstructorArgs.__init__(self, drop=drop, size=size, price_factor=price_factor)
        gym.Wrapper.__init__(self, env)
        specs: tuple[WorkerSpec, ...] = env.get_wrapper_attr("worker_specs")
        known = [spec.worker_id for spec in specs]
        if isinstance(drop, str):
            raise ConfigError(f"drop={drop!r} must be a sequence of worker ids, such as [{drop!r}]")
        for name in drop:
            check_choice("drop entry", name, known)
        factors = dict(price_factor) if isinstance(price_factor, Mapping) else dict.fromkeys(known, price_factor)
        for name, factor in factors.items():
            check_choice("price_factor entry", name, known)
            if not (math.isfinite(factor) and factor >= 0):
                raise ConfigError(f"price_factor of {name!r} is {factor!r}; it must be a finite number >= 0")
        self._present = tuple(_priced(s, factors.get(s.worker_id, 1.0)) for s in specs if s.worker_id not in drop)
        if not self._present:
            raise ConfigError(f"drop={tuple(drop)} leaves nobody of {', '.join(known)}")
        if size is not None and not 1 <= size <= len(self._present):
            raise ConfigError(f"size={size!r} must be from 1 to {len(self._present)}, the workers that are left")
        self._size = min(env.get_wrapper_attr("pool_size"), len(self._present)) if size is None else size
        self._rng = random.Random()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode with a shifted pool; of a pool in `options`, what is not dropped stays.

        Raises:
            ConfigError: nobody is left of the pool in `options`.
        """
        if seed is not None:
            self._rng = stream(seed, "pool shift")
        options = dict(options or {})
        if (asked := options.get("pool")) is None:
            pool = draw_pool(self._present, self._size, self._rng)
        else:
            pool = tuple(spec for spec in self._present if spec.worker_id in asked)
            if not pool:
                raise ConfigError(f"options['pool']={asked!r} holds only workers that this wrapper drops")
        return self.env.reset(seed=seed, options={**options, "pool": pool})


def _priced(spec: WorkerSpec, factor: float) -> WorkerSpec:
    return replace(spec, usd_per_mtok_in=spec.usd_per_mtok_in * factor, usd_per_mtok_out=spec.usd_per_mtok_out * factor)

"""Checks an environment's arguments once and builds the parts that single and vector environments share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import ArgumentError, ConfigError, check_choice
from nextstep_envs.ledger import COST_NAMES, check_budget
from nextstep_envs.machine import Machine, Orchestration
from nextstep_envs.protocols.base import BaseProtocol
from nextstep_envs.seeding import stream
from nextstep_envs.types import Budget
from nextstep_envs.workers.base import WorkerSpec, draw_pool
from nextstep_envs.workers.crew import Crew, WorkersArg, build_crew, place_of
from nextstep_envs.worlds.base import World
from registry import components

BudgetArg = Budget | Mapping[str, Any] | None
RESET_OPTIONS = ("task_id", "sample", "pool")
SPLITS = ("train", "dev", "test", "all")


@dataclass(frozen=True)
class Setup:
    """Everything about an environment that no episode changes."""

    world: World
    rules: Orchestration
    crew: Crew
    budget: Budget
    cost_names: tuple[str, ...]
    cost_limits: Mapping[str, float]
    split: str
    pool_size: int
    scored: bool
    text: bool

    def begin(self, episode: Machine, rng: np.random.Generator, options: Mapping[str, Any]) -> None:
        """Reset an episode: draw task and pool from `rng`, except what `options` fixes."""
        seed = int(rng.integers(1 << 62))
        task_id = options.get("task_id")
        if task_id is None:
            task_id = self.world.sample_id(self.split, stream(seed, "task"))
        episode.reset(str(task_id), self._pool(seed, options.get("pool")), seed, options.get("sample", 0))

    def episode(self) -> Machine:
        """An episode that waits for its first reset."""
        return self.rules.episode(self.world, self.crew.actors)

    def _pool(self, seed: int, given: Sequence[str | WorkerSpec] | None) -> tuple[WorkerSpec, ...]:
        specs = self.crew.specs
        if given is not None:
            changed = {entry.worker_id: entry for entry in given if isinstance(entry, WorkerSpec)}
            return tuple(changed.get(s.worker_id, s) for s in specs if s.worker_id in changed or s.worker_id in given)
        if self.pool_size == len(specs):
            return specs
        return draw_pool(specs, self.pool_size, stream(seed, "pool"))


def make_setup(
    world: str,
    protocol: str,
    interface: str,
    workers: WorkersArg,
    split: str,
    budget: BudgetArg,
    cost: str | Sequence[str],
    cost_limits: Mapping[str, float] | None,
    pool_size: int | None,
    reward: str,
    own_kwargs: Mapping[str, Any],
) -> Setup:
    """Check every argument and build the world, the rules and the workers.

    `own_kwargs` are the arguments of the protocol, by its signature, and of the world: all others.

    Raises:
        ConfigError: the first argument that is wrong, naming its value and the fix.
    """
    check_choice("interface", interface, ("vector", "text"))
    check_choice("reward", reward, ("outcome", "none"))
    check_choice("split", split, SPLITS)
    make_rules = components.load("protocol", protocol)
    rules_names = _own_arguments(make_rules)
    rules_kwargs = {k: v for k, v in own_kwargs.items() if k in rules_names}
    world_kwargs = {k: v for k, v in own_kwargs.items() if k not in rules_kwargs}
    place = place_of(workers)
    for name in place.keys() & world_kwargs.keys():
        raise ConfigError(f"{name}={world_kwargs[name]!r}, but the workers say {place[name]!r}: give one of them")
    bare = build_world(world, {**place, **world_kwargs}, rules_names, {"show_instruction": False})
    limits = check_budget(change_budget(budget, getattr(bare, "budget", make_rules.default_budget)))
    crew = build_crew(workers, limits, bare)
    if pool_size is None:
        pool_size = max(len(crew.specs) - 1, 1) if split == "train" and not crew.whole else len(crew.specs)
    if isinstance(pool_size, bool) or not isinstance(pool_size, int) or not 1 <= pool_size <= len(crew.specs):
        raise ConfigError(f"pool_size={pool_size!r} must be between 1 and {len(crew.specs)}, the workers there are")
    names = check_cost_names(cost)
    cost_limits = check_cost_limits(cost_limits)
    rules = make_rules(crew.specs, limits, cost_limits, **rules_kwargs)
    built = rules.adapt(bare)
    built.ids(split)
    return Setup(
        built, rules, crew, limits, names, cost_limits, split, pool_size, reward == "outcome", interface == "text"
    )


def _own_arguments(make_rules: Callable[..., Orchestration]) -> tuple[str, ...]:
    """The names of the arguments that a protocol has beyond those of all protocols."""
    return tuple(inspect.signature(make_rules).parameters)[len(inspect.signature(BaseProtocol).parameters) :]


def build_world(
    name: str, kwargs: Mapping[str, Any], others: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> World:
    """The world of that name; `ArgumentError` for an argument that neither it nor the protocol (`others`) takes.

    `defaults` are for worlds that take them.
    """
    make: Callable[..., World] = components.load("world", name)
    parameters = inspect.signature(make).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    kwargs = {k: v for k, v in (defaults or {}).items() if anything or k in parameters} | dict(kwargs)
    if not anything:
        for key in kwargs:
            if key not in parameters:
                known = ", ".join(map(repr, (*parameters, *others)))
                raise ArgumentError(f"world {name!r}: unexpected keyword argument {key!r}; it takes {known}")
    return make(**kwargs)


def check_options(setup: Setup, options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the reset options, or raise `ConfigError` naming the one that is wrong."""
    options = check_common_options(options, RESET_OPTIONS)
    pool = options.get("pool")
    if pool is not None:
        known = [spec.worker_id for spec in setup.crew.specs]
        if isinstance(pool, str) or not pool:
            raise ConfigError(f"options['pool']={pool!r} must be a non-empty sequence of worker ids")
        for entry in pool:
            check_choice("options['pool'] entry", getattr(entry, "worker_id", entry), known)
    return options


def check_common_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> Mapping[str, Any]:
    """Check the names of reset options and the one that every environment has, `sample`."""
    options = options or {}
    for key in options:
        check_choice("reset option", key, known)
    sample = options.get("sample", 0)
    if isinstance(sample, bool) or not isinstance(sample, int | np.integer) or sample < 0:
        raise ConfigError(f"options['sample']={sample!r} must be a whole number >= 0")
    return options


def check_seeds(seed: int | Sequence[int | None] | None, n: int) -> list[int | None]:
    """A seed for each of `n` environments: seed + i, or as they are given."""
    if seed is None:
        return [None] * n
    if isinstance(seed, int | np.integer):
        seed = [int(seed) + i for i in range(n)]
    if len(seed) != n:
        raise ConfigError(f"{len(seed)} seeds were given for {n} environments")
    if wrong := [one for one in seed if one is not None and one < 0]:
        raise ConfigError(f"seed {wrong[0]} must be >= 0")
    return list(seed)


def check_reset_mask(mask: Any, n: int) -> npt.NDArray[np.bool_]:
    """`options["reset_mask"]`: which of `n` environments to reset; all where None is given."""
    if mask is None:
        return np.ones(n, bool)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (n,):
        raise ConfigError(f"options['reset_mask'] must be a bool array of shape ({n},), got {mask!r}")
    if not mask.any():
        raise ConfigError("options['reset_mask'] selects no environment")
    return mask


def change_budget(budget: BudgetArg, default: Budget) -> Budget:
    """`default` with the fields that `budget` names changed; `ConfigError` for an unknown one."""
    if budget is None:
        return default
    if isinstance(budget, Budget):
        return budget
    if not isinstance(budget, Mapping):
        raise ConfigError(f"budget={budget!r} must be a mapping such as {{'tokens': 6000}}")
    for key in budget:
        check_choice("budget entry", key, [f.name for f in fields(Budget)])
    return replace(default, **budget)


def check_cost_names(cost: str | Sequence[str]) -> tuple[str, ...]:
    """One cost name or several as a tuple; `ConfigError` for an unknown one."""
    names = (cost,) if isinstance(cost, str) else tuple(cost)
    if not names:
        raise ConfigError(f"cost={cost!r} names no cost; choose from {', '.join(COST_NAMES)}")
    for name in names:
        check_choice("cost", name, COST_NAMES)
    return names


def check_cost_limits(limits: Mapping[str, float] | None) -> dict[str, float]:
    """Limits by cost name; `ConfigError` for an unknown name or a limit that is not positive."""
    for name, value in (limits or {}).items():
        check_choice("cost_limits entry", name, COST_NAMES)
        if not value > 0:
            raise ConfigError(f"cost_limits[{name!r}]={value!r} must be > 0")
    return dict(limits or {})

"""Everything that a run on vectors can be told: the schema of `train(policy="mlp")`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nextstep_agents.algorithms.grpo import GRPO
from nextstep_agents.algorithms.macpo import MACPO
from nextstep_agents.algorithms.p3o import P3O
from nextstep_agents.algorithms.ppo_lagrangian import PIDLagrangian, PPOLagrangian
from nextstep_agents.algorithms.reinforce import Reinforce
from nextstep_agents.algorithms.reinforce_pp import ReinforcePlusPlus
from nextstep_agents.algorithms.types import Algorithm
from nextstep_agents.learning.constraints import Chance
from nextstep_agents.overrides import changed
from nextstep_agents.policies.mlp import MLPSettings
from nextstep_envs.errors import ConfigError, check_choice

ALGORITHMS: tuple[str, ...] = ("ppo_lagrangian", "pid_lagrangian", "p3o", "macpo", "grpo", "reinforce", "reinforce_pp")
CONSTRAINED = ("ppo_lagrangian", "pid_lagrangian", "p3o", "macpo")  # they keep the environment's own budgets by default


@dataclass(frozen=True)
class LearnSettings:
    """Settings of a run.

    Attributes:
        algorithm: one of `ALGORITHMS`; its settings are the field of that name.
        policy: "mlp".
        total_steps: decisions to train on; the last round is played to its end.
        seed: of everything that is random.
        episodes: a round, in episodes; None: as many as make about `ROUND` decisions, 8 to 128, or more where a
            run is longer than `ROUNDS` rounds of that.
        num_envs: environments side by side; None: enough.
        max_decisions: stop an episode after so many; needed where nothing else ends it.
        gamma: discount of rewards; None: the environment's own, else 1 for episodes that end by themselves, 0.99 where
            a time limit cuts them off.
        gae_lambda: None: 1 if gamma is 1, else 0.95.
        learning_rate: of the actor at the start; it falls linearly to a twentieth. See docs/constrained.md.
        critic_learning_rate: likewise.
        critic_epochs, critic_batch_size: passes over a round, and decisions of an optimiser step, about.
        max_masked_rate: share of failed episodes above which training stops.
        threads: CPU threads of torch.
        chance: add chance constraints; None: none.
        mlp: the networks.
        grpo, reinforce_pp: with less noise than as published: decisions are compared with those of the same number.
    """

    algorithm: str = "ppo_lagrangian"
    policy: str = "mlp"
    total_steps: int = 100_000
    seed: int = 0
    episodes: int | None = None
    num_envs: int | None = None
    max_decisions: int | None = None
    gamma: float | None = None
    gae_lambda: float | None = None
    learning_rate: float = 3e-3
    critic_learning_rate: float = 1e-2
    critic_epochs: int = 2
    critic_batch_size: int = 512
    max_masked_rate: float = 0.02
    threads: int = 1
    chance: Chance | None = None
    mlp: MLPSettings = field(default_factory=MLPSettings)
    ppo_lagrangian: PPOLagrangian = field(default_factory=PPOLagrangian)
    pid_lagrangian: PIDLagrangian = field(default_factory=PIDLagrangian)
    p3o: P3O = field(default_factory=P3O)
    macpo: MACPO = field(default_factory=MACPO)
    grpo: GRPO = field(default_factory=lambda: GRPO(credit="decision"))
    reinforce: Reinforce = field(default_factory=Reinforce)
    reinforce_pp: ReinforcePlusPlus = field(default_factory=lambda: ReinforcePlusPlus(baseline="mean"))

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("policy", self.policy, ("mlp",))
        for name in (
            "total_steps",
            "episodes",
            "num_envs",
            "max_decisions",
            "critic_epochs",
            "critic_batch_size",
            "threads",
        ):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}={value!r} must be a whole number >= 1")
        for name in ("gamma", "gae_lambda"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name}={value!r} must be between 0 and 1")
        for name in ("learning_rate", "critic_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be > 0")

    @property
    def method(self) -> Algorithm:
        """The chosen algorithm with its settings."""
        chosen: Algorithm = getattr(self, self.algorithm)
        return chosen


def make_learn_settings(base: LearnSettings | None = None, /, **given: Any) -> LearnSettings:
    """Settings (the defaults, or `base`) with some fields changed.

    A nested group takes a mapping of its own fields; a field of the chosen algorithm or of the networks may also be
    given by its own name: `kappa=2.0`, `hidden=(32,)`.

    Raises:
        ConfigError: an unknown field or a value out of range, naming it.
    """
    base = base or LearnSettings()
    own = {f.name for f in fields(base)}
    algorithm = given.get("algorithm", base.algorithm)
    check_choice("algorithm", algorithm, ALGORITHMS)
    nested: dict[str, dict[str, Any]] = {}
    for group in (algorithm, "mlp"):
        inner = {f.name for f in fields(getattr(base, group))} - own
        nested[group] = {name: given.pop(name) for name in list(given) if name in inner}
    for group, values in nested.items():
        if values:
            if not isinstance(given.get(group, {}), Mapping):
                raise ConfigError(f"{', '.join(values)}: put it into {group}={given[group]!r}, or leave that out")
            given[group] = {**given.get(group, {}), **values}
    known = sorted(own | {f.name for g in (algorithm, "mlp") for f in fields(getattr(base, g))})
    for name in given:
        check_choice("setting", name, known)
    settings: LearnSettings = changed(base, given)
    return settings

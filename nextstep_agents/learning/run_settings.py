"""Where a run on vectors takes place and what it leaves behind, beside what it learns with (`LearnSettings`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextstep_agents.learning.constraints import Chance
from nextstep_agents.learning.settings import LearnSettings, make_learn_settings
from nextstep_agents.overrides import changed
from nextstep_envs.errors import ConfigError, check_choice


@dataclass(frozen=True)
class Evaluation:
    """How a policy is judged while it is trained and afterwards.

    Attributes:
        every: rounds between evaluations; 0: never. With them the best policy is kept instead of the last: among those
            that keep every budget the one with the highest return, else the one that exceeds them least.
        episodes: of such an evaluation.
        final: episodes of the closing line of `nextstep train`; 0: none.
        env_kwargs: arguments of the environment that differ in evaluations, such as the split.
    """

    every: int = 0
    episodes: int = 200
    final: int = 1000
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("episodes", 1), ("final", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"evaluation.{name}={value!r} must be a whole number >= {least}")


@dataclass(frozen=True)
class RunSettings(LearnSettings):
    """Settings of a run.

    Attributes:
        env: id of the environment; of an object, what it is.
        env_kwargs: further arguments for an id.
        cost_limits: budgets of an episode, by position or by name; None: the environment's own where the algorithm
            takes constraints by default (`CONSTRAINED`), else none.
        device: "cpu"; networks this small are fastest there.
        log_dir: the run folder; "" for no files.
        log_level: of the logger "nextstep", such as "INFO"; None leaves it as it is.
        resume: go on from the run folder's last checkpoint.
        checkpoint_every: rounds between checkpoints.
        evaluation: how policies are judged.
        chance: a mapping is taken for the fields of a `Chance`: Hydra cannot fill in a group that may be None.
    """

    chance: Any = None
    env: str = "NextStep/WebShop-Workflow-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    cost_limits: Any = None
    device: str = "cpu"
    log_dir: str = ""
    log_level: str | None = None
    resume: bool = False
    checkpoint_every: int = 10
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.chance, Mapping):
            object.__setattr__(self, "chance", changed(Chance(), self.chance, "chance."))
        if self.device != "cpu":
            raise ConfigError(f"device={self.device!r}: an MLP policy trains on 'cpu' only; leave it out")
        if isinstance(self.checkpoint_every, bool) or self.checkpoint_every < 1:
            raise ConfigError(f"checkpoint_every={self.checkpoint_every!r} must be a whole number >= 1")
        if self.log_level is not None:
            check_choice("log_level", self.log_level.upper(), tuple(logging.getLevelNamesMapping()))
            object.__setattr__(self, "log_level", self.log_level.upper())
        if self.resume and not self.log_dir:
            raise ConfigError("resume=True needs log_dir, the folder of the run to go on with")


def make_run_settings(**given: Any) -> RunSettings:
    """Settings with some fields changed; see `make_learn_settings`."""
    settings = make_learn_settings(RunSettings(), **given)
    assert isinstance(settings, RunSettings)
    return settings

"""From Hydra overrides to settings: YAML in `configs/` over the dataclass that is a command's schema."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from nextstep_envs.errors import ConfigError

if TYPE_CHECKING:
    from nextstep_agents.learning.run_settings import RunSettings
    from nextstep_agents.rollouts.settings import RolloutSettings
    from nextstep_agents.settings import TrainSettings

Settings = TypeVar("Settings")


def compose_train(overrides: Sequence[str]) -> TrainSettings:
    """The settings of `nextstep train <overrides>`; see `compose_settings`."""
    from nextstep_agents.settings import TrainSettings

    return compose_settings("train", TrainSettings, overrides)


def compose_train_mlp(overrides: Sequence[str]) -> RunSettings:
    """The settings of `nextstep train policy=mlp <overrides>`; see `compose_settings`."""
    from nextstep_agents.learning.run_settings import RunSettings

    return compose_settings("train_mlp", RunSettings, overrides)


def compose_rollout(overrides: Sequence[str]) -> RolloutSettings:
    """The settings of `nextstep rollout <overrides>`; see `compose_settings`."""
    from nextstep_agents.rollouts.settings import RolloutSettings

    return compose_settings("rollout", RolloutSettings, overrides)


def compose_settings(name: str, schema: type[Settings], overrides: Sequence[str]) -> Settings:
    """`configs/<name>.yaml` and the overrides, over a frozen dataclass.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, naming it.
    """
    structured: Any = OmegaConf.structured(schema)
    ConfigStore.instance().store(name=f"{name}_schema", node=_writable(structured))
    try:
        with initialize_config_module("configs", version_base="1.3"):
            config = compose(name, overrides=list(overrides))
        settings = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from error
        if isinstance(cause, ConfigAttributeError) and isinstance(cause.full_key, str):
            known = _names(structured)
            near = get_close_matches(cause.full_key, known, 3, 0.4) or sorted({name.split(".")[0] for name in known})
            raise ConfigError(f"there is no setting {cause.full_key!r}; there is {', '.join(near)}") from error
        raise ConfigError(" ".join(str(part) for part in (error, error.__cause__) if part).strip()) from error
    if not isinstance(settings, schema):
        raise ConfigError(f"configs/{name}.yaml does not describe {schema.__name__}: {settings!r}")
    return settings


def _names(node: DictConfig, prefix: str = "") -> list[str]:
    """The full names of all settings: a group's settings in place of the group."""
    names = []
    for name in map(str, node):
        child = None if OmegaConf.is_missing(node, name) else node[name]
        inner = _names(child, f"{prefix}{name}.") if isinstance(child, DictConfig) else []
        names += inner or [f"{prefix}{name}"]
    return names


def _writable(node: DictConfig) -> DictConfig:
    """The schema with the read-only flags taken off that OmegaConf puts on frozen dataclasses."""
    OmegaConf.set_readonly(node, False)
    if OmegaConf.get_type(node) is dict:
        OmegaConf.set_struct(node, False)  # free-form arguments of the environment
    for child in node.values():
        if isinstance(child, DictConfig):
            _writable(child)
    return node

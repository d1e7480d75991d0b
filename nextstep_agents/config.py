"""From Hydra overrides to settings: YAML in `configs/` over the dataclasses of `nextstep_agents.settings`."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nextstep_agents.settings import TrainSettings
from nextstep_envs.errors import ConfigError


def compose_train(overrides: Sequence[str]) -> TrainSettings:
    """The settings of `nextstep train <overrides>`.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, naming it.
    """
    ConfigStore.instance().store(name="train_schema", node=_writable(OmegaConf.structured(TrainSettings)))
    try:
        with initialize_config_module("configs", version_base="1.3"):
            config = compose("train", overrides=list(overrides))
        settings = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from error
        raise ConfigError(" ".join(str(part) for part in (error, error.__cause__) if part).strip()) from error
    if not isinstance(settings, TrainSettings):
        raise ConfigError(f"configs/train.yaml does not describe a training run: {settings!r}")
    return settings


def _writable(node: DictConfig) -> DictConfig:
    """The schema with the read-only flags taken off that OmegaConf puts on frozen dataclasses."""
    OmegaConf.set_readonly(node, False)
    if OmegaConf.get_type(node) is dict:
        OmegaConf.set_struct(node, False)  # free-form arguments of the environment
    for child in node.values():
        if isinstance(child, DictConfig):
            _writable(child)
    return node

"""`nextstep doctor`: which providers work, a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nextstep_envs.errors import ConfigError
from nextstep_envs.providers.doctor import MODELS, Diagnosis, examine


@dataclass(frozen=True)
class DoctorSettings:
    """What `nextstep doctor` can be told beside models.

    Attributes:
        providers: settings by provider name, as for a crew of chat workers (`base_url`, `kind`, `key` ...).
        timeout_s: of each call.
    """

    providers: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s={self.timeout_s} must be > 0")


def command(arguments: Sequence[str]) -> int:
    """Examine the models named, or a cheap one of each service that is set up.

    Args:
        arguments: "<provider>:<model>" each, or Hydra overrides of `DoctorSettings`.

    Returns:
        The exit status: 1 if a provider fails, else 0.

    Raises:
        ConfigError: an argument that is neither, or a provider with settings of which no model is named.
    """
    if any(word in ("-h", "--help") for word in arguments):
        print("nextstep doctor [provider:model ...] [timeout_s=30] ['providers={name: {kind: openai, base_url: ...}}']")
        return 0
    overrides = [argument for argument in arguments if "=" in argument]
    settings = DoctorSettings()
    if overrides:
        from nextstep_agents.config import compose_settings  # plain use needs no Hydra

        settings = compose_settings("doctor", DoctorSettings, overrides)
    models = [argument for argument in arguments if "=" not in argument]
    asked = {model.partition(":")[0] for model in models or MODELS.values()}
    for name in settings.providers:
        if name not in asked:
            raise ConfigError(f"providers.{name} has settings and is not asked; name one of its models: {name}:<model>")
    failed = False
    for diagnosis in examine(models, settings.providers, settings.timeout_s):
        print(line(diagnosis), flush=True)
        failed |= diagnosis.state == "fails"
    return 1 if failed else 0


def line(diagnosis: Diagnosis) -> str:
    """A diagnosis in one line."""
    spent = f" ({diagnosis.seconds:.1f} s, {diagnosis.usage.tokens} tokens)" if diagnosis.usage.calls else ""
    return f"{diagnosis.state:<10} {diagnosis.model:<34} {diagnosis.detail}{spent}"

"""From plain settings to providers."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.ledger import estimate_tokens
from nextstep_envs.providers.base import Provider
from nextstep_envs.providers.cached import CachedProvider
from nextstep_envs.providers.gateway import Gateway
from nextstep_envs.providers.limits import Limits
from nextstep_envs.providers.secrets import redact
from nextstep_envs.providers.store import Store
from registry import components

LIMITS = tuple(field.name for field in fields(Limits))
SECRET = ("key", "secrets_file")  # where a client finds its key


def build_provider(
    name: str, settings: Mapping[str, Any], store: Store | None = None, models: Iterable[str] = ()
) -> Provider:
    """Build one provider. Nothing is connected or started before it is first asked.

    Args:
        name: what models call it.
        settings: `kind` (a registered provider; by default the name), the fields of `Limits` where that is a client of
            a service, and the arguments of its class.
        store: what is known, and where answers are kept.
        models: that it will be asked for; those in this process are looked at, though not loaded.

    Raises:
        UnknownNameError: there is no such kind.
        MissingExtraError: a library that it needs is not installed.
        ConfigError: a setting that it does not take, a bad value, no API key, or a folder without a model.
    """
    own = dict(settings)
    make = components.load("provider", own.pop("kind", name))
    client = hasattr(make, "complete")
    arguments = tuple(inspect.signature(make).parameters)
    for setting in own:
        check_choice(f"setting of providers[{name!r}]", setting, ("kind", *(LIMITS if client else ()), *arguments))
    for model in models if hasattr(make, "check_model") else ():
        make.check_model(model.partition(":")[2])
    if not client:
        provider: Provider = make(**own)
        return provider if store is None else CachedProvider(provider, store)
    limits = Limits(**{key: own.pop(key) for key in LIMITS if key in own})
    make(**own)  # says now what is wrong, before anything is spent
    return Gateway(partial(make, **own), limits, store)


def resolve_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what a provider would take from the environment: its URL, where none is given."""
    variable = getattr(components.load("provider", settings.get("kind", name)), "url_variable", "")
    url = settings.get("base_url") or os.environ.get(variable)
    return {**settings, "base_url": url} if url else dict(settings)


def local_files(name: str, settings: Mapping[str, Any], models: Iterable[str]) -> dict[str, Any]:
    """What tells a provider's models of today from those that a recording had, as `weights`; {} for a service.

    A model in this process is a folder, whose content may change while its name stays.
    """
    state = getattr(components.load("provider", settings.get("kind", name)), "folder_state", None)
    if state is None or "weights" in settings:
        return {}
    return {"weights": {model: state(model.partition(":")[2]) for model in models}}


def token_counter(name: str, settings: Mapping[str, Any], model: str) -> Callable[[str], int]:
    """Counts a model's tokens: with its tokenizer where it is in this process, else by an estimate.

    Raises:
        ConfigError: there is no usable tokenizer in the model's folder.
    """
    count = getattr(components.load("provider", settings.get("kind", name)), "token_counter", None)
    return estimate_tokens if count is None else count(model.partition(":")[2])


def answer_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a provider's settings that change its answers, without anything that looks like a secret.

    Raises:
        ConfigError: one of them is no plain data.
    """
    kept = {name: value for name, value in settings.items() if name not in (*LIMITS, *SECRET)}
    try:
        cleaned: dict[str, Any] = json.loads(redact(json.dumps(kept)))
    except TypeError as error:
        raise ConfigError(f"settings of a provider must be plain data: {error}") from error
    return cleaned

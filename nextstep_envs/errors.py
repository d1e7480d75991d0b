"""Typed errors. Every message names the bad value and the fix."""

from __future__ import annotations

from collections.abc import Iterable

from registry.errors import NextStepError as NextStepError  # re-exported: the registry is the leaf


class ConfigError(NextStepError, ValueError):
    """A setting is wrong (unknown split, budget <= 0, malformed worker spec ...)."""


class ArgumentError(ConfigError, TypeError):
    """An argument, or its value, is not taken here; a `TypeError` too, for libraries that try arguments to see."""


class DataError(NextStepError, ValueError):
    """A data file is missing or malformed."""


class ActionError(NextStepError, TypeError):
    """An action of the wrong type (a malformed text action is not an error: it is an invalid action)."""


class MissingExtraError(NextStepError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package!r}: pip install 'nextstep-envs[{extra}]'")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise `ConfigError` unless `value` is one of `choices`."""
    known = tuple(choices)
    if value not in known:
        raise ConfigError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}")

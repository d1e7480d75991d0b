"""The base of this project's errors, and the errors of looking up and registering names."""

from __future__ import annotations

from collections.abc import Iterable


class NextStepError(Exception):
    """Base of every error this project raises on purpose."""


class UnknownNameError(NextStepError, ValueError):
    """A part was asked for by a kind or name that nobody registered."""

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        listed = ", ".join(sorted(map(repr, known))) or "none"
        super().__init__(f"{what} {name!r} is unknown; known: {listed}")


class ConflictError(NextStepError, ValueError):
    """A name is registered twice for different things."""


class TargetError(NextStepError, ValueError):
    """A registered target is not of the form "module:attribute", or the module lacks the attribute."""


class PluginError(NextStepError, ImportError):
    """An installed plugin could not be loaded; the message names it."""

"""Makes multi-agent environments by id, as `gymnasium.make` does single-agent ones."""

from __future__ import annotations

import importlib
from typing import Any

from registry import plugins
from registry.catalog import EnvEntry, entries
from registry.errors import TargetError, UnknownNameError


def make_aec(id: str, **kwargs: Any) -> Any:
    """The PettingZoo AEC environment of an id (agents act in turn).

    Args:
        id: for example "NextStep/WebShop-Pipeline-v0".
        **kwargs: of the environment; they override those of the catalog.

    Raises:
        UnknownNameError: there is no such id, or it has no such form; the message lists those that do.
    """
    return _make(id, "aec_entry_point", kwargs)


def make_parallel(id: str, **kwargs: Any) -> Any:
    """The PettingZoo parallel environment of an id (all agents act at once).

    Args:
        id: for example "NextStep/WebShop-Team-v0".
        **kwargs: of the environment; they override those of the catalog.

    Raises:
        UnknownNameError: there is no such id, or it has no such form; the message lists those that do.
    """
    return _make(id, "parallel_entry_point", kwargs)


def _make(id: str, form: str, kwargs: dict[str, Any]) -> Any:
    if _find(id) is None:
        plugins.load_plugins()
    entry = _find(id)
    target = getattr(entry, form, None)
    if entry is None or target is None:
        what = f"{form.partition('_')[0]} environment"
        raise UnknownNameError(what, id, (e.id for e in entries() if getattr(e, form) is not None))
    module, _, attribute = target.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise TargetError(f"{id!r} is registered as {target!r}, but {error}") from error
    return make(**{**entry.kwargs, **kwargs})


def _find(id: str) -> EnvEntry | None:
    return next((entry for entry in entries() if entry.id == id), None)

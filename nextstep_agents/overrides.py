"""Frozen dataclasses with some of their fields changed by plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

from nextstep_envs.errors import check_choice


def changed(settings: Any, given: Mapping[str, Any], where: str = "") -> Any:
    """A frozen dataclass with some fields changed; a field that is a dataclass takes a mapping of its own fields.

    Args:
        settings: the dataclass.
        given: new values by field. Lists become tuples where the field holds one.
        where: what error messages put before a field's name.

    Raises:
        ConfigError: an unknown field or a value out of range, naming it.
    """
    changes: dict[str, Any] = {}
    for name, value in given.items():
        check_choice(f"setting {where}{name}", name, [f.name for f in fields(settings)])
        current = getattr(settings, name)
        if isinstance(value, Mapping):
            inner = current if is_dataclass(current) else _optional(settings, name)
            if inner is not None:
                value = changed(inner, value, f"{where}{name}.")
        elif isinstance(current, tuple) and isinstance(value, list):
            value = tuple(value)
        changes[name] = value
    return replace(settings, **changes)


def _optional(settings: Any, name: str) -> Any:
    """The defaults of a field of type `SomeDataclass | None` that holds None; None for other fields."""
    kinds = [kind for kind in get_args(get_type_hints(type(settings))[name]) if is_dataclass(kind)]
    return kinds[0]() if kinds and isinstance(kinds[0], type) else None

"""Checks the arguments of a tool call against the tool's JSON Schema, before anything is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from nextstep_envs.protocols.parsing import parse_json

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}


def read_arguments(text: str) -> Mapping[str, Any] | None:
    """The arguments that a model wrote, with one repair pass; None where they are no JSON object. "" means none."""
    value = parse_json(text) if text.strip() else {}
    return value if isinstance(value, Mapping) else None


def fault(schema: str, arguments: Mapping[str, Any]) -> str:
    """What is wrong with the arguments, in words for the model; "" where nothing is.

    Checked are the names (which are required, and which exist where the schema closes the list), and the `type` and
    `enum` of each. What else a schema asks for (ranges, formats, inner objects) is for the tool to check.

    Args:
        schema: JSON Schema of an object, as text.
        arguments: by name.
    """
    known = _read(schema)
    properties = known.get("properties", {})
    missing = [name for name in known.get("required", ()) if name not in arguments]
    if missing:
        return f"the argument {missing[0]!r} is missing"
    for name, value in arguments.items():
        wanted = properties.get(name)
        if wanted is None and known.get("additionalProperties") is False:
            return f"there is no argument {name!r}; there are {', '.join(map(repr, properties)) or 'none'}"
        if isinstance(wanted, Mapping) and (wrong := _fault(wanted, value)):
            return f"the argument {name!r} must be {wrong}"
    return ""


def _fault(wanted: Mapping[str, Any], value: Any) -> str:
    if "enum" in wanted and value not in wanted["enum"]:
        return f"one of {json.dumps(wanted['enum'])}"
    names = wanted.get("type", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or any(_is(name, value) for name in names):
        return ""
    return f"of type {' or '.join(names)}"


def _is(name: str, value: Any) -> bool:
    if isinstance(value, bool):  # to Python a kind of int, to JSON not
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


@lru_cache(maxsize=1024)
def _read(schema: str) -> Mapping[str, Any]:
    value = json.loads(schema)
    return value if isinstance(value, Mapping) else {}

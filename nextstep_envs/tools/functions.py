"""A registered tool is a plain function: its signature is the schema, its docstring the description."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nextstep_envs.errors import ConfigError
from nextstep_envs.requests import ToolSpec
from registry import components

SEPARATOR = "__"  # between the names of an MCP server and its tool
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every provider accepts
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


@dataclass(frozen=True)
class Tool:
    """A tool that runs here.

    Attributes:
        spec: what a model is told of it.
        run: the function; it takes the arguments by name and returns text or plain data. It may be a coroutine
            function. What it raises is told to the model.
    """

    spec: ToolSpec
    run: Callable[..., Any]


def load_tools(names: Sequence[str]) -> tuple[Tool, ...]:
    """The tools of the registry (kind "tool") with these names.

    Raises:
        UnknownNameError: nobody registered the name.
        ConfigError: a name that no model could call, a name twice, or a function that cannot be described.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"tools={names!r} must be a list of names; known: {', '.join(components.names('tool'))}")
    if len(set(names)) < len(names):
        raise ConfigError(f"tools={list(names)!r} names a tool twice")
    return tuple(make_tool(name, components.load("tool", name)) for name in names)


def make_tool(name: str, function: Callable[..., Any]) -> Tool:
    """A tool from a function.

    The schema comes from its parameters, which need annotations: str, int, float, bool, dict, list, list[...],
    Literal[...], or one of these or None. The description is the first paragraph of its docstring.

    Raises:
        ConfigError: it has no docstring, a parameter that cannot be described, or a name that no model could call.
    """
    if not NAME.fullmatch(name) or SEPARATOR in name:
        raise ConfigError(f"tool name {name!r} must be 1 to 64 letters, digits, '_' or '-', without {SEPARATOR!r}")
    described = inspect.getdoc(function)
    if not described:
        raise ConfigError(f"tool {name!r}: its function needs a docstring, which is what models are told")
    hints, properties, required = get_type_hints(function), {}, []
    for parameter in inspect.signature(function).parameters.values():
        where = f"tool {name!r}: parameter {parameter.name!r}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(f"{where} must be one that is given by name")
        if parameter.name not in hints:
            raise ConfigError(f"{where} needs an annotation, which is its type in the schema")
        properties[parameter.name] = _schema(hints[parameter.name], where)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    description = " ".join(described.split("\n\n")[0].split())
    return Tool(ToolSpec(name, description, json.dumps(schema)), function)


def _schema(hint: Any, where: str) -> Mapping[str, Any]:
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], where)}
    if origin in (Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        (other,) = (part for part in inner if part is not type(None))
        schema = dict(_schema(other, where))
        if "enum" in schema:
            return {"enum": [*schema["enum"], None]}
        return schema | {"type": [schema["type"], "null"]}
    raise ConfigError(
        f"{where} is {hint!r}; use str, int, float, bool, dict, list, list[...], Literal[...], or one of these or None"
    )

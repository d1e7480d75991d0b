"""Registered tools: what models are told of a function, and the calculator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.tools.calculator import calculate
from nextstep_envs.tools.functions import load_tools, make_tool
from registry import UnknownNameError, components


def look(
    words: str,
    most: int = 3,
    near: float | None = None,
    order: Literal["old", "new"] = "new",
    tags: list[str] | None = None,
    more: dict = {},  # type: ignore[type-arg] # noqa: B006
    strict: bool = False,
    where: Literal["in", "out"] | None = None,
) -> str:
    """Look something
    up in the books.

    What follows is for programmers.
    """  # noqa: D205
    return words


def test_a_function_describes_itself() -> None:
    spec = make_tool("look", look).spec
    assert spec.name == "look" and spec.description == "Look something up in the books."
    assert json.loads(spec.schema) == {
        "type": "object",
        "properties": {
            "words": {"type": "string"},
            "most": {"type": "integer"},
            "near": {"type": ["number", "null"]},
            "order": {"enum": ["old", "new"]},
            "tags": {"type": ["array", "null"], "items": {"type": "string"}},
            "more": {"type": "object"},
            "strict": {"type": "boolean"},
            "where": {"enum": ["in", "out", None]},
        },
        "required": ["words"],
        "additionalProperties": False,
    }


def bare(x: str) -> str:
    return x


def untyped(x) -> str:  # type: ignore[no-untyped-def]
    """Has no types."""
    return str(x)


def odd(x: bytes) -> str:
    """Takes bytes."""
    return str(x)


def open_ended(*x: str) -> str:
    """Takes any number."""
    return str(x)


@pytest.mark.parametrize(
    ("name", "function", "match"),
    [
        ("bare", bare, "'bare'.*docstring"),
        ("untyped", untyped, "parameter 'x' needs an annotation"),
        ("odd", odd, "parameter 'x' is <class 'bytes'>.*use str"),
        ("open_ended", open_ended, "'x' must be one that is given by name"),
        ("a b", look, "'a b' must be 1 to 64 letters"),
        ("a__b", look, "without '__'"),
        ("", look, "1 to 64"),
    ],
)
def test_a_function_that_models_cannot_be_told_of_is_an_error(
    name: str, function: Callable[..., Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        make_tool(name, function)


def test_tools_come_from_the_registry() -> None:
    (tool,) = load_tools(["calculator"])
    assert tool.spec.name == "calculator" and "arithmetic" in tool.spec.description
    assert tool.run(expression="1 + 2 * 3") == "7" and "calculator" in components.names("tool")


@pytest.mark.parametrize("names", ["calculator", ["calculator", "calculator"], [3]])
def test_a_malformed_list_of_tools_is_an_error(names: Any) -> None:
    with pytest.raises(ConfigError, match="tools="):
        load_tools(names)


def test_an_unknown_tool_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="'abacus'.*'calculator'"):
        load_tools(["abacus"])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (" 1 + 2 ", "3"),
        ("-(3 - 5) * 2 ** 10 / 4", "512.0"),
        ("7 // 2 + 7 % 4", "6"),
        ("max(1, 2.5, min(4, 3)) + abs(-1) + round(2.4) + sqrt(16)", "10.0"),
        ("2 ** -1", "0.5"),
        ("2 ** 4000 > 0", None),
        ("9 ** 9 ** 9", None),
        ("(-8) ** 0.5", None),
        ("__import__('os')", None),
        ("(1).real", None),
        ("'a' * 3", None),
        ("True + 1", None),
        ("1 +", None),
        ("1 + " * 300 + "1", None),
        ("sqrt(x=4)", None),
        ("", None),
    ],
)
def test_the_calculator_calculates_and_does_nothing_else(expression: str, value: str | None) -> None:
    if value is not None:
        assert calculate(expression) == value
    else:
        with pytest.raises(ValueError):
            calculate(expression)

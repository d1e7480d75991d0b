"""Arguments of tool calls are checked before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nextstep_envs.tools.arguments import fault, read_arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a": 1}', {"a": 1}),
        ("Here: {'a': True,}", {"a": True}),
        ("[1]", None),
        ("3", None),
        ("left", None),
        ('{"a": ', None),
    ],
)
def test_arguments_are_one_json_object(text: str, value: Any) -> None:
    assert read_arguments(text) == value


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ({"type": "string"}, ["", "x"], [1, None, True]),
        ({"type": "integer"}, [1, -2, 2.0], ["1", 1.5, True]),
        ({"type": "number"}, [1, 1.5], ["1", False]),
        ({"type": "boolean"}, [True, False], [0, "true"]),
        ({"type": "array"}, [[], [1]], [{}, "a"]),
        ({"type": "object"}, [{}], [[]]),
        ({"type": ["integer", "null"]}, [1, None], ["1"]),
        ({"enum": ["a", "b", None]}, ["a", None], ["c"]),
        ({"type": "string", "enum": ["a"]}, ["a"], ["b"]),
        ({"anyOf": [{"type": "string"}]}, ["a", 1], []),
        ({"type": "date"}, ["a", 1], []),
        ({}, [1, "a", None], []),
    ],
)
def test_the_type_of_an_argument(wanted: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    schema = json.dumps({"type": "object", "properties": {"x": wanted}})
    assert [fault(schema, {"x": value}) for value in good] == [""] * len(good)
    assert all("'x' must be" in fault(schema, {"x": value}) for value in bad)


def test_what_is_missing_or_too_many_is_named() -> None:
    schema = json.dumps({"properties": {"a": {}, "b": {}}, "required": ["b"], "additionalProperties": False})
    assert fault(schema, {"b": 1}) == "" and "'b' is missing" in fault(schema, {"a": 1})
    assert "no argument 'c'; there are 'a', 'b'" in fault(schema, {"b": 1, "c": 2})
    assert fault('{"required": ["b"]}', {"b": 1, "c": 2}) == ""


@pytest.mark.parametrize("schema", ["true", "{}", '{"properties": {"x": true}}'])
def test_a_schema_that_says_nothing_allows_everything(schema: str) -> None:
    assert fault(schema, {"x": 1}) == ""

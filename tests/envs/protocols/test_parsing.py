"""Actions written by language models: strict JSON, one repair pass, and nothing beyond it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs.protocols.parsing import MAX_LENGTH, parse_json

STEP = {"subtask": "find, then {buy}", "worker_id": "w", "access_list": ["0"]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(STEP),
        f"```json\n{json.dumps(STEP)}\n```",
        f"Sure! Here it is: {json.dumps(STEP)} Hope that helps.",
        json.dumps(STEP)[:-1] + ",}",
        json.dumps(STEP).replace('["0"]', '["0",]'),
        str(STEP),
        f"Plan:\n{STEP}\nDone.",
    ],
)
def test_what_one_repair_can_fix(text: str) -> None:
    assert parse_json(text) == STEP


def test_constants_inside_python_quotes_and_strings() -> None:
    assert parse_json("{'finish': true}") == {"finish": True}
    assert parse_json("{'a': 'true, }'}") == {"a": "true, }"}
    assert parse_json('{"a": "x, ]", }') == {"a": "x, ]"}


@pytest.mark.parametrize("text", ["", "no braces", "{", "}{", "{'a': }", "{" * 5000 + "}" * 5000, "{a: 1}"])
def test_what_cannot_be_read_is_none(text: str) -> None:
    assert parse_json(text) is None


def test_overlong_text_is_not_parsed() -> None:
    assert parse_json(json.dumps({"a": "x" * MAX_LENGTH})) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_without_raising(text: str) -> None:
    parse_json(text)
    parse_json("{" + text + "}")

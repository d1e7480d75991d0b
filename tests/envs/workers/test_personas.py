"""Personas come from a file that is checked line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nextstep_envs.errors import ConfigError
from nextstep_envs.workers.personas import INSTRUCTIONS, TERMINATE, load_personas

GOOD = {
    "name": "solver",
    "role_prompt": "You solve.",
    "model_type": "planning",
    "actions": ["reasoning", "critique"],
    "agent_type": "reasoning",
    "policy": "autonomous",
}
END = GOOD | {"name": "stopper", "actions": [TERMINATE]}


def write(folder: Path, *lines: Any) -> str:
    path = folder / "personas.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return str(path)


def test_the_defaults_are_eight_that_reason_five_with_tools_and_one_that_ends() -> None:
    personas = load_personas()
    kinds = [p.agent_type for p in personas if p.actions != (TERMINATE,)]
    assert len(personas) == 14 and kinds.count("reasoning") == 8 and kinds.count("tool") == 5
    assert sorted(action for p in personas for action in p.actions) == sorted(INSTRUCTIONS)


def test_a_file_is_read_in_its_order_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    solver, stopper = load_personas(write(tmp_path, GOOD, "", END))
    assert solver.actions == ("reasoning", "critique") and stopper.name == "stopper"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({k: v for k, v in GOOD.items() if k != "model_type"}, "lacks model_type"),
        (GOOD | {"temperature": 0}, "unknown fields temperature"),
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        (GOOD | {"actions": []}, "non-empty list"),
        (GOOD | {"actions": ["fly"]}, "action='fly' is unknown"),
        (GOOD | {"actions": ["reasoning", "reasoning"]}, "twice"),
        (GOOD | {"actions": ["reasoning", "terminate"]}, "no other action"),
        (GOOD | {"agent_type": "human"}, "agent_type='human'"),
        (GOOD | {"policy": "scripted"}, "policy='scripted'"),
        (GOOD | {"name": 3}, "name=3 must be a text"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, line: Any, says: str) -> None:
    path = write(tmp_path, END, line)
    with pytest.raises(ConfigError, match=says) as caught:
        load_personas(path)
    assert f"{path}, line 2" in str(caught.value)


def test_the_whole_file_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no persona ends an episode"):
        load_personas(write(tmp_path, GOOD))
    with pytest.raises(ConfigError, match="'solver' is there 2 times"):
        load_personas(write(tmp_path, GOOD, GOOD, END))
    with pytest.raises(ConfigError, match="no such file"):
        load_personas(str(tmp_path / "none.jsonl"))

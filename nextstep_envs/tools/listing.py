"""A list of tools as text: what an MCP server answers when it is asked for its tools, and a store keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nextstep_envs.requests import ToolSpec


def write_specs(specs: Sequence[ToolSpec]) -> str:
    """The specs as JSON."""
    return json.dumps([spec._asdict() for spec in specs])


def read_specs(text: str) -> tuple[ToolSpec, ...]:
    """What `write_specs` wrote."""
    return tuple(ToolSpec(**entry) for entry in json.loads(text))

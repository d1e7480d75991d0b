"""Personas: who a worker can be in Routing, read from JSON lines with Puppeteer's fields (arXiv 2505.19591)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nextstep_envs.errors import ConfigError

TERMINATE = "terminate"
WEB_SEARCHES = ("search_arxiv", "search_bing", "access_website")

# What each action tells its worker. A tool agent uses the tools of the world it is in.
INSTRUCTIONS = {
    "reasoning": "Work out from the results so far what to buy, and buy it: {task}",
    "critique": "Check the open product for faults, repair what is wrong and buy: {task}",
    "question": "List the requirements that are still open in this request: {task}",
    "reflect": "Review all results so far, correct the choice and buy: {task}",
    "conclude": "Buy what the results so far point to: {task}",
    "summarize": "List in short all requirements known so far: {task}",
    "planning": "List the requirements of this request: {task}",
    "modify": "Correct the product that is open and buy: {task}",
    "search_arxiv": "Look up the exact terms and open the closest product: {task}",
    "search_bing": "Search and open the best product: {task}",
    "access_website": "Shop on this site for: {task}",
    "run_python": "Check price and options of the open product by calculation, repair and buy: {task}",
    "read_file": "List what the request says in its own words: {task}",
    TERMINATE: "",
}
AGENT_TYPES = ("reasoning", "tool")
DEFAULT_PERSONAS = Path(__file__).with_name("personas.jsonl")


@dataclass(frozen=True, slots=True)
class Persona:
    """A role that a worker can play.

    Attributes:
        name: of the agent, in actions.
        role_prompt: who it is, for the worker.
        model_type: the worker that plays it, by worker_id.
        actions: names of `INSTRUCTIONS`, at least one.
        agent_type: "reasoning" or "tool".
        policy: "autonomous"; kept from the published format, there is no other.
    """

    name: str
    role_prompt: str
    model_type: str
    actions: tuple[str, ...]
    agent_type: str
    policy: str = "autonomous"


def load_personas(path: str | os.PathLike[str] | None = None) -> tuple[Persona, ...]:
    """Read personas, one JSON object a line; None: the fourteen defaults.

    Raises:
        ConfigError: a missing file, or a line that is malformed, naming file and line.
    """
    source = DEFAULT_PERSONAS if path is None else Path(path)
    if not source.is_file():
        raise ConfigError(f"personas={str(path)!r}: there is no such file")
    lines = source.read_text(encoding="utf-8").splitlines()
    personas = tuple(_persona(line, f"{source}, line {n}") for n, line in enumerate(lines, start=1) if line.strip())
    names = [persona.name for persona in personas]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{source}: the persona {name!r} is there {names.count(name)} times; names must differ")
    if not any(persona.actions == (TERMINATE,) for persona in personas):
        raise ConfigError(f"{source}: no persona ends an episode; add one whose actions are [{TERMINATE!r}]")
    return personas


def _persona(line: str, where: str) -> Persona:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a persona must be a JSON object, got {line[:80]!r}")
    names = [f.name for f in fields(Persona)]
    if missing := [name for name in names if name not in value]:
        raise ConfigError(f"{where}: the persona lacks {', '.join(missing)}")
    if unknown := sorted(set(value) - set(names)):
        raise ConfigError(f"{where}: unknown fields {', '.join(unknown)}; a persona has {', '.join(names)}")
    for name in names:
        if name != "actions" and not (isinstance(value[name], str) and (value[name] or name == "role_prompt")):
            raise ConfigError(f"{where}: {name}={value[name]!r} must be a text")
    _check(where, "agent_type", value["agent_type"], AGENT_TYPES)
    _check(where, "policy", value["policy"], ("autonomous",))
    return Persona(**{**value, "actions": _actions(value["actions"], where)})


def _actions(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: actions={value!r} must be a non-empty list")
    for action in value:
        _check(where, "action", action, tuple(INSTRUCTIONS))
    if TERMINATE in value and len(value) > 1:
        raise ConfigError(f"{where}: the persona that has {TERMINATE!r} can have no other action, got {value}")
    if len(set(value)) < len(value):
        raise ConfigError(f"{where}: actions={value} names an action twice")
    return tuple(value)


def _check(where: str, name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{where}: {name}={value!r} is unknown; choose one of {', '.join(choices)}")

"""Tool calls as a clumsy model would make them, each with the action that says the same in the text interface."""

from __future__ import annotations

import random
from typing import Any

from nextstep_envs.recorded.generated import WORKERS
from nextstep_envs.workers.personas import load_personas
from nextstep_envs.workers.pool import DEFAULT_POOL

Call = tuple[str, dict[str, Any], dict[str, Any]]
"""A tool, its arguments and the JSON action."""


def workflow(rng: random.Random) -> Call:
    """A step, sometimes for somebody absent, or the end."""
    if rng.random() < 0.1:
        return "finish", {}, {"finish": True}
    step = {"subtask": rng.choice(("{task}", "")), "worker_id": _worker(rng), "access_list": rng.choice(([], ["all"]))}
    return "assign", step, step


def routing(rng: random.Random) -> Call:
    """An agent, sometimes an unknown one, or the end."""
    if rng.random() < 0.1:
        return "terminate", {}, {"finish": True}
    agents = (*load_personas(), *WORKERS)  # of the shop and of questions: elsewhere they are unknown
    named = {"agent": rng.choice([*(agent.name for agent in agents), "nobody"])}
    return "activate", named, named


def dag(rng: random.Random) -> Call:
    """A node, sometimes with a cost or an expectation, a run, or the end."""
    name = rng.choice(("add_node", "add_node", "run", "finish"))
    if name != "add_node":
        return name, {}, {name: True}
    node: dict[str, Any] = {"subtask": "Buy {task}", "agent": _worker(rng), "depends_on": rng.choice(([], ["last"]))}
    node |= rng.choice(({}, {"cost": 0.05}, {"expects": ["cart"]}))
    return name, node, node


def search(rng: random.Random) -> Call:
    """An edit, more or less sensible, or the end."""
    roll = rng.random()
    if roll < 0.1:
        return "finish", {}, {"finish": True}
    if roll < 0.3:
        return "remove_operator", {"name": "b"}, {"edit": "remove", "name": "b"}
    if roll < 0.6:
        change = {"name": "answer1", "worker": _worker(rng)}
        return "set_operator", change, {"edit": "set", **change}
    operator = {"kind": rng.choice(("generate", "custom", "nothing")), "worker": _worker(rng), "inputs": ["task"]}
    operator |= rng.choice(({}, {"name": "b"}))
    return "add_operator", operator, {"edit": "add", "operator": operator}


CALLS = {"workflow": workflow, "routing": routing, "dag": dag, "search": search}


def _worker(rng: random.Random) -> str:
    return rng.choice(DEFAULT_POOL).worker_id

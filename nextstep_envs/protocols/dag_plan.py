"""Reads nodes of a DAG out of JSON and checks them: every error is found, and all are told at once.

A node is `{"subtask", "agent", "depends_on"?, "cost"?, "expects"?, "id"?}`. A whole DAG is a list of nodes, or the
object of WebArena MAS: `{"nodes": [{"id", "task", "description", "estimated_cost"}], "edges": [[from, to]],
"agent_assignments": {id: agent}, "parallel_groups": [[id, id]], "estimated_total_cost"}`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nextstep_envs import graph
from nextstep_envs.types import Step

MANY = 10  # times max_nodes: a list that long is not examined further
MOST_ERRORS = 50
_STEP = re.compile(r"step\s*(\d{1,9})")
_RESERVED = ("last", "all")


@dataclass(frozen=True, slots=True)
class Node:
    """A node that has been accepted but not run.

    Attributes:
        label: what other nodes of the plan call it.
        step: what it becomes; its allowance is set when it is run.
        cost: what it is declared to cost, in units of the main cost; None where nothing is declared.
    """

    label: str
    step: Step
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan must fit.

    Attributes:
        prompt: stands for `{task}`.
        agents: who can be given work.
        whole: steps that have ended and were not cut short, in order.
        cut_short: steps that were.
        final: steps after which the world is done, so that nothing can act where they left it.
        first: index of the first new step.
        steps_left: nodes that the step budget still allows.
        max_nodes: nodes that a plan may have.
        cost_left: what is left of the limit on the main cost; infinite without a limit.
    """

    prompt: str
    agents: tuple[str, ...]
    whole: tuple[int, ...]
    cut_short: frozenset[int]
    final: frozenset[int]
    first: int
    steps_left: int
    max_nodes: int
    cost_left: float


class _Entry(NamedTuple):
    """A node as it was written; value None: it was no object."""

    label: str
    value: Mapping[str, Any] | None


def add_nodes(draft: tuple[Node, ...], entries: Sequence[Any], at: Situation) -> tuple[Node, ...] | str:
    """The draft with the nodes that `entries` describe, or everything that is wrong.

    A node that comes without an id is called by its position. `depends_on` names nodes of the same plan by id, ended
    steps as "step 3", "last" (the node before it, or the last step that was not cut short) or "all" (every node before
    it and every step that was not cut short). Nodes are numbered in the order in which they are written as far as
    dependencies allow.
    """
    return _build(draft, {"nodes": entries}, at)


def read_dag(value: Any, at: Situation) -> tuple[Node, ...] | str:
    """The nodes of a whole DAG, a list or an object, or everything that is wrong."""
    dag = value if isinstance(value, Mapping) else {"nodes": value}
    return _build((), dag, at)


def _build(draft: tuple[Node, ...], dag: Mapping[str, Any], at: Situation) -> tuple[Node, ...] | str:
    listed = dag.get("nodes")
    if not isinstance(listed, list | tuple):
        return '"dag" must be a list of nodes, or an object with "nodes"'
    if len(listed) > MANY * at.max_nodes:
        return f"there are {len(listed)} nodes, but at most {at.max_nodes} are allowed"
    errors: list[str] = []
    entries = _entries(listed, len(draft), errors)
    labels = [node.label for node in draft] + [entry.label for entry in entries]
    places = {label: i for i, label in enumerate(labels)}
    errors += [f"the id {label} is given {n} times" for label, n in Counter(labels).items() if n > 1]
    edges = _edges(dag.get("edges", []), places, errors)
    assigned = _assignments(dag.get("agent_assignments", {}), places, errors)
    groups = _groups(dag.get("parallel_groups", []), places, errors)

    inner: dict[int, set[int]] = {i: {s - at.first for s in n.step.after if s >= at.first} for i, n in enumerate(draft)}
    outer: dict[int, set[int]] = {}
    nodes = list(draft)
    for i, entry in enumerate(entries, start=len(draft)):
        inner[i], outer[i] = _dependencies(entry, i, places, at, errors)
        inner[i] |= {before for before, after in edges if after == i}
        if not inner[i] and outer[i] and max(outer[i]) in at.final:
            errors.append(f"node {entry.label} cannot follow step {max(outer[i])}: the world is done after it")
        nodes.append(_node(entry, assigned, at, errors))
    names = [f"node {node.label}" for node in nodes]
    errors += graph.validate(inner, at.max_nodes, groups, names.__getitem__)
    if len(nodes) > at.steps_left:
        errors.append(f"there are {len(nodes)} nodes, but only {at.steps_left} steps are left")
    errors += _cost_errors(nodes, dag, at)
    if errors:
        more = len(errors) - MOST_ERRORS
        return "; ".join(errors[:MOST_ERRORS]) + (f"; and {more} more errors" if more > 0 else "")
    return _numbered(nodes, inner, outer, at.first)


def _numbered(
    nodes: Sequence[Node], inner: Mapping[int, set[int]], outer: Mapping[int, set[int]], first: int
) -> tuple[Node, ...]:
    """The nodes in topological order, with their indices and dependencies."""
    order = graph.order(inner)
    index = {place: first + i for i, place in enumerate(order)}
    numbered = []
    for place in order:
        node = nodes[place]
        if place in outer:  # those of the draft have their numbers and keep them: they depend on earlier ones only
            after = tuple(sorted(outer[place] | {index[before] for before in inner[place]}))
            node = replace(node, step=replace(node.step, index=index[place], after=after, reads=after))
        numbered.append(node)
    return tuple(numbered)


def _entries(listed: Sequence[Any], start: int, errors: list[str]) -> list[_Entry]:
    entries = []
    for i, value in enumerate(listed, start=start):
        if not isinstance(value, Mapping):
            errors.append(f"node {i} must be an object with subtask, agent and depends_on, got {_short(value)}")
            entries.append(_Entry(str(i), None))
            continue
        label = _label(i if value.get("id") is None else value["id"])
        if label is None or label in _RESERVED or _STEP.fullmatch(label):
            errors.append(f'node {i}: "id" must be a number or a short name, not "last", "all" or "step <n>"')
            label = str(i)
        entries.append(_Entry(label, value))
    return entries


def _node(entry: _Entry, assigned: Mapping[str, Any], at: Situation, errors: list[str]) -> Node:
    """What the entry says about itself; what is wrong goes to `errors`."""
    label, value = entry
    if value is None:
        return Node(label, Step(0, "", ""))  # what is wrong with it has been said
    subtask = _subtask(value)
    if subtask is None:
        errors.append(f'node {label}: "subtask" must be a non-empty text')
    agent = value.get("agent", assigned.get(label))
    if not isinstance(agent, str) or agent not in at.agents:
        errors.append(f'node {label}: "agent" must be one of {", ".join(sorted(at.agents))}, got {_short(agent)}')
        agent = ""
    declared = value.get("cost", value.get("estimated_cost"))
    cost = None if declared is None else _positive(declared)
    if declared is not None and cost is None:
        errors.append(f'node {label}: "cost" must be a number > 0, got {_short(declared)}')
    expects = value.get("expects", [])
    expects = [expects] if isinstance(expects, str) else expects
    if not isinstance(expects, list | tuple) or not all(isinstance(text, str) and text for text in expects):
        errors.append(f'node {label}: "expects" must be a list of texts')
        expects = ()
    step = Step(0, (subtask or "").replace("{task}", at.prompt), agent, expects=tuple(expects))
    return Node(label, step, cost)


def _subtask(value: Mapping[str, Any]) -> str | None:
    """The instruction: "subtask", or "task" and "description" together."""
    parts = [value["subtask"]] if "subtask" in value else [value.get("task", ""), value.get("description", "")]
    texts = [part for part in parts if isinstance(part, str)]
    return ": ".join(text for text in texts if text.strip()) or None if len(texts) == len(parts) else None


def _dependencies(
    entry: _Entry, place: int, places: Mapping[str, int], at: Situation, errors: list[str]
) -> tuple[set[int], set[int]]:
    """Places of the plan and indices of ended steps that a node depends on."""
    inner: set[int] = set()
    outer: set[int] = set()
    named = (entry.value or {}).get("depends_on", [])
    named = named if isinstance(named, list | tuple) else [named]
    for name in named:
        label = _label(name)
        step = _STEP.fullmatch(label or "")
        if label == "all":
            inner |= set(range(place))
            outer |= set(at.whole)
        elif label == "last":
            inner |= {place - 1} if place else set()
            outer |= set() if place else set(at.whole[-1:])
        elif step and int(step[1]) in at.whole:
            outer.add(int(step[1]))
        elif step and int(step[1]) in at.cut_short:
            errors.append(f"node {entry.label} cannot follow step {step[1]}: it was cut short")
        elif label is not None and label in places:
            inner.add(places[label])
        else:
            errors.append(f"node {entry.label} depends on {_short(name)}, which is no node and no ended step")
    return inner, outer


def _edges(value: Any, places: Mapping[str, int], errors: list[str]) -> set[tuple[int, int]]:
    edges = set()
    for edge in _list(value, "edges", errors):
        ends = [places.get(_label(end) or "") for end in edge] if isinstance(edge, list | tuple) else []
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
            edges.add((ends[0], ends[1]))
        else:
            errors.append(f'"edges" has {_short(edge)}, which is no pair of nodes')
    return edges


def _assignments(value: Any, places: Mapping[str, int], errors: list[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        errors.append('"agent_assignments" must be an object from node to agent')
        return {}
    assigned = {_label(key) or "": agent for key, agent in value.items()}
    errors += [f'"agent_assignments" names {_short(key)}, which is no node' for key in assigned if key not in places]
    return assigned


def _groups(value: Any, places: Mapping[str, int], errors: list[str]) -> list[set[int]]:
    groups = []
    for group in _list(value, "parallel_groups", errors):
        members = {_label(name) for name in group} if isinstance(group, list | tuple) else {None}
        if members <= set(places):
            groups.append({places[label] for label in members if label is not None})
        else:
            errors.append(f'"parallel_groups" has {_short(group)}, which is no list of nodes')
    return groups


def _list(value: Any, key: str, errors: list[str]) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        return value
    errors.append(f'"{key}" must be a list')
    return ()


def _cost_errors(nodes: Sequence[Node], dag: Mapping[str, Any], at: Situation) -> list[str]:
    """Declared costs must fit what is left of the limit, and none may take more than half of it."""
    left, slack = at.cost_left, 1e-9  # sums of decimal fractions are not exact
    costs = {node.label: node.cost for node in nodes if node.cost is not None}
    errors = [
        f"node {label}: cost {cost:g} is more than half of the {left:g} that is left"
        for label, cost in costs.items()
        if cost > left / 2 + slack
    ]
    total = sum(costs.values())
    if costs and total > left + slack:
        errors.append(f"the costs add up to {total:g}, but {left:g} is left")
    declared = dag.get("estimated_total_cost")
    if declared is not None:
        estimate = _positive(declared)
        if estimate is None:
            errors.append(f'"estimated_total_cost" must be a number > 0, got {_short(declared)}')
        elif estimate > left + slack:
            errors.append(f'"estimated_total_cost" is {estimate:g}, but {left:g} is left')
    return errors


def _positive(value: Any) -> float | None:
    """A number > 0 (and of a size that floats can add), or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15
    return float(value) if good else None


def _label(value: Any) -> str | None:
    """How a node is called: whole numbers and texts are names."""
    if isinstance(value, str):
        return value.strip() if value.strip() and len(value) <= 60 else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9 else None


def _short(value: Any) -> str:
    """What was written, for a message."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."

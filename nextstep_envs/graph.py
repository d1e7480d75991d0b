"""Pure functions on directed acyclic graphs: validate, order, ready set, levels, critical path.

A graph maps each node, a whole number, to the nodes that come directly before it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

Graph = Mapping[int, Collection[int]]


def validate(
    graph: Graph,
    max_nodes: int,
    groups: Sequence[Collection[int]] = (),
    name: Callable[[int], str] = str,
) -> tuple[str, ...]:
    """Everything that is wrong with a graph, all at once; () if nothing is.

    It must have 1 to `max_nodes` nodes, no cycle, and so a source and a sink; predecessors must be nodes, and the
    members of a group must not depend on each other.

    Args:
        graph: the nodes before each node.
        max_nodes: the most nodes allowed.
        groups: nodes that are meant to run in parallel.
        name: what to call a node in the messages.
    """
    if not graph:
        return ("there is no node",)
    errors = []
    if len(graph) > max_nodes:
        errors.append(f"there are {len(graph)} nodes, but at most {max_nodes} are allowed")
    unknown = {(node, before) for node, befores in graph.items() for before in befores if before not in graph}
    errors += [f"{name(node)} comes after {name(before)}, which is no node" for node, before in sorted(unknown)]
    known = {node: [before for before in befores if before in graph] for node, befores in graph.items()}
    if loop := cycle(known):
        errors.append(f"there is a cycle: {' -> '.join(map(name, (*loop, loop[0])))}")
    if not sources(known):
        errors.append("there is no source, a node that depends on no other")
    if not sinks(known):
        errors.append("there is no sink, a node that no other depends on")
    for group in groups:
        before = {node: ancestors(known, node) for node in group if node in known}
        for left, right in combinations(sorted(before), 2):
            if left in before[right] or right in before[left]:
                errors.append(f"{name(left)} and {name(right)} are in one parallel group but depend on each other")
    return tuple(errors)


def sources(graph: Graph) -> tuple[int, ...]:
    """Nodes that come after no other."""
    return tuple(sorted(node for node, before in graph.items() if not before))


def sinks(graph: Graph) -> tuple[int, ...]:
    """Nodes that come before no other."""
    inner = {before for befores in graph.values() for before in befores}
    return tuple(sorted(set(graph) - inner))


def ready(graph: Graph, ended: Collection[int]) -> tuple[int, ...]:
    """Nodes that have not ended and whose predecessors all have."""
    return tuple(sorted(n for n, before in graph.items() if n not in ended and all(b in ended for b in before)))


def order(graph: Graph) -> tuple[int, ...]:
    """A topological order: of the nodes that may come next always the smallest.

    Raises:
        ValueError: the graph has a cycle; the message names it.
    """
    found = _sorted_part(graph)
    if len(found) < len(graph):
        raise ValueError(f"the graph has a cycle: {cycle(graph)}")
    return found


def cycle(graph: Graph) -> tuple[int, ...]:
    """The nodes of one cycle, each before the next and the last before the first; () if there is none."""
    rest = set(graph) - set(_sorted_part(graph))
    if not rest:
        return ()
    walk = [min(rest)]  # every node that cannot be sorted has such a node before it
    while True:
        before = min(b for b in graph[walk[-1]] if b in rest)
        if before in walk:
            loop = walk[walk.index(before) :][::-1]
            start = loop.index(min(loop))
            return (*loop[start:], *loop[:start])
        walk.append(before)


def ancestors(graph: Graph, node: int) -> frozenset[int]:
    """All nodes from which a path leads to `node`; the node itself only if it lies on a cycle."""
    found: set[int] = set()
    waiting = list(graph[node])
    while waiting:
        before = waiting.pop()
        if before not in found:
            found.add(before)
            waiting += graph[before]
    return frozenset(found)


def levels(graph: Graph) -> dict[int, int]:
    """The number of edges on the longest path to each node: nodes of one level never depend on each other."""
    level: dict[int, int] = {}
    for node in order(graph):
        level[node] = max((level[before] + 1 for before in graph[node]), default=0)
    return level


def critical_path(graph: Graph, length: Mapping[int, float]) -> tuple[tuple[int, ...], float]:
    """The longest path and its length: what bounds the time of a run however many nodes work at once.

    Args:
        graph: the nodes before each node; acyclic.
        length: how long each node takes.

    Returns:
        The nodes of the path from first to last (of equally long ones the one whose nodes are smallest, seen from the
        end) and the sum of their lengths; ((), 0.0) for no node.
    """
    end: dict[int, float] = {}
    previous: dict[int, int | None] = {}
    for node in order(graph):
        previous[node] = max(sorted(graph[node]), key=end.__getitem__, default=None)
        last = previous[node]
        end[node] = length[node] + (0.0 if last is None else end[last])
    if not end:
        return (), 0.0
    at: int | None = max(sorted(end), key=end.__getitem__)
    longest = end[at] if at is not None else 0.0
    path: list[int] = []
    while at is not None:
        path.append(at)
        at = previous[at]
    return tuple(reversed(path)), longest


def _sorted_part(graph: Graph) -> tuple[int, ...]:
    """The nodes that are on no cycle and after none, in topological order, the smallest first (Kahn 1962)."""
    missing = {node: len(set(before)) for node, before in graph.items()}
    after: dict[int, list[int]] = {node: [] for node in graph}
    for node, befores in graph.items():
        for before in set(befores):
            after[before].append(node)
    waiting = [node for node, count in missing.items() if not count]
    heapq.heapify(waiting)
    found = []
    while waiting:
        node = heapq.heappop(waiting)
        found.append(node)
        for other in after[node]:
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(waiting, other)
    return tuple(found)

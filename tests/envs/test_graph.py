"""Functions on DAGs: what is wrong with a graph, what may come next, how deep and how long it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextstep_envs import graph

DIAMOND = {0: (), 1: (0,), 2: (0,), 3: (1, 2)}


@st.composite
def graphs(draw: st.DrawFn, cyclic: bool = False) -> dict[int, frozenset[int]]:
    n = draw(st.integers(1, 8))
    names = draw(st.permutations(range(n)))
    found = {}
    for place, name in enumerate(names):
        others = names if cyclic else names[:place]
        found[name] = draw(st.frozensets(st.sampled_from(others), max_size=4)) if others else frozenset()
    return found


def paths(g: dict[int, frozenset[int]], node: int) -> list[tuple[int, ...]]:
    """Every path that ends in a node, by brute force."""
    return [(node,)] + [(*path, node) for before in g[node] for path in paths(g, before)]


@given(graphs())
def test_an_order_puts_every_node_after_its_predecessors(g: dict[int, frozenset[int]]) -> None:
    order = graph.order(g)
    assert sorted(order) == sorted(g)
    assert all(order.index(before) < order.index(node) for node in g for before in g[node])
    assert not graph.cycle(g) and graph.sources(g) and graph.sinks(g)
    assert graph.validate(g, len(g)) == ()


@given(graphs(cyclic=True))
def test_a_cycle_is_found_exactly_where_no_order_exists(g: dict[int, frozenset[int]]) -> None:
    loop = graph.cycle(g)
    on_cycle = [node for node in g if node in graph.ancestors(g, node)]
    assert bool(loop) == bool(on_cycle)
    if loop:
        assert len(set(loop)) == len(loop)
        assert all(left in g[right] for left, right in zip(loop, (*loop[1:], loop[0]), strict=True))
        with pytest.raises(ValueError, match="cycle"):
            graph.order(g)
    else:
        assert len(graph.order(g)) == len(g)


@given(graphs())
def test_levels_and_ancestors_are_those_of_all_paths(g: dict[int, frozenset[int]]) -> None:
    level = graph.levels(g)
    for node in g:
        ending = paths(g, node)
        assert level[node] == max(map(len, ending)) - 1
        assert graph.ancestors(g, node) == {other for path in ending for other in path} - {node}


@given(graphs(), st.lists(st.integers(0, 9), min_size=8, max_size=8))
def test_the_critical_path_is_the_longest_of_all_paths(g: dict[int, frozenset[int]], times: list[int]) -> None:
    length = dict(enumerate(times))
    path, total = graph.critical_path(g, length)
    assert path in [p for node in g for p in paths(g, node)]
    assert total == sum(length[node] for node in path)
    assert total == max(sum(length[n] for n in p) for node in g for p in paths(g, node))


@given(graphs())
def test_running_what_is_ready_reaches_every_node_level_by_level(g: dict[int, frozenset[int]]) -> None:
    ended: set[int] = set()
    level = graph.levels(g)
    for depth in range(max(level.values()) + 1):
        ready = graph.ready(g, ended)
        assert all(g[node] <= ended for node in ready)
        assert {node for node in g if level[node] == depth} <= set(ready)
        ended |= set(ready)
    assert ended == set(g) and graph.ready(g, ended) == ()


def test_small_graphs_by_hand() -> None:
    assert graph.order({0: (1,), 1: (), 2: ()}) == (1, 0, 2)
    assert graph.sources(DIAMOND) == (0,) and graph.sinks(DIAMOND) == (3,)
    assert graph.levels(DIAMOND) == {0: 0, 1: 1, 2: 1, 3: 2}
    assert graph.ready(DIAMOND, {0}) == (1, 2) and graph.ready(DIAMOND, {0, 1}) == (2,)
    assert graph.critical_path(DIAMOND, {0: 1.0, 1: 2.0, 2: 5.0, 3: 1.0}) == ((0, 2, 3), 7.0)
    assert graph.critical_path({}, {}) == ((), 0.0)
    assert graph.cycle({0: (2,), 1: (0,), 2: (1,), 3: (2,)}) == (0, 1, 2)
    assert graph.cycle({0: (0,)}) == (0,)


@pytest.mark.parametrize(
    ("g", "max_nodes", "groups", "errors"),
    [
        (DIAMOND, 4, [(1, 2)], []),
        (DIAMOND, 3, [], ["there are 4 nodes, but at most 3"]),
        ({}, 3, [], ["there is no node"]),
        ({0: (1,), 1: (0,)}, 3, [], ["cycle: n0 -> n1 -> n0", "no source", "no sink"]),
        ({0: (), 1: (0, 1)}, 3, [], ["cycle: n1 -> n1", "no sink"]),
        ({0: (), 1: (0,), 2: (1, 3), 3: (2,)}, 9, [], ["cycle: n2 -> n3 -> n2", "no sink"]),
        ({0: (7,)}, 3, [], ["n0 comes after n7, which is no node"]),
        (DIAMOND, 4, [(1, 2), (0, 3), (2, 3)], ["n0 and n3 are in one parallel group", "n2 and n3 are in one"]),
        ({0: (), 1: (1,), 2: ()}, 2, [(1, 2)], ["3 nodes", "cycle: n1 -> n1"]),
    ],
)
def test_validation_lists_every_error_at_once(g: graph.Graph, max_nodes: int, groups: list, errors: list[str]) -> None:
    found = graph.validate(g, max_nodes, groups, "n{}".format)
    assert len(found) == len(errors), found
    for text, part in zip(found, errors, strict=True):
        assert part in text

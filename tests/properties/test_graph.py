# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of networkx is answered from the links of the state alone."""

from __future__ import annotations

from model import BlockState
from model.values.state import FrozenDict, Link, Node, Role
from properties.graph import below, cycle, parts


def state(*edges: tuple[str, str]) -> BlockState:
    """A graph with these edges, whose nodes know nothing of their parents."""
    names = sorted({name for edge in edges for name in edge})
    nodes = {
        name: Node(name, "raw", children=tuple(
            Link(name, f"child-{child}", child, Role.DATA) for top, child in edges if top == name
        ))
        for name in names
    }  # fmt: skip
    return BlockState(nodes=FrozenDict(nodes))


def test_a_diamond_is_no_cycle() -> None:
    diamond = state(("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    assert cycle(diamond) == []
    assert below(diamond, ["b"]) == {"b", "d"}
    assert below(diamond, ["b", "c"]) == {"b", "c", "d"}


def test_a_cycle_is_named_from_parent_to_child() -> None:
    names = cycle(state(("a", "b"), ("b", "c"), ("c", "b")))
    assert sorted(names) == ["b", "c"]
    assert cycle(state(("a", "a"))) == ["a"]


def test_parts_are_what_hangs_together() -> None:
    found = parts(state(("a", "b"), ("c", "b"), ("x", "y")))
    assert sorted(map(sorted, found)) == [["a", "b", "c"], ["x", "y"]]

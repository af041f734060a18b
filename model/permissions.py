# SPDX-License-Identifier: GPL-2.0-or-later
"""Permissions, derived from the graph.

Each user of a node says what it requires and what it shares. What a parent
requires of its child follows from what is required of the parent itself, so the
permissions of every link are a function of the graph, the drivers and which nodes
are writable. Nothing of this is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.drivers.base import driver_of
from model.rules import effect
from model.state import BlockState, Link, LinkKey, Node, Perm, Use

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from model.graph import Transition

ALL = Perm.ALL
Grant = tuple[int, int]
"""``(required, shared)`` as sums of :class:`Perm`."""

_NAMES = (
    (1, "consistent read"),
    (2, "write"),
    (4, "write unchanged"),
    (8, "resize"),
    (16, "change children"),
)


GRAPH_MOD = effect(
    "permissions.graph-mod",
    "There is a permission to change a node's children, which only a stream job asks for.",
    source="5.2",
)


def graph_mod(t: Transition) -> int:
    """The permission to change a node's children, where there is one."""
    return Perm.GRAPH_MOD if t.ev.holds(GRAPH_MOD) else 0


def permission_names(perm: int) -> str:
    """The names of a set of permissions as QEMU's messages list them."""
    return ", ".join(name for bit, name in _NAMES if perm & bit)


class Permissions:
    """Grants of every link of a graph, computed when they are asked for.

    ``writable`` overrides, by node name, whether a node may be written: what a
    reopen is about to make of it. ``fresh`` are the
    nodes that look at their children anew; the others go by what they knew of them.
    """

    __slots__ = ("_cumulative", "_fresh", "_grants", "_nodes", "_writable")

    def __init__(
        self,
        nodes: Mapping[str, Node],
        writable: Mapping[str, bool],
        fresh: Collection[str] = (),
    ) -> None:
        self._fresh = fresh
        self._nodes = nodes
        self._writable = writable
        self._cumulative: dict[str, Grant] = {}
        self._grants: dict[LinkKey, Grant] = {}

    def writable(self, name: str) -> bool:
        """Whether the node may be written once the reopen under way is done."""
        return self._writable[name] if name in self._writable else not self._nodes[name].read_only

    def grant(self, key: LinkKey | Use) -> Grant:
        """What the parent of a link requires of its child, and what it shares."""
        if isinstance(key, Use):
            return key.perm, key.shared
        grant = self._grants.get(key)
        if grant is None:
            self._grant_children(key[0])
            grant = self._grants[key]
        return grant

    def _grant_children(self, name: str) -> None:
        node = self._nodes[name]
        perm, shared = self.cumulative(name)
        driver = driver_of(node.driver)
        writable = self.writable(name)
        fresh = name in self._fresh
        for link in node.children:
            needed, granted = driver.child_permissions(node, link.role, writable, perm, shared)
            if self._nodes[link.child].force_share:
                granted = ALL
            grant = (needed, granted) if fresh or link.kept is None else link.kept
            self._grants[name, link.name] = grant

    def cumulative(self, name: str) -> Grant:
        """What all users of a node together require of it, and what all of them share."""
        known = self._cumulative.get(name)
        if known is not None:
            return known
        perm, shared = 0, ALL
        for key in self._nodes[name].parents:
            needed, granted = self.grant(key)
            perm |= needed
            shared &= granted
        self._cumulative[name] = (perm, shared)
        return perm, shared

    def users(self, name: str) -> list[tuple[str, str, int, int]]:
        """``(description, child name, required, shared)`` of each user, newest first."""
        users = []
        for key in self._nodes[name].parents:
            needed, granted = self.grant(key)
            if isinstance(key, Use):
                users.append((key.description, key.label, needed, granted))
            else:
                users.append((f"node '{key[0]}'", key[1], needed, granted))
        return users


def permissions(state: BlockState) -> dict[LinkKey, Grant]:
    """The grants of every link of a state."""
    derived = Permissions(state.nodes, {})
    return {link.key: derived.grant(link.key) for link in state.links()}


def topological(nodes: Mapping[str, Node], roots: list[str]) -> list[str]:
    """The subtrees of ``roots``, parents before children, in the order that QEMU visits them.

    The order decides which of several conflicts is reported.
    """
    order: list[str] = []
    found: set[str] = set()

    def visit(name: str) -> None:
        if name in found:
            return
        found.add(name)
        for link in nodes[name].children:
            visit(link.child)
        order.append(name)

    for root in roots:
        visit(root)
    order.reverse()
    return order


def reaches(nodes: Mapping[str, Node], start: str, goal: str) -> bool:
    """Whether ``goal`` is ``start`` or somewhere below it."""
    if start == goal:
        return True
    stack = [start]
    seen = {start}
    while stack:
        for link in nodes[stack.pop()].children:
            if link.child == goal:
                return True
            if link.child not in seen:
                seen.add(link.child)
                stack.append(link.child)
    return False


def above(nodes: Mapping[str, Node], names: Iterable[str]) -> set[str]:
    """The nodes ``names`` and all from which one of them is reached."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(key[0] for key in nodes[name].parents if not isinstance(key, Use))
    return found


def below(nodes: Mapping[str, Node], names: Iterable[str]) -> set[str]:
    """The nodes ``names`` and all that are reached from one of them."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(link.child for link in nodes[name].children)
    return found


def shares_below(nodes: Mapping[str, Node], top: str) -> bool:
    """Whether some node below ``top`` is reached from there in two ways."""
    seen: set[str] = set()
    stack = [link.child for link in nodes[top].children]
    while stack:
        name = stack.pop()
        if name in seen:
            return True
        seen.add(name)
        stack.extend(link.child for link in nodes[name].children)
    return False


def links_to(nodes: Mapping[str, Node], name: str) -> list[Link]:
    """The links of other nodes that lead to a node, newest first."""
    found = []
    for key in nodes[name].parents:
        link = None if isinstance(key, Use) else nodes[key[0]].link(key[1])
        if link is not None:
            found.append(link)
    return found

# SPDX-License-Identifier: GPL-2.0-or-later
"""Permissions, derived from the graph.

Each user of a node says what it requires and what it shares. What a parent
requires of its child follows from what is required of the parent itself, so the
permissions of every link are a function of the graph, the drivers and which nodes
are writable. Nothing of this is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import driver_of
from model.release.rules import effect
from model.values.state import BlockState, Grant, LinkKey, Node, Perm, Use

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from model.graph.transition import Transition


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
                granted = Perm.ALL
            grant = (needed, granted) if fresh or link.kept is None else link.kept
            self._grants[name, link.name] = grant

    def cumulative(self, name: str) -> Grant:
        """What all users of a node together require of it, and what all of them share."""
        known = self._cumulative.get(name)
        if known is not None:
            return known
        perm, shared = 0, Perm.ALL
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

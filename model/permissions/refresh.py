# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking permissions after the graph, or what its nodes are, has changed.

Permissions are derived; what happens here is that they are compared: users of a node with
each other, writers with read-only nodes, file nodes with others on the same file. The
order is QEMU's, since the first disagreement is the one that a client reads of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph.driver import driver_of
from model.graph.traversal import length_of, topological
from model.permissions.check_update import FROM_EACH, Descent
from model.permissions.file_locks import ALIGNMENT, READ_ONLY, READ_ONLY_REOPEN, check_locks
from model.permissions.grants import Permissions, permission_names
from model.release.rules import Refusal, guard
from model.values.state import Grant, Perm

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Node

CONFLICT = guard(
    "permissions.conflict",
    "What one user of a node requires, every other user must share; the first pair that "
    "disagrees is reported, users newest first.",
    source="7.2: permissions are refreshed over one topological list",
    text="Permission conflict on node '{node}': permissions '{perms}' are both required by "
    "{user} (uses node '{node}' as '{name}' child) and unshared by {other} (uses node "
    "'{node}' as '{other_name}' child).",
)

_WRITES = Perm.WRITE | Perm.WRITE_UNCHANGED


def refresh(
    t: Transition,
    roots: list[str],
    writable: dict[str, bool] | None = None,
) -> None:
    """Check the permissions of the subtrees of ``roots``; refuse at the first that is wrong.

    ``writable`` is what a reopen under way makes of its nodes.
    """
    order = topological(t.nodes, roots)
    if t.ev.holds(FROM_EACH):
        descent = Descent(t, writable or {})
        for root in roots:
            descent.check(root)
        descent.settle()
    else:
        _check_together(t, order, writable or {})
    settle(t, order, writable)


def settle(t: Transition, order: list[str], writable: dict[str, bool] | None = None) -> None:
    """What was checked is so from now on: nodes, parents first, and their drivers take note."""
    derived = Permissions(t.nodes, writable or {}, frozenset(order))
    for name in order:
        node = t.nodes[name]
        for link in node.children:
            if link.kept is not None:
                known = tuple(attrs.evolve(link, kept=None) for link in node.children)
                node = t.change(name, children=known)
                break
        driver = driver_of(node.driver)
        if driver.minds_permissions:
            perm, _ = derived.cumulative(name)
            driver.settle(t, node, perm, reopening=writable is not None and name in writable)


def refresh_link(t: Transition, name: str, child: str) -> None:
    """Check what a node asks of one of its children; refuse where others do not agree."""
    link = t.nodes[name].link(child)
    if link is None or not t.ev.holds(FROM_EACH):
        refresh(t, [name])
        return
    descent = Descent(t, {})
    descent.check_link(link)
    descent.settle()


def _check_together(t: Transition, order: list[str], writable: dict[str, bool]) -> None:
    """Check nodes that come in topological order, each with all of its users."""
    derived = Permissions(t.nodes, writable, frozenset(order))
    locks: dict[str, Grant] = {}
    settled: dict[str, Grant] = {}
    for name in order:
        node = t.nodes[name]
        _check_users(t, derived, name)
        perm, shared = derived.cumulative(name)
        driver = driver_of(node.driver)
        if perm & _WRITES:
            _check_writable(t, node, derived, perm)
        if driver.locks(node):
            check_locks(t, node, perm, shared, locks)
            settled[name] = (perm, shared)
        if driver.minds_permissions:
            driver.lose(t, node, perm)
    t.held.update(settled)


def loosen(t: Transition, name: str, before: Permissions) -> None:
    """A user of a node has gone, which should never be refused.

    Where it is, since the node has come to a size that those who stay could not ask for,
    all links below keep what they required and shared ``before``.
    """
    _loosen(t, [name], name, before)


def loosen_child(t: Transition, name: str, before: Permissions) -> None:
    """A node requires less of its children by itself, which should not be refused either."""
    node = t.nodes[name]
    fresh = tuple(attrs.evolve(link, kept=None) for link in node.children)
    t.change(name, children=fresh)
    _loosen(t, [link.child for link in fresh], name, before)


def _loosen(t: Transition, roots: list[str], top: str, before: Permissions) -> None:
    try:
        if t.ev.holds(FROM_EACH):
            descent = Descent(t, {}, loosens=True)
            for root in roots:
                descent.check(root)
            descent.settle()
            settle(t, topological(t.nodes, roots))
        else:
            refresh(t, roots)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        for name in topological(t.nodes, [top]):
            children = tuple(
                attrs.evolve(link, kept=before.grant(link.key)) for link in t.nodes[name].children
            )
            t.change(name, children=children)


def _check_writable(t: Transition, node: Node, derived: Permissions, perm: int) -> None:
    """Somebody writes: the node must let them, and be of a size that they can write to."""
    ev = t.ev
    if derived.writable(node.name):
        ev.accepted.update((READ_ONLY.id, READ_ONLY_REOPEN.id))
    elif node.read_only:
        ev.refuse(READ_ONLY)
    else:
        ev.refuse(READ_ONLY_REOPEN, node=node.name)
    if not perm & Perm.RESIZE:
        alignment = driver_of(node.driver).alignment(t, node)
        if alignment > 1:
            ev.check(ALIGNMENT, length_of(t, node.name) % alignment == 0)


def _check_users(t: Transition, derived: Permissions, name: str) -> None:
    if len(t.nodes[name].parents) < 2:  # noqa: PLR2004  # it takes two
        return
    users = derived.users(name)
    for i, (other, other_name, _, shared) in enumerate(users):
        for j, (user, user_name, perm, _) in enumerate(users):
            if i != j and perm & ~shared:
                t.ev.refuse(
                    CONFLICT,
                    node=name,
                    perms=permission_names(perm & ~shared),
                    user=user,
                    name=user_name,
                    other=other,
                    other_name=other_name,
                )
    t.ev.accepted.add(CONFLICT.id)

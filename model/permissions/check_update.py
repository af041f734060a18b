# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking permissions from each changed node down, link by link, as it was done before 6.0.

What a link is about to require and share is compared with what the other users of its node have
at that moment: some of them what they are to have, others, which come later, what they had. The
order is QEMU's, since the first disagreement is the one that a client reads of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph.driver import driver_of
from model.graph.traversal import length_of
from model.permissions.file_locks import ALIGNMENT, READ_ONLY, READ_ONLY_REOPEN, check_locks
from model.permissions.grants import Permissions, permission_names
from model.release.rules import effect, guard, hazard
from model.values.state import UNNAMED, Grant, Perm, Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.transition import Transition
    from model.values.state import Link, LinkKey, Node

FROM_EACH = effect(
    "permissions.from-each-node",
    "Permissions are checked from each changed node down, one link after the other.",
    source="5.2",
)
NOT_ALLOWED = guard(
    "permissions.not-allowed",
    "What a user of a node is to require, all others share.",
    source="5.2",
    text="Conflicts with use by {user} as '{name}', which does not allow '{perms}' on {node}",
)
USED = guard(
    "permissions.used",
    "What a user of a node is to share no more, no other one requires.",
    source="5.2",
    text="Conflicts with use by {user} as '{name}', which uses '{perms}' on {node}",
)
TIGHTENS = hazard(
    "hazard.loosening-tightens",
    "Somebody lets go of a node, below which a link would be asked for more than it was before.",
    source="5.2 ends with an assertion in bdrv_replace_child",
)
UNSHARES_UNCHANGED = hazard(
    "hazard.unshares-unchanged",
    "A blkdebug node is not to share write-unchanged.",
    source="5.2 ends with an assertion",
)
GETS_WRITER = guard(
    "permissions.gets-writer",
    "A node cannot become read-only and get a user that writes.",
    source="5.2",
    text="Cannot make block node read-only and create a writer on it",
)

_WRITES = Perm.WRITE | Perm.WRITE_UNCHANGED


class Descent:
    """One check, of one or several nodes, before anything is settled.

    ``writable`` is what a reopen under way makes of its nodes. It ``loosens`` where somebody has
    let go of a node, so that nobody should be asked for more.
    """

    __slots__ = (
        "_copied",
        "_derived",
        "_locks",
        "_loosens",
        "_met",
        "_settled",
        "_t",
        "_tentative",
        "_writable",
    )

    def __init__(
        self, t: Transition, writable: Mapping[str, bool], *, loosens: bool = False
    ) -> None:
        self._t = t
        self._loosens = loosens
        self._writable = writable
        self._derived = Permissions(t.nodes, writable)
        self._tentative: dict[LinkKey, Grant] = {}
        self._locks: dict[str, Grant] = {}
        self._copied: dict[str, Grant] = {}
        self._settled: dict[str, Grant] = {}
        self._met: dict[str, None] = {}

    def without_reopen(self) -> Descent:
        """The same check where nobody looks at what the reopen makes of nodes."""
        plain = Descent(self._t, {})
        plain._tentative = self._tentative
        plain._locks, plain._copied = self._locks, self._copied
        return plain

    def check(self, name: str) -> None:
        """A node whose children, or whose users, have changed. Raises :class:`Refusal`."""
        new = [key for key in self._t.nodes[name].parents if self._grant(key, name) is None]
        if not new:
            self._check(name, *self._cumulative(name, ()), ())
            return
        perm, shared = 0, Perm.ALL
        for key in new:
            required, granted = self._derived.grant(key)
            perm |= required
            shared &= granted
        self.check_users(name, perm, shared, tuple(new))

    def check_new(self, link: Link) -> None:
        """A link that is to be made. Raises :class:`Refusal`."""
        parent = self._t.nodes.get(link.parent)
        if parent is not None:
            users = self.users(link.parent)
            self.check_users(
                link.child, *self.child_grant(parent, link.child, link.role, users), ()
            )

    def check_link(self, link: Link) -> None:
        """A link whose parent has come to want something else. Raises :class:`Refusal`."""
        self._check_child(self._t.nodes[link.parent], link, self.users(link.parent), ())

    def check_users(
        self, name: str, perm: int, shared: int, ignored: tuple[LinkKey | Use, ...]
    ) -> None:
        """A node with a user who requires and shares something else than before, or is new.

        ``ignored`` are links that are about to change themselves. Raises :class:`Refusal`.
        """
        ev = self._t.ev
        if not shared & Perm.WRITE_UNCHANGED:
            ev.meet(UNSHARES_UNCHANGED)
        for key in self._t.nodes[name].parents:
            grant = None if key in ignored else self._grant(key, name)
            if grant is None:
                continue
            if perm & ~grant[1]:
                ev.refuse(
                    NOT_ALLOWED, **_user(key), perms=permission_names(perm & ~grant[1]), node=name
                )
            if grant[0] & ~shared:
                ev.refuse(USED, **_user(key), perms=permission_names(grant[0] & ~shared), node=name)
        ev.accepted.update((NOT_ALLOWED.id, USED.id))
        others = self._cumulative(name, ignored)
        self._check(name, perm | others[0], shared & others[1], ignored)

    def settle(self) -> None:
        """What was checked is so from now on."""
        t = self._t
        t.held.update(self._settled)
        for name, grant in self._copied.items():
            driver_of(t.nodes[name].driver).copy_locks(t, t.nodes[name], grant)
        for name in self._met:
            for key in t.nodes[name].parents:
                if key in self._tentative or (key, name) not in granted(t):
                    granted(t)[key, name] = self._derived.grant(key)

    def _grant(self, key: LinkKey | Use, child: str) -> Grant | None:
        """What a user requires and shares by now; None if it is new, or was elsewhere before."""
        if not isinstance(key, Use) and key in self._tentative:
            return self._tentative[key]
        return granted(self._t).get((key, child))

    def _cumulative(self, name: str, ignored: tuple[LinkKey | Use, ...]) -> Grant:
        perm, shared = 0, Perm.ALL
        for key in self._t.nodes[name].parents:
            grant = None if key in ignored else self._grant(key, name)
            if grant is not None:
                perm |= grant[0]
                shared &= grant[1]
        return perm, shared

    def _check(self, name: str, perm: int, shared: int, ignored: tuple[LinkKey | Use, ...]) -> None:
        t = self._t
        node = t.nodes[name]
        driver = driver_of(node.driver)
        self._met[name] = None
        if perm & _WRITES:
            self._check_writable(node, perm)
        if driver.locks(node):
            check_locks(t, node, perm, shared, self._locks, self._copied)
            self._settled[name] = (perm, shared)
        elif name in self._writable and driver.copies_locks(t):
            self._copied[name] = (perm, shared)
        if driver.minds_permissions:
            driver.lose(t, node, perm)
        for link in node.children:
            self._check_child(node, link, (perm, shared), ignored)

    def _check_child(
        self, node: Node, link: Link, users: Grant, ignored: tuple[LinkKey | Use, ...]
    ) -> None:
        grant = self.child_grant(node, link.child, link.role, users)
        before = self._grant(link.key, link.child)
        if self._loosens and before and (grant[0] & ~before[0] or before[1] & ~grant[1]):
            self._t.ev.meet(TIGHTENS)
        self.check_users(link.child, *grant, (link.key, *ignored))
        self._tentative[link.key] = grant

    def child_grant(self, node: Node, child: str, role: int, users: Grant) -> Grant:
        """What a node requires and shares of a child, where its users require and share that."""
        writable = self._derived.writable(node.name)
        perm, shared = driver_of(node.driver).child_permissions(node, role, writable, *users)
        return (perm, Perm.ALL) if self._t.nodes[child].force_share else (perm, shared)

    def users(self, name: str) -> Grant:
        """What all users of a node together require of it by now, and what all of them share."""
        return self._cumulative(name, ())

    def _check_writable(self, node: Node, perm: int) -> None:
        ev = self._t.ev
        if self._derived.writable(node.name):
            ev.accepted.update((READ_ONLY.id, READ_ONLY_REOPEN.id, GETS_WRITER.id))
        elif node.read_only:
            ev.refuse(READ_ONLY)
        else:
            has_writer = self.users(node.name)[0] & _WRITES
            ev.refuse(READ_ONLY_REOPEN if has_writer else GETS_WRITER, node=node.name)
        if not perm & Perm.RESIZE:
            alignment = driver_of(node.driver).alignment(self._t, node)
            if alignment > 1:
                ev.check(ALIGNMENT, length_of(self._t, node.name) % alignment == 0)


def keep(t: Transition) -> None:
    """At the end of a command: links that nobody asked anew go on as they were.

    What a node would ask of its children by now may be something else: it has lost a user to
    another node, or has become read-only.
    """
    now = Descent(t, {})
    for name in list(t.nodes):
        node = t.nodes[name]
        if not node.children:
            continue
        users = now.users(name)
        children = tuple(_as_settled(t, now, link, users) for link in node.children)
        if children != node.children:
            t.change(name, children=children)


def _as_settled(t: Transition, now: Descent, link: Link, users: Grant) -> Link:
    settled = granted(t).get((link.key, link.child))
    derived = now.child_grant(t.nodes[link.parent], link.child, link.role, users)
    kept = None if settled in (None, derived) else settled
    return link if link.kept == kept else attrs.evolve(link, kept=kept)


def _user(key: LinkKey | Use) -> dict[str, str]:
    if isinstance(key, Use) and key.description == UNNAMED:
        return {"user": "a block device", "name": key.label}
    if isinstance(key, Use):
        return {"user": key.description, "name": key.label}
    return {"user": key[0], "name": key[1]}


def granted(t: Transition) -> dict[tuple[LinkKey | Use, str], Grant]:
    """What each user of a node required and shared when that was settled last.

    By the user and the node: a link may have led elsewhere before.
    """
    if t.grants is None:
        derived = Permissions(t.settled, {})
        t.grants = {
            (key, name): derived.grant(key)
            for name, node in t.settled.items()
            for key in node.parents
        }
    return t.grants

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node itself says to the permissions of its users, and the host to those of a file.

Several nodes on one file are like users of one node to each other, only that it is the host's
kernel which compares what they require and share, by the locks that they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import driver_of
from model.permissions.grants import Permissions, permission_names
from model.release.rules import guard
from model.values.state import EMPTY, Grant, Perm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.transition import Transition
    from model.values.state import Node

READ_ONLY = guard(
    "permissions.read-only",
    "A node that is read-only has no users that write.",
    source="7.2",
    text="Block node is read-only",
)
READ_ONLY_REOPEN = guard(
    "permissions.read-only-reopen",
    "A node cannot become read-only while it has users that write.",
    source="7.2; 5.2 says it otherwise",
    text="Read-only block node '{node}' cannot support read-write users",
)
ALIGNMENT = guard(
    "permissions.alignment",
    "Who may write but not resize needs an image whose size is a multiple of the request "
    "alignment.",
    source="7.2",
    text="Cannot get 'write' permission without 'resize': Image size is not a multiple of "
    "request alignment",
)
LOCK = guard(
    "file.lock",
    "A file node locks what its users require against other nodes on the same file that "
    "do not share it.",
    source="7.2: file locking",
    text='Failed to get "{perm}" lock',
)
SHARED_LOCK = guard(
    "file.shared-lock",
    "A file node locks what its users do not share against other nodes on the same file "
    "that require it.",
    source="7.2: file locking",
    text='Failed to get shared "{perm}" lock',
)

_BITS = (1, 2, 4, 8)


def _locked(t: Transition, name: str) -> Grant:
    """What a file node has locked since the last change of permissions was settled."""
    if name in t.held:
        return t.held[name]
    if name in t.before.nodes:
        return Permissions(t.before.nodes, {}).cumulative(name)
    return (0, Perm.ALL)


def check_locks(
    t: Transition,
    node: Node,
    perm: int,
    shared: int,
    locks: dict[str, Grant],
    copied: Mapping[str, Grant] = EMPTY,
) -> None:
    """Compare with the other nodes on the file; ``locks`` is what this change holds so far.

    Until the change is settled a node keeps what it had locked and adds what it will need.
    ``copied`` are locks of new descriptors, of nodes that do not lock themselves.
    """
    path = node.filename
    same = [n for n in t.nodes.values() if n.filename == path and n.name != node.name]
    others = [n.name for n in same if driver_of(n.driver).locks(n)]
    found = [copied.get(n.name) or driver_of(n.driver).copied_locks(n) for n in same]
    beside = [grant for grant in found if grant is not None]
    if not others and not beside:
        locks[node.name] = (perm, shared)
        return
    own_perm, own_shared = _locked(t, node.name)
    held = [*beside, *(locks.get(other) or _locked(t, other) for other in others)]
    if perm & ~own_perm or own_shared & ~shared:
        for bit in _BITS:
            if perm & bit and any(not unshared & bit for _, unshared in held):
                t.ev.refuse(LOCK, perm=permission_names(bit))
        for bit in _BITS:
            if not shared & bit and any(taken & bit for taken, _ in held):
                t.ev.refuse(SHARED_LOCK, perm=permission_names(bit))
        t.ev.accepted.update((LOCK.id, SHARED_LOCK.id))
    locks[node.name] = (own_perm | perm, own_shared & shared)

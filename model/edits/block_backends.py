# SPDX-License-Identifier: GPL-2.0-or-later
"""Block backends: through them jobs, exports and single commands read and write a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.edits.users import add_use, remove_use, remove_user
from model.permissions.refresh import refresh
from model.release.rules import Refusal
from model.values.state import UNNAMED, User

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Grant

ROOT = "root"
"""What QEMU calls the link of a block backend."""


def take(
    t: Transition, key: str, node: str, grant: Grant, *, context: str, follows: bool = False
) -> str:
    """Make a block backend that works on a node in a context; returns its key.

    Raises :class:`Refusal` where others do not agree with what it requires and shares.
    """
    while key in t.users:
        # One that an earlier job of this name has left behind.
        key += "'"
    t.add_user(User(key, "block-backend", "", context=context, follows=follows))
    try:
        add_use(t, key, ROOT, node, grant, stays=False, description=UNNAMED)
    except Refusal:
        del t.users[key]
        raise
    return key


def put(t: Transition, key: str, node: str, grant: Grant) -> None:
    """Let a block backend work on another node. Raises :class:`Refusal`."""
    remove_use(t, key, ROOT)
    add_use(t, key, ROOT, node, grant, stays=False, description=UNNAMED)


def share(t: Transition, user: str, node: str, grant: Grant) -> None:
    """Let a user's only link require and share something else. Raises :class:`Refusal`."""
    _, old = t.used(user, "root")
    new = old._replace(perm=grant[0], shared=grant[1])
    before = t.nodes[node].parents
    t.change(node, parents=tuple(new if key is old else key for key in before))
    try:
        refresh(t, [node])
    except Refusal:
        t.change(node, parents=before)
        raise


def let_go(t: Transition, key: str | None) -> None:
    """Take a block backend away, if there is one."""
    if key is not None and key in t.users:
        remove_user(t, key)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Block backends: through them jobs, exports and single commands read and write a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.rules import Refusal
from model.state import UNNAMED, User

if TYPE_CHECKING:
    from model.graph import Transition
    from model.permissions import Grant

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
        t.use(key, ROOT, node, grant, stays=False, description=UNNAMED)
    except Refusal:
        del t.users[key]
        raise
    return key


def put(t: Transition, key: str, node: str, grant: Grant) -> None:
    """Let a block backend work on another node. Raises :class:`Refusal`."""
    t.unuse(key, ROOT)
    t.use(key, ROOT, node, grant, stays=False, description=UNNAMED)


def let_go(t: Transition, key: str | None) -> None:
    """Take a block backend away, if there is one."""
    if key is not None and key in t.users:
        t.remove_user(key)

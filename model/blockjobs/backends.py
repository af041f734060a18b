# SPDX-License-Identifier: GPL-2.0-or-later
"""The block backends through which jobs read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.contexts import UNNAMED
from model.rules import Refusal
from model.state import User

if TYPE_CHECKING:
    from model.graph import Transition
    from model.permissions import Grant
    from model.state import Job

ROOT = "root"
"""What QEMU calls the link of a block backend."""


def take(
    t: Transition, job: Job, purpose: str, node: str, grant: Grant, *, follows: bool = False
) -> str:
    """Give a job a block backend on a node; returns its key. Raises :class:`Refusal`."""
    key = f"blk:{job.id}:{purpose}"
    while key in t.users:
        # One that an earlier job of this name has left behind.
        key += "'"
    user = User(key, "block-backend", "", context=t.users[job.user].context, follows=follows)
    t.add_user(user)
    try:
        t.use(key, ROOT, node, grant, stays=False, description=UNNAMED)
    except Refusal:
        del t.users[key]
        raise
    return key


def let_go(t: Transition, key: str | None) -> None:
    """Take a block backend away, if there is one."""
    if key is not None and key in t.users:
        t.remove_user(key)

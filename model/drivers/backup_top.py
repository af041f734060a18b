# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter of a backup before 6.0, which no client could make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.drivers.copy_before_write import CopyBeforeWrite, cluster_of, working_permissions
from model.drivers.mirror_top import NOT_FOR_CLIENTS
from model.graph.dirty_bitmaps import add as add_bitmap
from model.graph.traversal import length_of, primary_child
from model.release.rules import effect
from model.values.private import BackupTopState
from model.values.ranges import whole
from model.values.state import Bitmap, Perm

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions, Opener
    from model.graph.transition import Transition
    from model.values.state import Node

HAS_DRIVER = effect(
    "backup.filter-is-a-driver",
    "The filter of a backup is a driver that clients can use, too.",
    source="6.1",
)


class BackupTop(CopyBeforeWrite):
    """Copies what is about to be overwritten; what it filters is a backing file to it."""

    name = "backup-top"
    child_name = "backing"
    minds_being_used = False

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Only jobs make such nodes."""
        opener.t.ev.refuse(NOT_FOR_CLIENTS, driver=self.name)

    def set_up(self, t: Transition, name: str, least: int = 0) -> None:
        """Begin to take note of what is still to be copied; nobody asks for larger pieces yet."""
        cluster = cluster_of(t, name)
        source = primary_child(t, name)
        everything = whole(length_of(t, source), cluster)
        add_bitmap(t, source, Bitmap(name, cluster, recording=False, dirty=everything))
        t.change(name, private=BackupTopState(cluster, source, reads=False, active=True))

    def child_permissions(
        self, node: Node, role: int, writable: bool, perm: int, shared: int
    ) -> tuple[int, int]:
        """Nothing, before it is in its place."""
        if node.private is None or not node.private.active:
            return 0, Perm.ALL
        return working_permissions(role, writable, perm, shared, reads=False)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter that a commit job puts above its top image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.drivers.filter import Filter
from model.drivers.mirror_top import NOT_FOR_CLIENTS
from model.values.state import Perm

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions, Opener
    from model.values.state import Node


class CommitTop(Filter):
    """Lets its users read on while the images below are no longer what they were."""

    name = "commit_top"
    child_name = "backing"
    borrows_filename = True
    hears_of_length = False

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Only jobs make such nodes."""
        opener.t.ev.refuse(NOT_FOR_CLIENTS, driver=self.name)

    def child_permissions(
        self, node: Node, role: int, writable: bool, perm: int, shared: int
    ) -> tuple[int, int]:
        """Nothing is required of the chain below, and everything shared."""
        return 0, Perm.ALL

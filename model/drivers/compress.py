# SPDX-License-Identifier: GPL-2.0-or-later
"""compress: a filter that compresses what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data.length import cluster_size
from model.drivers.filter import Filter
from model.graph.traversal import driver_at, primary_child
from model.release.rules import guard

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions, Opener
    from model.graph.transition import Transition
    from model.values.state import Node

COMPRESSION = guard(
    "compress.unsupported",
    "Compression needs a child that can write compressed data.",
    source="7.2",
    text="Compression is not supported for underlying format: {driver}",
)


class Compress(Filter):
    """Writes compressed."""

    name = "compress"
    others = ("file",)
    variable_length = True

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Not every child can compress."""
        self.open_child(opener, name, options)
        t = opener.t
        below = primary_child(t, name)
        child = driver_at(t, below)
        t.ev.check(COMPRESSION, child.can_compress, driver=child.name)
        t.change(name, private=cluster_size(t, below) or 1)

    def alignment(self, t: Transition, node: Node) -> int:
        """Whole clusters of the child that it was opened on, whatever has come in its place."""
        alignment: int = node.private or 1
        return alignment

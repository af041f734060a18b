# SPDX-License-Identifier: GPL-2.0-or-later
"""The filters: drivers that pass their one child through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import ALWAYS_LOOKS, Driver, FlatOptions, Opener
from model.graph.traversal import primary_length
from model.values.state import Node, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition


class Filter(Driver):
    """A driver that passes its one child through."""

    is_filter = True
    asks_below = True
    child_name = "file"

    def open_child(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Open the filtered child."""
        opener.open_child(name, self.child_name, options, Role.FILTER)
        if self.variable_length:
            opener.t.change(name, size=primary_length(opener.t, opener.t.nodes[name]))

    def length(self, t: Transition, node: Node) -> int:
        """That of the child: now, or as it was when the driver last looked."""
        looks = self.variable_length and t.ev.holds(ALWAYS_LOOKS)
        return self.measure(t, node) if looks else node.size

    def measure(self, t: Transition, node: Node) -> int:
        """That of the child now."""
        return primary_length(t, node)

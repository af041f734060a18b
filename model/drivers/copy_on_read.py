# SPDX-License-Identifier: GPL-2.0-or-later
"""copy-on-read: a filter that keeps what was read through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.drivers.filter import Filter
from model.graph.freezing import freeze_chain, unfreeze_chain
from model.graph.traversal import driver_at
from model.release.rules import guard
from model.values.private import Bottom

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions, Opener
    from model.graph.transition import Transition
    from model.values.state import Node

BOTTOM_MISSING = guard(
    "copy-on-read.bottom-missing",
    "The bottom node exists.",
    source="7.2",
    text="Bottom node '{node}' not found",
)


BOTTOM_FILTER = guard(
    "copy-on-read.bottom-filter",
    "The bottom node is no filter.",
    source="7.2",
    text="Bottom node '{node}' is a filter",
)


def thaw(t: Transition, name: str) -> None:
    """Let the chain below a copy-on-read filter be changed again; the filter keeps its bottom."""
    bottom = t.nodes[name].private
    if isinstance(bottom, Bottom) and bottom.frozen:
        unfreeze_chain(t, name, bottom.node)
        t.change(name, private=attrs.evolve(bottom, frozen=False))


class CopyOnRead(Filter):
    """Copies what is read from below into the top image."""

    name = "copy-on-read"
    others = ("file", "bottom")
    variable_length = True
    can_compress = True

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """With ``bottom``, freeze every link from the filter down to it."""
        t, ev = opener.t, opener.t.ev
        bottom = options.get("bottom")
        self.open_child(opener, name, options)
        if bottom is None:
            return
        options.pop("bottom")
        ev.check(BOTTOM_MISSING, bottom in t.nodes, node=bottom)
        ev.check(BOTTOM_FILTER, not driver_at(t, bottom).is_filter, node=bottom)
        freeze_chain(t, name, bottom)
        t.change(name, private=Bottom(bottom))

    def holds(self, node: Node, other: str) -> bool:
        """The bottom node is kept alive."""
        return isinstance(node.private, Bottom) and node.private.node == other

    def held_by(self, node: Node) -> str | None:
        """The bottom node."""
        return node.private.node if isinstance(node.private, Bottom) else None

    def frozen_to(self, node: Node) -> str | None:
        """The bottom node, as long as the chain down to it is frozen."""
        return self.held_by(node) if node.private and node.private.frozen else None

    def closed(self, t: Transition, node: Node) -> None:
        """What was frozen can be changed."""
        thaw(t, node.name)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Even a reader makes it write what does not change."""
        return perm & 11 | 4, shared & 11 | 20

# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers with several children that hold the same data: quorum and blkverify."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import Driver, FlatOptions, absorb
from model.graph.traversal import length_of
from model.release.rules import guard
from model.values.private import QuorumState
from model.values.qdict import array_entries
from model.values.state import Link, Node, Role

if TYPE_CHECKING:
    from model.graph.driver import Opener

NO_CHILDREN = guard(
    "quorum.no-children",
    "A quorum has children.",
    source="7.2",
    text="Number of provided children must be 1 or more",
)
THRESHOLD_LOW = guard(
    "quorum.threshold-low",
    "A quorum needs at least one vote.",
    source="7.2",
    text="Parameter 'vote-threshold' expects a value >= 1",
)
THRESHOLD_HIGH = guard(
    "quorum.threshold-high",
    "A quorum needs no more votes than it has children.",
    source="7.2",
    text="threshold may not exceed children count",
)
BLKVERIFY_PAIR = guard(
    "quorum.blkverify-pair",
    "The blkverify mode is for exactly two children that must agree.",
    source="7.2",
    text="blkverify=on can only be set if there are exactly two files and vote-threshold is 2",
)
BLKVERIFY_REWRITE = guard(
    "quorum.blkverify-rewrite",
    "The blkverify mode does not rewrite.",
    source="7.2",
    text="rewrite-corrupted=on cannot be used with blkverify=on",
)
UNEQUAL = guard(
    "quorum.unequal",
    "The children of a quorum have one length.",
    source="7.2",
    text="Could not refresh total sector count: Input/output error",
)


class Quorum(Driver):
    """Reads what most of its children say."""

    name = "quorum"
    can_add_child = True
    strong = ("vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern")
    others = ("children",)
    kinds = {
        "vote-threshold": "number",
        "blkverify": "bool",
        "rewrite-corrupted": "bool",
        "read-pattern": "string",
    }

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """The children in order."""
        t, ev = opener.t, opener.t.ev
        count = max(0, array_entries(options, "children."))
        # A list without members stays one key that nobody else would take.
        options.pop("children", None)
        ev.check(NO_CHILDREN, count >= 1)
        own = absorb(ev, options, self.kinds)
        # QEMU keeps no more than 32 bits of it.
        threshold = (own["vote-threshold"] + 2**31) % 2**32 - 2**31
        ev.check(THRESHOLD_LOW, threshold >= 1)
        ev.check(THRESHOLD_HIGH, threshold <= count)
        blkverify = rewrite = False
        fifo = own.get("read-pattern", "quorum") == "fifo"
        if not fifo:
            blkverify = own.get("blkverify", False)
            pair = count == 2 and threshold == 2  # noqa: PLR2004
            ev.check(BLKVERIFY_PAIR, not blkverify or pair)
            rewrite = own.get("rewrite-corrupted", False)
            ev.check(BLKVERIFY_REWRITE, not (rewrite and blkverify))
        members = tuple(f"children.{i}" for i in range(count))
        t.change(name, private=QuorumState(threshold, blkverify, rewrite, members, count, fifo))
        for member in members:
            opener.open_child(name, member, options, Role.DATA)
        lengths = {length_of(t, link.child) for link in t.nodes[name].children}
        ev.check(UNEQUAL, len(lengths) <= 1)
        t.change(name, size=length_of(t, t.nodes[name].children[-1].child))

    def lets_go(self, node: Node) -> tuple[tuple[Link, ...], ...]:
        """In the order of voting."""
        state: QuorumState = node.private
        links = [link for name in state.members if (link := node.link(name))]
        return (tuple(links),)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Nobody else may make the children differ."""
        state: QuorumState = node.private
        return perm & 15 | (2 if state.rewrite else 0), shared & 5 | 16

    def primary(self, node: Node) -> Link | None:
        """No child is more than the others."""
        return None

    def written(self, node: Node) -> list[str]:
        """All of them are kept equal."""
        return [link.child for link in node.children]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Dirty bitmaps: which parts of a node a job has still to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.sizes import check_memory, spend
from model.graph.traversal import length_of
from model.release.rules import hazard
from model.values.ranges import Ranges, aligned, joined, within

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Bitmap

LOST = hazard(
    "hazard.bitmap-lost",
    "A node is deleted while the filter of a backup goes by a bitmap on it.",
    source="7.2 ends with an assertion in bdrv_close",
)


def add(t: Transition, name: str, bitmap: Bitmap) -> None:
    """Give a node another bitmap."""
    check_memory(t.ev, "a bitmap", length_of(t, name) // bitmap.granularity // 8)
    t.change(name, bitmaps=(bitmap, *t.nodes[name].bitmaps))


def find(t: Transition, name: str, owner: str) -> Bitmap:
    """The bitmap of a node that belongs to ``owner``, the newest if there are several."""
    for bitmap in t.nodes[name].bitmaps:
        if bitmap.owner == owner:
            return bitmap
    raise LookupError(f"{owner!r} has no bitmap on node {name!r}")


def remove(t: Transition, name: str, owner: str) -> None:
    """Take away a node's bitmaps that belong to ``owner``."""
    t.change(name, bitmaps=tuple(b for b in t.nodes[name].bitmaps if b.owner != owner))


def put(t: Transition, name: str, bitmap: Bitmap, dirty: Ranges) -> None:
    """Let one of a node's bitmaps have other dirty ranges."""
    spend(t, 0, entries=len(dirty))
    after = bitmap._replace(dirty=dirty)
    bitmaps = t.nodes[name].bitmaps
    t.change(name, bitmaps=tuple(after if b is bitmap else b for b in bitmaps))


def written(t: Transition, name: str, start: int, end: int) -> None:
    """Note down in a node's bitmaps that something was written to it."""
    for bitmap in t.nodes[name].bitmaps:
        if bitmap.recording:
            chunks = aligned(start, end, bitmap.granularity)
            put(t, name, bitmap, joined(bitmap.dirty, *chunks))


def truncated(t: Transition, name: str) -> None:
    """A node has another length by now: its bitmaps end with it."""
    for bitmap in t.nodes[name].bitmaps:
        _, end = aligned(0, length_of(t, name), bitmap.granularity)
        put(t, name, bitmap, within(bitmap.dirty, 0, end))


def lost(t: Transition, name: str) -> None:
    """Notice that a node is about to go: nobody should need its bitmaps any more."""
    if any(bitmap.owner in t.nodes for bitmap in t.nodes[name].bitmaps):
        t.ev.meet(LOST)

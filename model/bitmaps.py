# SPDX-License-Identifier: GPL-2.0-or-later
"""Dirty bitmaps: which parts of a node a job has still to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.rules import hazard
from model.sizes import check_memory, spend
from model.traversal import length_of

if TYPE_CHECKING:
    from model.graph import Transition
    from model.state import Bitmap

LOST = hazard(
    "hazard.bitmap-lost",
    "A node is deleted while the filter of a backup goes by a bitmap on it.",
    source="7.2 ends with an assertion in bdrv_close",
)

Ranges = tuple[tuple[int, int], ...]
"""Sorted, disjoint ``(start, end)`` in bytes."""


def count(dirty: Ranges) -> int:
    """How many bytes the ranges have together."""
    return sum(end - start for start, end in dirty)


def within(dirty: Ranges, start: int, end: int) -> Ranges:
    """What of the ranges lies between ``start`` and ``end``."""
    return tuple((max(s, start), min(e, end)) for s, e in dirty if s < end and e > start)


def without(dirty: Ranges, start: int, end: int) -> Ranges:
    """The ranges without what lies between ``start`` and ``end``."""
    kept: list[tuple[int, int]] = []
    for s, e in dirty:
        if s < min(e, start):
            kept.append((s, min(e, start)))
        if e > max(s, end):
            kept.append((max(s, end), e))
    return tuple(kept)


def joined(dirty: Ranges, start: int, end: int) -> Ranges:
    """The ranges and what lies between ``start`` and ``end``."""
    if start >= end:
        return dirty
    apart = [(s, e) for s, e in dirty if e < start or s > end]
    near = [(s, e) for s, e in dirty if s <= end and e >= start]
    start = min([start, *(s for s, _ in near)])
    end = max([end, *(e for _, e in near)])
    return tuple(sorted([*apart, (start, end)]))


def aligned(start: int, end: int, granularity: int) -> tuple[int, int]:
    """A range, rounded out to whole chunks."""
    return start // granularity * granularity, -(-end // granularity) * granularity


def whole(length: int, granularity: int) -> Ranges:
    """All of a node, in whole chunks."""
    return joined((), *aligned(0, length, granularity))


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges of bytes: sorted, disjoint, and computed with as sets are."""

from __future__ import annotations

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

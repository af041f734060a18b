# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files on disk: making them, and the runs of bytes that they hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from model.state import FrozenDict, Image

if TYPE_CHECKING:
    from collections.abc import Iterable

Extents = tuple[tuple[int, int, int], ...]
"""Sorted, disjoint ``(start, end, value)`` runs of one byte value."""

FORMATS = ("qcow2", "raw")
CLUSTER = 65536
L2_COVERS = CLUSTER // 8 * CLUSTER
_HEADER = 1024
_MOST_L1_ENTRIES = (32 << 20) // 8
_SUFFIX = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+)([KMGT]?)\Z")


class ImageError(ValueError):
    """An image file that cannot be made, read or written as asked."""


def parse_size(size: int | str) -> int:
    """A size in bytes, given as a number or as qemu-img reads it ("64K", "1M")."""
    if isinstance(size, int):
        if size < 0:
            raise ImageError(f"a size is not negative: {size}")
        return size
    match = _SIZE.match(size)
    if match is None:
        raise ImageError(f"not a size: {size!r}; give bytes, or a number and K, M, G or T")
    return int(match[1]) * _SUFFIX[match[2]]


def make(
    name: str,
    *,
    format: str,  # noqa: A002  # the word of qemu-img and of QMP
    size: int,
    backing: str | None = None,
    backing_format: str | None = None,
) -> Image:
    """A fresh image file as qemu-img makes it, of ``size`` bytes."""
    if format not in FORMATS:
        raise ImageError(f"no format is called {format!r}; there are: {', '.join(FORMATS)}")
    if format == "raw":
        if backing is not None:
            raise ImageError("a raw image has no backing file")
        return Image(name, format, size, length=size)
    size = -(-size // 512) * 512
    l1_entries = -(-size // L2_COVERS)
    length = 3 * CLUSTER + l1_entries * 8
    clusters = 3 + -(-l1_entries * 8 // CLUSTER)
    return Image(
        name,
        format,
        size,
        length,
        backing,
        backing_format,
        clusters=clusters,
        l1_first=3,
        l1_entries=l1_entries,
    )


def allocate(image: Image, count: int = 1) -> tuple[Image, int]:
    """A qcow2 image with ``count`` more clusters in a row, and the index of the first of them."""
    for first in sorted(image.free):
        run = range(first, first + count)
        if all(index in image.free or index >= image.clusters for index in run):
            after = attrs.evolve(
                image,
                free=image.free - set(run),
                clusters=max(image.clusters, run.stop),
            )
            return after, first
    return attrs.evolve(image, clusters=image.clusters + count), image.clusters


def released(image: Image, clusters: Iterable[int]) -> Image:
    """A qcow2 image in which these clusters of the file are free again."""
    return attrs.evolve(image, free=image.free | set(clusters))


def with_l2_tables(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image with the L2 tables of ``indices``."""
    tables = dict(image.l2_tables)
    for index in sorted(set(indices) - tables.keys()):
        image, tables[index] = allocate(image)
    return attrs.evolve(image, l2_tables=FrozenDict(tables))


def with_data(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image with a guest's clusters ``indices`` and the L2 tables that lead there."""
    for index in sorted(set(indices) - image.data.keys()):
        image = with_l2_tables(image, [index * CLUSTER // L2_COVERS])
        image, place = allocate(image)
        image = attrs.evolve(image, data=FrozenDict({**image.data, index: place}))
    return image


def without_data(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image in which a guest's clusters ``indices`` take no space any more."""
    gone = image.data.keys() & set(indices)
    if not gone:
        return image
    image = released(image, [image.data[index] for index in gone])
    return attrs.evolve(
        image, data=FrozenDict({i: place for i, place in image.data.items() if i not in gone})
    )


def resized(image: Image, size: int) -> tuple[Image, int]:
    """A qcow2 image with another virtual size, and up to which byte its file was written for it.

    Shrinking discards, which takes L2 tables, of which those that are no longer needed are
    given back; a larger L1 table is written anew and the old one's clusters are free then.
    Raises :class:`ImageError` where the L1 table gets too large.
    """
    start = -(-size // CLUSTER) * CLUSTER
    entries = -(-size // L2_COVERS)
    end = 0
    if size < image.size:
        image, end = _shrunk(image, start, entries)
    elif entries > image.l1_entries:
        if entries > _MOST_L1_ENTRIES:
            raise ImageError("the L1 table is too large")
        old = image.l1_clusters
        image, first = allocate(image, -(-entries * 8 // CLUSTER))
        image = attrs.evolve(
            image,
            l1_entries=entries,
            l1_first=first,
            free=image.free | set(old),
        )
        end = first * CLUSTER + entries * 8
    # The rest of the last cluster stays as it is, and shows again if the image grows.
    return attrs.evolve(image, size=size, extents=cut(image.extents, start)), end


def _shrunk(image: Image, start: int, entries: int) -> tuple[Image, int]:
    """Without what lies behind ``start`` and the L2 tables from ``entries`` on."""
    before = image.l2_tables
    if start < image.size:
        image = with_l2_tables(image, range(start // L2_COVERS, -(-image.size // L2_COVERS)))
    written = max((place + 1 for i, place in image.l2_tables.items() if i not in before), default=0)
    image = without_data(image, [i for i in image.data if i * CLUSTER >= start])
    image = released(image, [t for i, t in image.l2_tables.items() if i >= entries])
    clusters = image.clusters
    while clusters - 1 in image.free:
        clusters -= 1
    image = attrs.evolve(
        image,
        clusters=clusters,
        free=frozenset(i for i in image.free if i < clusters),
        l2_tables=FrozenDict({i: t for i, t in image.l2_tables.items() if i < entries}),
    )
    return image, written * CLUSTER


def written_end(before: Image, after: Image) -> int:
    """Up to which byte of the file the clusters go that ``after`` has and ``before`` has not."""
    new = {*after.data.values(), *after.l2_tables.values()}
    new -= {*before.data.values(), *before.l2_tables.values()}
    return (max(new) + 1) * CLUSTER if new else 0


def zeroed(image: Image, start: int, end: int) -> Image:
    """A qcow2 image that reads as zeroes from ``start`` to ``end``, whatever lies below.

    Zero clusters take L2 tables only; the rest of a cluster that ``start`` lies in is written.
    """
    aligned = -(-start // CLUSTER) * CLUSTER
    if aligned < end:
        image = with_l2_tables(image, range(aligned // L2_COVERS, -(-end // L2_COVERS)))
    if aligned > start:
        image = with_data(image, [start // CLUSTER])
    return attrs.evolve(image, extents=overlay(image.extents, start, end, 0))


def truncated(image: Image, length: int) -> Image:
    """An image file of another length; a format's header does not outlive its bytes."""
    if image.format == "raw":
        return attrs.evolve(image, size=length, length=length, extents=cut(image.extents, length))
    if length < _HEADER:
        return Image(image.name, "raw", length, length)
    return attrs.evolve(image, length=length)


def overlay(extents: Extents, start: int, end: int, value: int) -> Extents:
    """``extents`` after ``value`` was written from ``start`` to ``end``."""
    kept = []
    for s, e, v in extents:
        if s < start:
            kept.append((s, min(e, start), v))
        if e > end:
            kept.append((max(s, end), e, v))
    merged: list[tuple[int, int, int]] = []
    for run in sorted([r for r in kept if r[0] < r[1]] + [(start, end, value)]):
        if merged and merged[-1][1] == run[0] and merged[-1][2] == run[2]:
            merged[-1] = (merged[-1][0], run[1], run[2])
        else:
            merged.append(run)
    return tuple(merged)


def cut(extents: Extents, end: int) -> Extents:
    """``extents`` up to ``end``."""
    return tuple((s, min(e, end), v) for s, e, v in extents if s < end)

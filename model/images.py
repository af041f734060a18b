# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files on disk: making them, and the runs of bytes that they hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from model.state import Image

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


def with_l2_tables(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image with the L2 tables of ``indices``."""
    for index in sorted(set(indices) - image.l2_tables):
        image, _ = allocate(image)
        image = attrs.evolve(image, l2_tables=image.l2_tables | {index})
    return image


def resized(image: Image, size: int) -> Image:
    """A qcow2 image with another virtual size.

    Shrinking discards, which takes L2 tables; a larger L1 table is written anew and the old
    one's clusters are free then. Raises :class:`ImageError` where the L1 table gets too large.
    """
    start = -(-size // CLUSTER) * CLUSTER
    if start < image.size:
        image = with_l2_tables(image, range(start // L2_COVERS, -(-image.size // L2_COVERS)))
    entries = -(-size // L2_COVERS)
    if entries > image.l1_entries:
        if entries > _MOST_L1_ENTRIES:
            raise ImageError("the L1 table is too large")
        old = image.l1_clusters
        image, first = allocate(image, -(-entries * 8 // CLUSTER))
        image = attrs.evolve(
            image,
            l1_entries=entries,
            l1_first=first,
            free=image.free | set(old),
            length=max(image.length, first * CLUSTER + entries * 8),
        )
    return attrs.evolve(image, size=size, extents=cut(image.extents, size))


def zeroed(image: Image, start: int, end: int) -> Image:
    """A qcow2 image that reads as zeroes from ``start`` to ``end``, whatever lies below.

    Zero clusters take L2 tables only; the rest of a cluster that ``start`` lies in is written.
    """
    aligned = -(-start // CLUSTER) * CLUSTER
    indices = set(range(aligned // L2_COVERS, -(-end // L2_COVERS))) if aligned < end else set()
    if aligned > start:
        indices.add(start // L2_COVERS)
        first = start // CLUSTER * CLUSTER
        if not any(s < aligned and e > first for s, e, _ in image.extents):
            image, _ = allocate(image)
    image = with_l2_tables(image, indices)
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files on disk: making them, and the runs of bytes that they hold."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

import attrs

from model.values.state import FrozenDict, Image

if TYPE_CHECKING:
    from collections.abc import Iterable

Extents = tuple[tuple[int, int, int], ...]
"""Sorted, disjoint ``(start, end, value)`` runs of one byte value, or of :data:`UNKNOWN` ones."""

UNKNOWN = -1
"""In place of a value: what QEMU copied from a buffer that nobody had filled, which is anything."""

FORMATS = ("qcow2", "raw")
CLUSTER = 65536
L2_COVERS = CLUSTER // 8 * CLUSTER
BLOCK = 4096
"""The host's file system keeps track of holes in blocks of so many bytes."""
_HEADER = 1024
_MOST_L1_ENTRIES = (32 << 20) // 8
MAX_LENGTH = (1 << 63) - (1 << 30)
"""The longest node in bytes; a little less than what 63 bits hold."""
_MOST = {"qcow2": _MOST_L1_ENTRIES * L2_COVERS, "raw": MAX_LENGTH}
"""How many bytes the virtual disk of an image may have."""
_TOO_LARGE = "The image size is too large for file format 'qcow2' (try using a larger cluster size)"
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,255}")
_SUFFIX = {letter: 1 << 10 * power for power, letter in enumerate("BKMGTPE")} | {"": 1}
_SIZE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30}(?=[KMGTPE]))?)([BKMGTPE]?)\Z", re.IGNORECASE)


MOST_RUNS = 4096
"""So many runs of equal bytes may there be in an image."""


class ImageError(ValueError):
    """An image file that cannot be made, read or written as asked."""


class ShrunkError(ImageError):
    """A node that a filter still takes for longer than it is."""


MOST_READ = 256 << 20
"""How many bytes one call of a library user returns at most: they are in memory at once."""

_SHOWN = 80
"""How many characters of a value from outside a message shows."""


def parse_size(size: int | str) -> int:
    """A size in bytes, given as a number or as qemu-img reads it ("64K", "1.5M").

    Raises :class:`ImageError`.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        if size < 0:
            raise ImageError(f"a size is not negative: {shown(size)}")
        return size
    match = _SIZE.match(size) if isinstance(size, str) else None
    if match is None:
        raise ImageError(f"not a size: {shown(size)}; give bytes, or a number and K, M, G or T")
    whole, _, fraction = match[1].partition(".")
    unit: int = _SUFFIX[match[2].upper()]
    return int(whole) * unit + int(fraction or "0") * unit // int("1" + "0" * len(fraction))


def check_text(what: str, value: object) -> None:
    """Raise :class:`ImageError` unless a ``value`` from outside is a text."""
    if not isinstance(value, str):
        raise ImageError(f"a {what} is a text, not {shown(value)}")


def check_name(name: object) -> None:
    """Raise :class:`ImageError` unless this can be the name of an image file.

    It lies beside the others, where QEMU takes no part of it for a directory or a protocol.
    """
    check_text("name", name)
    if not _NAME.fullmatch(str(name)) or name in (".", ".."):
        raise ImageError(
            f"not the name of an image file: {shown(name)}; give at most 255 letters, digits, "
            "'_', '.', '+' and '-'"
        )


def check_write(image: Image, offset: int, length: int, pattern: int) -> None:
    """Raise :class:`ImageError` unless bytes of a value can be written to a virtual disk."""
    check_whole(offset=offset, length=length, pattern=pattern)
    if offset < 0:
        raise ImageError(f"an offset is not negative: {shown(offset)}")
    if length <= 0:
        raise ImageError(f"a length is at least 1: {shown(length)}")
    if not 0 <= pattern <= 255:  # noqa: PLR2004  # a byte
        raise ImageError(f"a pattern is a byte, 0 to 255: {shown(pattern)}")
    if offset + length > image.size:
        raise ImageError(
            f"{shown(length)} bytes from {shown(offset)} do not lie within {image.name!r} of "
            f"{image.size} bytes"
        )


def check_whole(**values: object) -> None:
    """Raise :class:`ImageError` unless these values from outside are whole numbers."""
    for what, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ImageError(f"the {what} is a whole number, not {shown(value)}")


def shown(value: object) -> str:
    """A value from outside in a message: Python writes no number of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number that is too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def make(
    name: str,
    *,
    format: str,  # noqa: A002  # the word of qemu-img and of QMP
    size: int,
    backing: str | None = None,
    backing_format: str | None = None,
) -> Image:
    """A fresh image file as qemu-img makes it, of ``size`` bytes or a little more: whole sectors.

    Raises :class:`ImageError`.
    """
    if format not in FORMATS:
        raise ImageError(f"no format is called {shown(format)}; there are: {', '.join(FORMATS)}")
    if size > _MOST[format]:
        said = f"a {format} image has at most {_MOST[format]} bytes: {shown(size)}"
        if format == "qcow2":
            said = f"{name}: {_TOO_LARGE}: {said}"
        raise ImageError(said)
    size = -(-size // 512) * 512
    if format == "raw":
        if backing is not None:
            raise ImageError("a raw image has no backing file")
        # The first block is always there: how files are to be accessed is found out from it.
        return Image(name, format, size, length=size, extents=cut(((0, BLOCK, 0),), size))
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
    """A qcow2 image with ``count`` more clusters in a row, and the index of the first of them.

    Free clusters that were passed over, since too few lay in a row, are not looked at again.
    """
    if image.scattered and image.free and count > 1:
        image = attrs.evolve(image, unsure=True)
    for first in sorted(index for index in image.free if index >= image.search):
        run = range(first, first + count)
        if all(index in image.free or index >= image.clusters for index in run):
            return _taken(image, run), first
    first = image.clusters
    return _taken(image, range(first, first + count)), first


def _taken(image: Image, run: range) -> Image:
    return attrs.evolve(
        image,
        free=image.free - set(run),
        clusters=max(image.clusters, run.stop),
        search=run.stop,
    )


def released(image: Image, clusters: Iterable[int]) -> Image:
    """A qcow2 image in which these clusters of the file are free again."""
    free = set(clusters)
    search = min(image.search, *free) if free else image.search
    return attrs.evolve(image, free=image.free | free, search=search)


def with_l2_tables(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image with the L2 tables of ``indices``."""
    missing = sorted(set(indices) - image.l2_tables.keys())
    if not missing:
        return image
    tables = dict(image.l2_tables)
    for index in missing:
        image, tables[index] = allocate(image)
    return attrs.evolve(image, l2_tables=FrozenDict(tables))


def with_data(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image with a guest's clusters ``indices`` and the L2 tables that lead there.

    New ones in a row lie in a row in the file, too: at best behind the one that comes before them
    among the ``indices``.
    """
    wanted = set(indices)
    missing = sorted(wanted - image.data.keys())
    data = dict(image.data) if missing else {}
    done = 0
    while done < len(missing):
        first = missing[done]
        table = first * CLUSTER // L2_COVERS
        count = 1
        while done + count < len(missing) and missing[done + count] == first + count:
            if missing[done + count] * CLUSTER // L2_COVERS != table:
                break
            count += 1
        image = with_l2_tables(image, [table])
        before = data.get(first - 1) if first - 1 in wanted else None
        if before is not None and image.scattered and image.free:
            image = attrs.evolve(image, unsure=True)
        following = 0 if before is None else _free_from(image, before + 1, count)
        if before is not None and following:
            count, place = following, before + 1
            image = attrs.evolve(_taken(image, range(place, place + count)), search=image.search)
        else:
            image, place = allocate(image, count)
        data.update({first + i: place + i for i in range(count)})
        done += count
    return attrs.evolve(image, data=FrozenDict(data)) if missing else image


def held_among(image: Image, indices: range) -> list[int]:
    """Those of a guest's clusters that have a place in the file of a qcow2 image, sorted."""
    if len(indices) < len(image.data):
        return [index for index in indices if index in image.data]
    return sorted(index for index in image.data if index in indices)


def _free_from(image: Image, first: int, most: int) -> int:
    """How many clusters are free in a row from ``first`` on."""
    count = 0
    while count < most and (first + count in image.free or first + count >= image.clusters):
        count += 1
    return count


def without_data(image: Image, indices: Iterable[int]) -> Image:
    """A qcow2 image in which a guest's clusters ``indices`` take no space any more."""
    gone = image.data.keys() & set(indices)
    if not gone:
        return image
    image = released(image, [image.data[index] for index in gone])
    return attrs.evolve(
        image,
        data=FrozenDict({i: place for i, place in image.data.items() if i not in gone}),
        zeroed=image.zeroed - gone,
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
        image = released(attrs.evolve(image, l1_entries=entries, l1_first=first), old)
        end = first * CLUSTER + entries * 8
    # The rest of the last cluster stays as it is, and shows again if the image grows.
    return attrs.evolve(image, size=size, extents=cut(image.extents, start)), end


def _shrunk(image: Image, start: int, entries: int) -> tuple[Image, int]:
    """Without what lies behind ``start`` and the L2 tables from ``entries`` on."""
    image = attrs.evolve(image, unsure=image.scattered)
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


def tables_end(image: Image) -> int:
    """Up to where the L2 tables reach that have any entry, in bytes; 0 if none has."""
    used = {index * CLUSTER // L2_COVERS for index in image.data}
    for start, end, _ in image.extents:
        used.update(range(start // L2_COVERS, -(-end // L2_COVERS)))
    ends = [(cluster + 1) * CLUSTER for table, cluster in image.l2_tables.items() if table in used]
    return max(ends, default=0)


def written_end(before: Image, after: Image) -> int:
    """Up to which byte of the file the clusters go that ``after`` has and ``before`` has not."""
    if after.data is before.data and after.l2_tables is before.l2_tables:
        return 0
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
        extents = image.extents if image.length else ((0, BLOCK, 0),)
        return attrs.evolve(image, size=length, length=length, extents=cut(extents, length))
    if length < _HEADER:
        return Image(image.name, "raw", length, length)
    return attrs.evolve(image, length=length)


def clip(extents: Extents, start: int, end: int) -> list[tuple[int, int, int]]:
    """What of the runs lies between ``start`` and ``end``."""
    first, last = _overlapped(extents, start, end)
    return [(max(s, start), min(e, end), v) for s, e, v in extents[first:last]]


def _overlapped(extents: Extents, start: int, end: int) -> tuple[int, int]:
    """Which runs have a byte between ``start`` and ``end``: the first one, and the one behind."""
    first = bisect_left(extents, (start,))
    if first and extents[first - 1][1] > start:
        first -= 1
    return first, max(first, bisect_left(extents, (end,)))


def overlay(extents: Extents, start: int, end: int, value: int) -> Extents:
    """``extents`` after ``value`` was written from ``start`` to ``end``."""
    if start >= end:
        return extents
    first, last = _overlapped(extents, start, end)
    kept = [(start, end, value)]
    if first < last:
        (s, _, before), (_, e, after) = extents[first], extents[last - 1]
        kept = [(s, start, before), *kept] if s < start else kept
        kept = [*kept, (end, e, after)] if e > end else kept
    # What has the same value beside it becomes one run with it.
    if first:
        first, kept = first - 1, [extents[first - 1], *kept]
    if last < len(extents):
        last, kept = last + 1, [*kept, extents[last]]
    return (*extents[:first], *_merged(kept), *extents[last:])


def _merged(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The same sorted runs, those as one that have the same value and lie side by side."""
    merged: list[tuple[int, int, int]] = []
    for run in runs:
        if merged and merged[-1][1] == run[0] and merged[-1][2] == run[2]:
            merged[-1] = (merged[-1][0], run[1], run[2])
        else:
            merged.append(run)
    return merged


def punched(extents: Extents, start: int, end: int) -> Extents:
    """``extents`` of a file after zeroes were written as such: whole blocks become holes.

    Of blocks in which something is left, the rest is written.
    """
    first, last = -(-start // BLOCK) * BLOCK, end // BLOCK * BLOCK
    kept = [(s, min(e, start), v) for s, e, v in extents if s < start]
    kept += [(max(s, end), e, v) for s, e, v in extents if e > end]
    for s, e in ((start, min(first, end)), (max(last, start), end)):
        block = s // BLOCK * BLOCK
        if s < e and any(x < block + BLOCK and y > block for x, y, _ in extents):
            kept.append((s, e, 0))
    return tuple(_merged(sorted(run for run in set(kept) if run[0] < run[1])))


def cut(extents: Extents, end: int) -> Extents:
    """``extents`` up to ``end``."""
    return tuple((s, min(e, end), v) for s, e, v in extents if s < end)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the bytes of an image lie: what ``qemu-img map`` prints, for an image that is open.

It is worked out from tables of clusters and runs of bytes, so that the size of an image costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from model.data.block_status import ALLOCATED, DATA, ZERO
from model.data.image_access import image_of
from model.graph.traversal import length_of, primary_child
from model.release.rules import outside
from model.values.image_layout import BLOCK, CLUSTER
from model.values.ranges import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.graph.transition import Transition
    from model.release.dialect import Dialect
    from model.values.state import Image, Node

PRESENT = (6, 1)
"""The release since which a part says whether an image of the chain has it."""
COMPRESSED = (8, 2)
"""The release since which a part says whether it is compressed."""

INSIDE = outside(
    "images.inside",
    "Where bytes lie is asked of virtual disks, and not of the inside of an image file.",
    text="where the bytes of {name!r} lie is not modelled: {why}",
)


class Run(NamedTuple):
    """Bytes of a disk, from ``start`` to ``end``, that have one place.

    ``flags`` are a sum of those of :mod:`model.data.block_status`, ``depth``
    is the image of the chain that they are in, 0 the first; ``offset`` is the byte of its file
    where they begin, if any.
    """

    start: int
    end: int
    flags: int
    depth: int = 0
    offset: int | None = None


def runs(t: Transition, top: str) -> list[Run]:
    """All bytes of an open image, in their order; as few runs as possible.

    Raises ``NotModelledError`` where a file is not known as far as that.
    """
    found: list[Run] = []
    wanted = [(0, length_of(t, top))]
    name: str | None = top
    depth = 0
    while name is not None:
        node = t.nodes[name]
        below = node.link("backing")
        limit = None if below is None else length_of(t, below.child)
        missing: list[tuple[int, int]] = []
        for run in _within(_own(t, node), wanted):
            here = run._replace(depth=depth)
            if run.flags:
                found.append(here._replace(flags=run.flags | ALLOCATED))
                continue
            end = run.start if limit is None else max(run.start, min(run.end, limit))
            if end > run.start:
                missing.append((run.start, end))
            if end < run.end:
                found.append(here._replace(start=end, flags=ZERO))
        wanted = missing
        name = None if below is None or not missing else below.child
        depth += 1
    return _merged(sorted(found))


def _within(own: Iterable[Run], wanted: list[tuple[int, int]]) -> Iterator[Run]:
    """What of runs, which are sorted and leave nothing out, lies in sorted ranges."""
    remaining = iter(wanted)
    part = next(remaining, None)
    for run in own:
        while part is not None and part[0] < run.end:
            start, end = max(part[0], run.start), min(part[1], run.end)
            if start < end:
                yield _cut(run, start, end)
            if part[1] > run.end:
                break
            part = next(remaining, None)


def _cut(run: Run, start: int, end: int) -> Run:
    offset = None if run.offset is None else run.offset + start - run.start
    return run._replace(start=start, end=end, offset=offset)


def _merged(found: list[Run]) -> list[Run]:
    """The same runs, those as one that follow each other in the disk and in the file."""
    merged: list[Run] = []
    for run in found:
        before = merged[-1] if merged else None
        if before is not None and run == _cut(before, before.end, run.end)._replace(
            start=run.start
        ):
            merged[-1] = before._replace(end=run.end)
        else:
            merged.append(run)
    return merged


def _own(t: Transition, node: Node) -> list[Run]:
    """What a node itself knows of all its bytes; flags of 0 where it has none."""
    length = length_of(t, node.name)
    if node.driver == "qcow2":
        image = image_of(t, node)
        if image is None:
            t.ev.leave(INSIDE, "images.map", name=node.name, why="it has lost its image")
        why = "its clusters were written side by side, in any order" if image.scattered else ""
        t.ev.check(INSIDE, not why, name=image.name, why=why)
        found = list(_of_clusters(image))
    elif node.driver == "raw":
        return _own(t, t.nodes[primary_child(t, node.name)])
    else:
        image = t.images[node.filename]
        why = "" if image.format == "raw" else f"it shows the inside of a {image.format} file"
        if image.room:
            why = "the host takes room for a hole until it is read"
        t.ev.check(INSIDE, not why, name=node.filename, why=why)
        found = list(_of_blocks(image, length))
    return [_cut(run, run.start, min(run.end, length)) for run in found if run.start < length]


def _of_blocks(image: Image, length: int) -> Iterator[Run]:
    """Data where anything was written to a block of the host's file system, else holes.

    A disk is whole sectors long, and what its file has not of the last one is a hole.
    """
    at = 0
    for s, e, _ in image.extents:
        first, last = aligned(s, e, BLOCK)
        last = min(last, image.length)
        if first > at:
            yield Run(at, first, ZERO, offset=at)
        if last > at:
            yield Run(max(at, first), last, DATA, offset=max(at, first))
            at = last
    if at < length:
        yield Run(at, length, ZERO, offset=at)


def _of_clusters(image: Image) -> Iterator[Run]:
    """The clusters that an image has, those that are zeroes, and what it has not."""
    held = sorted(image.data)
    at = index = 0
    for first, last in _touched(image):
        if first > at:
            yield Run(at, first, 0)
        at = first
        while index < len(held) and held[index] * CLUSTER < first:
            index += 1
        while index < len(held) and held[index] * CLUSTER < last:
            start = held[index] * CLUSTER
            if start > at:
                yield Run(at, start, ZERO)
            flags = ZERO if held[index] in image.zeroed else DATA
            yield Run(start, start + CLUSTER, flags, offset=image.data[held[index]] * CLUSTER)
            at = start + CLUSTER
            index += 1
        if at < last:
            yield Run(at, last, ZERO)
            at = last
    end = -(-image.size // CLUSTER) * CLUSTER
    if at < end:
        yield Run(at, end, 0)


def _touched(image: Image) -> list[tuple[int, int]]:
    """The ranges of whole clusters in which an image has anything to say."""
    found: list[tuple[int, int]] = []
    for s, e, _ in image.extents:
        first, last = aligned(s, e, CLUSTER)
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def printed(
    dialect: Dialect, found: list[Run], size: int, start: int, length: int | None
) -> list[dict[str, Any]]:
    """Runs of a disk of ``size`` bytes as the release prints them.

    Of the disk, ``length`` bytes from ``start`` on are shown, the rest of it where that is None.
    """
    end = size if length is None else min(size, start + length)
    part = [
        _cut(run, max(run.start, start), min(run.end, end))
        for run in found
        if max(run.start, start) < min(run.end, end)
    ]
    if dialect.release < PRESENT:
        part = _merged([run._replace(flags=run.flags & ~ALLOCATED) for run in part])
    return [_as_json(dialect, run) for run in part or [Run(start, start, 0)]]


def _as_json(dialect: Dialect, run: Run) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "start": run.start,
        "length": run.end - run.start,
        "depth": run.depth,
    }
    if dialect.release >= PRESENT:
        entry["present"] = bool(run.flags & ALLOCATED)
    entry["zero"] = bool(run.flags & ZERO)
    entry["data"] = bool(run.flags & DATA)
    if dialect.release >= COMPRESSED:
        entry["compressed"] = False
    if run.offset is not None:
        entry["offset"] = run.offset
    return entry

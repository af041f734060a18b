# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest reads and writes through a node.

Reading goes down the graph until somebody has the bytes: a qcow2 image has the clusters
that were written to it, its backing file the rest, zeroes lie behind the end of a
shorter backing file. Writing allocates whole clusters, the rest of which is copied from
below. A copy-on-read filter makes a write of what is read through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.drivers import driver_of
from model.images import (
    CLUSTER,
    L2_COVERS,
    ImageError,
    overlay,
    with_data,
    with_l2_tables,
    without_data,
    written_end,
)
from model.lengths import content, grown

if TYPE_CHECKING:
    from model.drivers.filters import Bottom
    from model.drivers.several import QuorumState
    from model.graph import Transition
    from model.state import Image, Node

    Pieces = list[tuple[int, int, int]]
    Ranges = list[tuple[int, int]]


def read(t: Transition, name: str, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset`` as a guest of the node reads them.

    Raises :class:`ImageError` where that is no bytes of a guest's, or none at all.
    """
    _check_range(t, name, offset, length)
    _copy_up(t, name, offset, offset + length)
    out = bytearray(length)
    for start, end, value in _pieces(t, name, offset, offset + length):
        out[start - offset : end - offset] = bytes([value]) * (end - start)
    return bytes(out)


def runs(t: Transition, name: str, offset: int, length: int) -> Pieces:
    """The runs ``(start, end, value)`` of bytes but zero that a guest reads.

    Raises :class:`ImageError` as :func:`read` does.
    """
    _check_range(t, name, offset, length)
    _copy_up(t, name, offset, offset + length)
    return _runs(_pieces(t, name, offset, offset + length))


def _check_range(t: Transition, name: str, offset: int, length: int) -> None:
    if name not in t.nodes:
        raise ImageError(f"no node is called {name!r}")
    if offset < 0 or length < 0 or offset + length > t.length(name):
        raise ImageError(
            f"{length} bytes from {offset} do not lie within node {name!r} of "
            f"{t.length(name)} bytes"
        )


def _pieces(t: Transition, name: str, start: int, end: int) -> Pieces:
    """The runs of non-zero bytes between ``start`` and ``end``."""
    node = t.nodes[name]
    if node.driver == "qcow2":
        return _qcow2_pieces(t, node, start, end)
    if node.driver == "raw":
        shift = node.private.offset
        below = _pieces(t, t.primary_child(name), start + shift, end + shift)
        return [(s - shift, e - shift, v) for s, e, v in below]
    if node.driver == "file":
        return _clip(_guest_bytes(t, node).extents, start, end)
    if node.driver == "quorum":
        return _vote(t, node, start, end)
    if node.driver == "blkverify":
        seen = [_runs(_pieces(t, link.child, start, end)) for link in node.children]
        if seen[0] != seen[1]:
            raise ImageError(f"the two images of {node.name!r} differ; QEMU ends there")
        return seen[0]
    if driver_of(node.driver).is_filter:
        return _pieces(t, t.primary_child(name), start, end)
    return []


def _runs(pieces: Pieces) -> Pieces:
    """The same bytes in one way only: no zeroes, and no two runs where one would do."""
    runs: Pieces = []
    for start, end, value in sorted(pieces):
        if not value:
            continue
        if runs and runs[-1][1] == start and runs[-1][2] == value:
            runs[-1] = (runs[-1][0], end, value)
        else:
            runs.append((start, end, value))
    return runs


def _vote(t: Transition, node: Node, start: int, end: int) -> Pieces:
    """What most children of a quorum say; of several such versions, the one that came last."""
    quorum: QuorumState = node.private
    children = [link.child for m in quorum.members if (link := node.link(m)) is not None]
    if quorum.fifo:
        return _pieces(t, children[0], start, end)
    versions = [_runs(_pieces(t, child, start, end)) for child in children]
    if all(version == versions[0] for version in versions):
        return versions[0]
    if quorum.blkverify:
        raise ImageError(f"the two images of {node.name!r} differ; QEMU ends there")
    distinct = [v for i, v in enumerate(versions) if v not in versions[:i]]
    winner = max(reversed(distinct), key=versions.count)
    if versions.count(winner) < quorum.threshold:
        raise ImageError(f"too few children of {node.name!r} agree")
    if quorum.rewrite:
        for child, version in zip(children, versions, strict=True):
            if version != winner:
                _write(t, child, start, end, 0)
                for s, e, v in winner:
                    _write(t, child, s, e, v)
    return winner


def _guest_bytes(t: Transition, node: Node) -> Image:
    image = t.images.get(node.filename)
    if image is None:
        raise ImageError(f"node {node.name!r} has no image file")
    if image.format != "raw":
        raise ImageError(
            f"node {node.name!r} shows the inside of a {image.format} file; read through a "
            f"{image.format} node"
        )
    return image


def _clip(extents: tuple[tuple[int, int, int], ...], start: int, end: int) -> Pieces:
    return [(max(s, start), min(e, end), v) for s, e, v in extents if s < end and e > start]


def _image(t: Transition, node: Node) -> Image:
    image = content(t, t.primary_child(node.name))
    if image is None or image.format != "qcow2":
        raise ImageError(f"node {node.name!r} has lost its qcow2 image")
    return image


def _qcow2_pieces(t: Transition, node: Node, start: int, end: int) -> Pieces:
    extents = _image(t, node).extents
    pieces = _clip(extents, start, end)
    backing = node.link("backing")
    if backing is None:
        return pieces
    limit = t.length(backing.child)
    at = start
    for s, e, _ in [*pieces, (end, end, 0)]:
        if at < min(s, limit):
            pieces += _pieces(t, backing.child, at, min(s, limit))
        at = max(at, e)
    return sorted(pieces)


def write(t: Transition, name: str, offset: int, length: int, pattern: int) -> None:
    """Write ``length`` bytes of the value ``pattern`` from ``offset``, as a guest would.

    Raises :class:`ImageError` where a guest could not.
    """
    _check_range(t, name, offset, length)
    if not 0 <= pattern <= 255:  # noqa: PLR2004  # a byte
        raise ImageError(f"a pattern is a byte, 0 to 255: {pattern}")
    if t.nodes[name].read_only:
        raise ImageError(f"node {name!r} is read-only")
    if length:
        _write(t, name, offset, offset + length, pattern)


def _write(
    t: Transition, name: str, start: int, end: int, value: int, *, zeroes: str = "off"
) -> None:
    """Write below the checks. ``zeroes`` says how zeroes that somebody detected are written."""
    node = t.nodes[name]
    if node.driver == "blkverify":
        zeroes = "off"
    elif value == 0 and zeroes == "off":
        zeroes = node.detect_zeroes
    if zeroes == "unmap" and not node.unmap:
        zeroes = "on"
    if node.driver == "qcow2":
        before = _image(t, node)
        if zeroes == "off":
            image = _allocate(t, node, before, start, end)
            image = attrs.evolve(image, extents=overlay(image.extents, start, end, value))
        else:
            image = _zero(t, node, before, start, end, unmap=zeroes == "unmap")
        _put(t, node, before, image)
    elif node.driver == "raw":
        shift = node.private.offset
        if end + shift > t.primary_length(node):
            # The window is rounded up to a sector, and its last bytes lie behind the file.
            raise ImageError(f"the last sector of {name!r} is not all there; QEMU ends there")
        _write(t, t.primary_child(name), start + shift, end + shift, value, zeroes=zeroes)
    elif node.driver == "file":
        image = _guest_bytes(t, node)
        extents = overlay(image.extents, start, end, value)
        t.images[image.name] = attrs.evolve(image, extents=extents)
    else:
        for link in node.children:
            _write(t, link.child, start, end, value, zeroes=zeroes)


def _put(t: Transition, node: Node, before: Image, image: Image) -> None:
    """Let ``image`` take the place of ``before``; the file grows as far as it was written."""
    t.images[image.name] = image
    t.change(
        node.name,
        private=attrs.evolve(node.private, l1_entries=image.l1_entries, l2_tables=image.l2_tables),
    )
    end = written_end(before, image)
    if end:
        grown(t, t.primary_child(node.name), end, zeroes=False)


def _cluster(t: Transition, node: Node, index: int) -> tuple[int, int]:
    return index * CLUSTER, min((index + 1) * CLUSTER, t.length(node.name))


def _touched(start: int, end: int) -> range:
    return range(start // CLUSTER, -(-end // CLUSTER))


def _allocate(t: Transition, node: Node, image: Image, start: int, end: int) -> Image:
    """The image once it has every cluster that the write touches, the rest copied from below."""
    extents = image.extents
    for index in _touched(start, end):
        first, last = _cluster(t, node, index)
        if not _clip(extents, first, last):
            below = _qcow2_pieces(t, node, first, last)
            extents = overlay(extents, first, last, 0)
            for s, e, v in below:
                extents = overlay(extents, s, e, v)
        image = with_data(image, [index])
    return attrs.evolve(image, extents=extents)


def _zero(t: Transition, node: Node, image: Image, start: int, end: int, *, unmap: bool) -> Image:
    """The image after zeroes were written as such.

    Whole clusters become zero clusters, and so do those of which the rest is nothing yet.
    """
    for index in _touched(start, end):
        first, last = _cluster(t, node, index)
        whole = start <= first and last <= end
        empty = index not in image.data and not any(
            v for _, _, v in _qcow2_pieces(t, node, first, last)
        )
        if whole or empty:
            image = with_l2_tables(image, [first // L2_COVERS])
            if unmap:
                image = without_data(image, [index])
        else:
            image = _allocate(t, node, image, max(start, first), min(end, last))
            first, last = max(start, first), min(end, last)
        image = attrs.evolve(image, extents=overlay(image.extents, first, last, 0))
    return image


def _copy_up(t: Transition, name: str, start: int, end: int) -> None:
    """Copy what is about to be read, wherever it comes through a copy-on-read filter."""
    node = t.nodes[name]
    if node.driver == "qcow2":
        backing = node.link("backing")
        if backing is not None:
            limit = min(end, t.length(backing.child))
            for s, e in _unallocated(_image(t, node), start, limit):
                _copy_up(t, backing.child, s, e)
    elif node.driver == "raw":
        shift = node.private.offset
        _copy_up(t, t.primary_child(name), start + shift, end + shift)
    else:
        for link in node.children:
            _copy_up(t, link.child, start, end)
            if node.driver == "copy-on-read":
                _copy_into(t, link.child, start, end, node.private)


def _unallocated(image: Image, start: int, end: int) -> Ranges:
    """The ranges between ``start`` and ``end`` for which a qcow2 image asks its backing file."""
    gaps = []
    for s, e, _ in [*_clip(image.extents, start, end), (end, end, 0)]:
        if start < s:
            gaps.append((start, s))
        start = max(start, e)
    return gaps


def _copy_into(t: Transition, name: str, start: int, end: int, bottom: Bottom | None) -> None:
    """Copy what is read from below the first qcow2 image into that."""
    node = t.nodes[name]
    if node.driver == "raw":
        shift = node.private.offset
        _copy_into(t, t.primary_child(name), start + shift, end + shift, bottom)
        return
    if driver_of(node.driver).is_filter:
        _copy_into(t, t.primary_child(name), start, end, bottom)
        return
    if node.driver != "qcow2":
        return
    before = image = _image(t, node)
    start = start // CLUSTER * CLUSTER
    end = min(-(-end // CLUSTER) * CLUSTER, t.length(name))
    for gap in _unallocated(before, start, end):
        for s, e in _above(t, node, gap, bottom):
            if any(v for _, _, v in _qcow2_pieces(t, node, s, e)):
                image = _allocate(t, node, image, s, e)
            else:
                image = _zero(t, node, image, s, e, unmap=False)
    _put(t, node, before, image)


def _above(t: Transition, node: Node, gap: tuple[int, int], bottom: Bottom | None) -> Ranges:
    """What of a range comes from ``bottom`` or from above it; all of it without a bottom."""
    if bottom is None:
        return [gap]
    there = [_has(t, node, index, bottom.node) for index in _touched(*gap)]
    found: Ranges = []
    for index, has in zip(_touched(*gap), there, strict=True):
        first, last = _cluster(t, node, index)
        if has and found and found[-1][1] == first:
            found[-1] = (found[-1][0], last)
        elif has:
            found.append((first, last))
    return found


def _has(t: Transition, node: Node, index: int, bottom: str) -> bool:
    """Whether a node between ``node`` and ``bottom`` has something in a cluster."""
    name = node.name
    first, last = _cluster(t, node, index)
    while name != bottom and (link := t.below(name)) is not None:
        name = link.child
        if t.nodes[name].driver == "qcow2":
            if _clip(_image(t, t.nodes[name]).extents, first, last):
                return True
        elif not t.driver(name).is_filter and first < t.length(name):
            return True
    return False

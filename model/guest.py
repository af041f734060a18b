# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest reads and writes through a node.

Reading goes down the graph until somebody has the bytes: a qcow2 image has the clusters
that were written to it, its backing file the rest, zeroes lie behind the end of a
shorter backing file. Writing allocates whole clusters, the rest of which is copied from
below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.drivers import driver_of
from model.drivers.formats import Qcow2State
from model.images import CLUSTER, L2_COVERS, ImageError, allocate, overlay, with_l2_tables
from model.lengths import content, grown

if TYPE_CHECKING:
    from model.graph import Transition
    from model.state import Image, Node

    Pieces = list[tuple[int, int, int]]


def read(t: Transition, name: str, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset`` as a guest of the node reads them.

    Raises :class:`ImageError` where that is no bytes of a guest's, or none at all.
    """
    _check_range(t, name, offset, length)
    out = bytearray(length)
    for start, end, value in _pieces(t, name, offset, offset + length):
        out[start - offset : end - offset] = bytes([value]) * (end - start)
    return bytes(out)


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
        return _pieces(t, node.children[-1].child, start, end)
    if driver_of(node.driver).is_filter:
        return _pieces(t, t.primary_child(name), start, end)
    return []


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


def _write(t: Transition, name: str, start: int, end: int, value: int) -> None:
    node = t.nodes[name]
    if node.driver == "qcow2":
        image = _allocate(t, node, _image(t, node), start, end)
        t.change(name, private=Qcow2State(image.l1_entries, image.l2_tables))
        _store(t, image, start, end, value)
        grown(t, t.primary_child(name), image.clusters * CLUSTER)
    elif node.driver == "raw":
        shift = node.private.offset
        _write(t, t.primary_child(name), start + shift, end + shift, value)
    elif node.driver == "file":
        _store(t, _guest_bytes(t, node), start, end, value)
    elif driver_of(node.driver).is_filter:
        for link in node.children:
            _write(t, link.child, start, end, value)
    else:
        for link in node.children:
            _write(t, link.child, start, end, value)


def _store(t: Transition, image: Image, start: int, end: int, value: int) -> None:
    t.images[image.name] = attrs.evolve(image, extents=overlay(image.extents, start, end, value))


def _allocate(t: Transition, node: Node, image: Image, start: int, end: int) -> Image:
    """The image once it has every cluster that the write touches, the rest copied from below."""
    extents = image.extents
    touched = range(start // CLUSTER * CLUSTER, end, CLUSTER)
    image = with_l2_tables(image, {first // L2_COVERS for first in touched})
    for first in touched:
        last = min(first + CLUSTER, t.length(node.name))
        if _clip(extents, first, last):
            continue
        below = _qcow2_pieces(t, node, first, last)
        extents = overlay(extents, first, last, 0)
        for s, e, v in below:
            extents = overlay(extents, s, e, v)
        image, _ = allocate(image)
    return attrs.evolve(image, extents=extents)

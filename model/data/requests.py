# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest, or a job, reads and writes through a node.

Reading goes down the graph until somebody has the bytes: a qcow2 image has the clusters
that were written to it, its backing file the rest, zeroes lie behind the end of a
shorter backing file. Writing allocates whole clusters, the rest of which is copied from
below. A copy-on-read filter makes a write of what is read through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import attrs

from model.data.block_status import (
    ALLOCATED,
    RACE,
    Question,
    allocated_above,
    forget,
    is_zero,
    is_zero_at_once,
    status,
)
from model.data.image_access import UNALIGNED, UNKNOWN_BYTES, image_of, readable
from model.data.length import cluster_size, detects_zeroes, grown
from model.graph import dirty_bitmaps
from model.graph.chain import backing_next, contains
from model.graph.driver import as_bool, driver_of
from model.graph.request_limits import at_once
from model.graph.sizes import foresee, spend
from model.graph.traversal import length_of, primary_child, primary_length
from model.release.rules import effect, hazard, outside
from model.values import ranges
from model.values.image_layout import (
    CLUSTER,
    L2_COVERS,
    UNKNOWN,
    ImageError,
    ShrunkError,
    clip,
    held_among,
    overlay,
    punched,
    shown,
    with_data,
    with_l2_tables,
    without_data,
    written_end,
)
from model.values.state import NO_LIMITS
from model.values.trace import RATE_LIMITED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.graph.transition import Transition
    from model.values.image_layout import Extents
    from model.values.private import Bottom, Qcow2State, QuorumState
    from model.values.state import Image, Limits, Node

    Ranges = list[tuple[int, int]]

Pieces: TypeAlias = list[tuple[int, int, int]]
Rewrites: TypeAlias = "list[tuple[str, int, int, Pieces]]"
"""What a quorum is to write to its bad children: ``(child, start, end, bytes)``."""

BACKING_SHOWS = effect(
    "data.backing-shows",
    "What an image does not have itself is read from its backing file, behind the end of which "
    "there are zeroes.",
    source="7.2",
)
REST_COPIED = effect(
    "data.rest-copied",
    "Who writes a part of a cluster copies the rest from below.",
    source="7.2",
)
ZEROES_DETECTED = effect(
    "data.zeroes-detected",
    "A node that detects zeroes does not write them as data.",
    source="7.2",
)
UNMAPS_UNASKED = effect(
    "data.unmaps-unasked",
    "A job that writes zeroes and may unmap them does not ask the node that it writes to whether "
    "it wants that.",
    source="7.2; 10.0 asks every node on the way",
)
COPIED_ON_READ = effect(
    "data.copied-on-read",
    "What is read through a copy-on-read filter is written to the image below it.",
    source="7.2",
)
QUORUM_ZEROES = effect(
    "quorum.writes-zeroes",
    "A quorum has its children write zeroes as such.",
    source="6.0; before, it writes them like other bytes",
)
BAD_HEARD = effect(
    "quorum.bad-heard",
    "Clients hear of a child of a quorum that does not have what most children have.",
    source="7.2",
)

IN_PARTS = effect(
    "data.read-in-parts",
    "What is read through a blkdebug node is read in parts of as many bytes as that takes at once, "
    "and a quorum with such a node below it votes on each part.",
    source="5.2",
)
KEEPS_PLACE = effect(
    "qcow2.keeps-place",
    "With discard-no-unref, a cluster that is discarded, or written as zeroes that may be "
    "unmapped, keeps its place in the image.",
    source="10.0; 7.2 does not know the option",
)
ZERO_ROWS = effect(
    "qcow2.zero-rows",
    "Clusters that lie in a row are written at once, and where all of them are zeroes, the file of "
    "the image finds that out if it detects zeroes: it does not become longer if it unmaps them.",
    source="7.2",
)
REWRITES_LAST = effect(
    "quorum.rewrites-last",
    "A quorum rewrites its bad children when all is read that is read at once, such as the other "
    "image of a blkverify node above it.",
    source="7.2",
)

BEYOND_END = hazard(
    "hazard.copy-on-read-beyond-end",
    "Somebody reads through a copy-on-read filter behind the end of what is below, which has "
    "become shorter.",
    source="10.0 and 11.1 end with an assertion",
)
COPIES_BEYOND_END = hazard(
    "hazard.copies-beyond-end",
    "Somebody reads an image behind the end of its backing file, which a stream lets copy what is "
    "read.",
    source="5.2 ends with an assertion",
)
SHORT_BELOW = hazard(
    "hazard.copy-on-read-short",
    "Somebody reads through a copy-on-read filter with a bottom, as a stream job has one, where a "
    "backing file is too short.",
    source="7.2 stops there and leaves the rest of the reader's buffer as it was: what the image "
    "has behind that place is not read",
)
BOTTOM_ABOVE = hazard(
    "hazard.copy-on-read-bottom",
    "Somebody reads through a copy-on-read filter whose bottom is the very image below it, as that "
    "of a stream job without anything to stream, or is below it no more, as when a stream job is "
    "through and its filter is still there; and that image does not have the bytes.",
    source="7.2 looks for the bottom among the images below, finds the end of the chain and ends "
    "with a segmentation fault",
)

SPLIT = hazard(
    "hazard.copy-on-read-split",
    "What is read through a copy-on-read filter is copied in whole clusters, and a blkdebug node "
    "below takes less than that at once: the first part ends before what is read, or one begins "
    "behind it.",
    source="5.2, 7.2, 10.0 and 11.1 take the rest of the cluster for a part of what is read, and "
    "end with an assertion or 'bytes is negative'",
)

VERIFIED_ZEROES = hazard(
    "hazard.blkverify-zeroes",
    "Zeroes are written to a blkverify node as such: by a node above that detects them, or a job.",
    source="7.2 ends with an assertion in bdrv_co_do_pwrite_zeroes",
)

_SECTOR = 512
REQUEST = 512 << 10
"""How many bytes a guest asks for at most at once where it reads or writes a whole disk."""


_CLUSTERS, _LEAST = 4, 100
"""So many clusters are written in the time of a piece of work, and a table has so many entries."""

_MERGED = 16384
"""Between two parts that have to be read, qcow2 reads so many bytes as well for nothing."""


class Write(NamedTuple):
    """A write request: the range, the runs ``data`` and zeroes between them, as for :func:`put`.

    It is ``unchanged`` where a guest reads the same before and after.
    """

    start: int
    end: int
    data: Pieces
    zeroes: str = "off"
    unchanged: bool = False


Passing: TypeAlias = "Callable[[Transition, Node, Write], None]"
"""What a filter does with a write request."""

NO_GUEST = outside(
    "guest.impossible",
    "A guest could read or write there, and the spec knows what it gets.",
    text="what a guest does here is not modelled: {text}",
)

SMALL_ZEROES = effect(
    "blkdebug.small-zeroes",
    "Zeroes that begin or end beside a multiple of a blkdebug node's opt-write-zero are data "
    "there; of those between, max-write-zero are written at once.",
    source="5.2",
)

PASSING: dict[str, Passing] = {}
"""What filters do with write requests, by driver, but for passing them on; filled by the jobs."""


def check_known(name: str, *versions: Pieces) -> None:
    """Raise :class:`ImageError` where some of what was read through a node may be anything."""
    if any(value == UNKNOWN for version in versions for _, _, value in version):
        raise ImageError(
            f"nobody knows what node {name!r} reads as: it shows a null node without read-zeroes, "
            "or a copy of one"
        )


def differs(t: Transition, data: Pieces) -> bool:
    """Whether there is a byte that is not zero; notices where that depends on timing."""
    if any(value > 0 for _, _, value in data):
        return True
    if any(value == UNKNOWN for _, _, value in data):
        t.ev.meet(UNKNOWN_BYTES)
    return False


def lift(t: Transition, name: str, start: int, end: int) -> None:
    """Copy what the first image of ``name`` has not got from below, as copy on read does.

    Raises :class:`ImageError` where that is no bytes of a guest's.
    """
    _read_and_copy(t, name, start, end)


def check_range(t: Transition, name: str, offset: int, length: int) -> None:
    """Raise :class:`ImageError` where a range of bytes does not lie within a node."""
    if name not in t.nodes:
        raise ImageError(f"no node is called {name!r}")
    if offset < 0 or length < 0 or offset + length > length_of(t, name):
        raise ImageError(
            f"{shown(length)} bytes from {shown(offset)} do not lie within node {name!r} of "
            f"{length_of(t, name)} bytes"
        )


def get(t: Transition, name: str, start: int, end: int) -> Pieces:
    """The runs ``(start, end, value)`` of bytes that one read request returns.

    What they leave out is zero. Raises :class:`ImageError`.
    """
    before = len(t.events)
    copy_up(t, name, start, end)
    found = pieces(t, name, start, end)
    if heard(t, before) > 1:
        t.ev.meet(RACE)
    return found


def heard(t: Transition, before: int) -> int:
    """How many requests clients might hear of, which they do but once about each bad child.

    ``before`` is how many events there were when the requests were begun, side by side.
    """
    told = [event["data"] for event in t.events[before:] if event["event"] in RATE_LIMITED]
    return len({data["sector-num"] for data in told})


def pieces(t: Transition, name: str, start: int, end: int) -> Pieces:
    """The runs ``(start, end, value)`` of bytes within a range; what they leave out is zero.

    What lies behind the end of a node is zero. Raises :class:`ImageError` where a node shows no
    bytes of a guest's.
    """
    rewrites: Rewrites = []
    try:
        return _pieces(t, name, start, end, rewrites)
    finally:
        for rewrite in rewrites:
            put(t, *rewrite)


def _pieces(t: Transition, name: str, start: int, end: int, rewrites: Rewrites) -> Pieces:
    """The same; what is to be rewritten comes to ``rewrites``."""
    node = t.nodes[name]
    spend(t)
    end = min(end, length_of(t, name))
    if start >= end:
        return []
    if node.driver == "qcow2":
        return _qcow2_pieces(t, node, start, end, rewrites)
    if node.driver == "raw":
        shift = node.private.offset
        below = _pieces(t, primary_child(t, name), start + shift, end + shift, rewrites)
        return [(s - shift, e - shift, v) for s, e, v in below]
    if node.driver == "file":
        return _file_pieces(t, node, start, end)
    if node.driver == "quorum":
        return [
            piece
            for first, last in _parts(t, node, start, end)
            for piece in _vote(t, node, first, last, rewrites)
        ]
    if node.driver == "blkverify":
        seen = _versions(t, node, start, end, rewrites)
        if seen[0] != seen[1]:
            raise ImageError(f"the two images of {node.name!r} differ; QEMU ends there")
        return seen[0]
    if node.driver == "copy-on-read":
        reads = _reads(t, primary_child(t, name), start, end, node.private)
        return [
            piece for s, e in reads for piece in _pieces(t, primary_child(t, name), s, e, rewrites)
        ]
    if driver_of(node.driver).is_filter:
        return _in_parts(t, node, start, end, rewrites)
    # A null node without read-zeroes leaves the reader's buffer as it was.
    return [] if as_bool(node.options.get("read-zeroes")) else [(start, end, UNKNOWN)]


def _in_parts(t: Transition, node: Node, start: int, end: int, rewrites: Rewrites) -> Pieces:
    """What is read through a filter; that blkdebug reads in parts shows only where some vote."""
    driver_of(node.driver).follow(t, node, opening=False)
    child = primary_child(t, node.name)
    if node.driver != "blkdebug" or not _votes(t, child):
        return _pieces(t, child, start, end, rewrites)
    return [
        piece
        for first, last in _parts(t, node, start, end)
        for piece in _pieces(t, child, first, last, rewrites)
    ]


def _parts(t: Transition, node: Node, start: int, end: int) -> list[tuple[int, int]]:
    """The parts in which a node reads a range, by what it takes at once."""
    most = at_once(t, node.name)
    if not most or end - start <= most or not t.ev.holds(IN_PARTS):
        return [(start, end)]
    foresee(t, (end - start) // most)
    return [(first, min(first + most, end)) for first in range(start, end, most)]


def _votes(t: Transition, name: str) -> bool:
    """Whether a quorum is this node or lies below it."""
    node = t.nodes[name]
    return node.driver == "quorum" or any(_votes(t, link.child) for link in node.children)


def _file_pieces(t: Transition, node: Node, start: int, end: int) -> Pieces:
    if (start % _SECTOR or end % _SECTOR) and not readable(t, node.name):
        t.ev.meet(UNALIGNED)
    found = clip(_guest_bytes(t, node).extents, start, end)
    spend(t, 0, entries=len(found))
    return found


def merged(pieces: Pieces) -> Pieces:
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


def _vote(t: Transition, node: Node, start: int, end: int, rewrites: Rewrites) -> Pieces:
    """What most children of a quorum say; of several such versions, the one that came last."""
    quorum: QuorumState = node.private
    children = _read_from(node)
    if quorum.fifo:
        return _pieces(t, children[0], start, end, rewrites)
    versions = _versions(t, node, start, end, rewrites)
    if all(version == versions[0] for version in versions):
        return versions[0]
    if quorum.blkverify:
        raise ImageError(f"the two images of {node.name!r} differ; QEMU ends there")
    distinct = [v for i, v in enumerate(versions) if v not in versions[:i]]
    winner = max(reversed(distinct), key=versions.count)
    if versions.count(winner) < quorum.threshold:
        raise ImageError(f"too few children of {node.name!r} agree")
    for version in reversed(distinct):
        if version != winner and t.ev.holds(BAD_HEARD):
            bad = [c for c, v in zip(children, versions, strict=True) if v == version]
            t.events += [_report_bad(child, start, end) for child in reversed(bad)]
    if quorum.rewrite:
        wrong = [c for c, v in zip(children, versions, strict=True) if v != winner]
        if t.ev.holds(REWRITES_LAST):
            rewrites += [(child, start, end, winner) for child in wrong]
        else:
            for child in wrong:
                put(t, child, start, end, winner)
    return winner


def _versions(t: Transition, node: Node, start: int, end: int, rewrites: Rewrites) -> list[Pieces]:
    """What each child says, to be compared: that takes bytes that somebody knows."""
    versions = [merged(_pieces(t, child, start, end, rewrites)) for child in _read_from(node)]
    if len(versions) > 1:
        check_known(node.name, *versions)
    return versions


def _report_bad(child: str, start: int, end: int) -> dict[str, Any]:
    first, last = start // 512, -(-end // 512)
    sectors = {"sector-num": first, "sectors-count": last - first}
    return {"event": "QUORUM_REPORT_BAD", "data": {"node-name": child, "type": "read", **sectors}}


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


def _image(t: Transition, node: Node) -> Image:
    image = image_of(t, node)
    if image is None:
        raise ImageError(f"node {node.name!r} has lost its qcow2 image")
    search: int = node.private.search
    return attrs.evolve(image, search=search) if search else image


def _qcow2_pieces(t: Transition, node: Node, start: int, end: int, rewrites: Rewrites) -> Pieces:
    extents = _image(t, node).extents
    own = clip(extents, start, end)
    spend(t, 0, entries=len(own))
    backing = node.link("backing")
    if backing is None or not t.ev.holds(BACKING_SHOWS):
        return own
    limit = length_of(t, backing.child)
    below: Pieces = []
    at = start
    for s, e, _ in [*own, (end, end, 0)]:
        if at < min(s, limit):
            below += _pieces(t, backing.child, at, min(s, limit), rewrites)
        at = max(at, e)
    return sorted(own + below)


def put(
    t: Transition,
    name: str,
    start: int,
    end: int,
    data: Pieces,
    *,
    zeroes: str = "off",
    insist: bool = False,
) -> None:
    """One write request below the checks: the runs ``data``, and zeroes between them.

    ``zeroes`` says how they are written where somebody found out that all bytes are zero. Who
    may ``insist`` on unmapping them does not ask the node itself whether it wants that.
    Raises :class:`ImageError` where a node has no bytes of a guest's.
    """
    pass_on(t, name, Write(start, end, data, zeroes), insist=insist)


def pass_on(t: Transition, name: str, write: Write, *, insist: bool = False) -> None:
    """A write request arrives at a node, as for :func:`put`."""
    spend(t)
    dirty_bitmaps.written(t, name, write.start, write.end)
    driver = driver_of(t.nodes[name].driver)
    driver.follow(t, t.nodes[name], opening=False)
    driver.wrote(t, t.nodes[name])
    node = t.nodes[name]
    if not (insist and t.ev.holds(UNMAPS_UNASKED)):
        write = write._replace(zeroes=_way(t, node, write.data, write.zeroes))
    _put(t, node, write)


def _put(t: Transition, node: Node, write: Write) -> None:
    """What the driver of a node does with a write request."""
    start, end, data, zeroes, _ = write
    if node.driver == "compress":
        raise ImageError(f"what is written through node {node.name!r} is compressed")
    if zeroes != "off" and not _passes_zeroes(t, node):
        write = write._replace(zeroes="off")
    if node.driver == "qcow2":
        _put_clusters(t, node, start, end, data, zeroes)
    elif node.driver == "raw":
        shift = node.private.offset
        if end + shift > primary_length(t, node):
            # The window is rounded up to a sector, and its last bytes lie behind the file.
            raise ImageError(f"the last sector of {node.name!r} is not all there; QEMU ends there")
        shifted = [(s + shift, e + shift, v) for s, e, v in data]
        moved = write._replace(start=start + shift, end=end + shift, data=shifted)
        pass_on(t, primary_child(t, node.name), moved)
    elif node.driver == "file":
        _put_bytes(t, node, start, end, data, zeroes)
    elif node.driver in PASSING:
        PASSING[node.driver](t, node, write)
    else:
        _put_below(t, node, write)


def _put_below(t: Transition, node: Node, write: Write) -> None:
    """What a filter does with a write request, unless it is of those that do more with it."""
    for child in _in_turn(node):
        if write.end > length_of(t, child):
            raise ShrunkError(f"node {child!r} has become shorter; QEMU ends there")
        for part in _zero_parts(t, node, write):
            pass_on(t, child, part)


def _zero_parts(t: Transition, node: Node, write: Write) -> list[Write]:
    """The requests that a filter makes of one."""
    limits = _own_limits(node)
    splits = limits.zeroes or limits.most_zeroes
    if write.zeroes == "off" or not splits or not t.ev.holds(SMALL_ZEROES):
        return [write]
    return [
        write._replace(start=start, end=end, zeroes=write.zeroes if whole else "off")
        for start, end, whole in _wholes(write.start, write.end, limits.zeroes, limits.most_zeroes)
    ]


def _own_limits(node: Node) -> Limits:
    """The limits to which a node itself breaks requests up."""
    return driver_of(node.driver).limit(node, NO_LIMITS) if node.driver == "blkdebug" else NO_LIMITS


def _wholes(start: int, end: int, alignment: int, most: int) -> Iterator[tuple[int, int, bool]]:
    """The parts of a range: what is aligned, ``most`` bytes at a time, and what lies beside that.

    Each comes with whether it is aligned. An ``alignment`` or ``most`` of 0 is none.
    """
    alignment = alignment or 1
    first = min(end, -(-start // alignment) * alignment)
    last = max(first, end // alignment * alignment)
    if start < first:
        yield start, first, False
    step = most // alignment * alignment or last - first
    while first < last:
        yield first, min(last, first + step), True
        first += step
    if last < end:
        yield last, end, False


def _passes_zeroes(t: Transition, node: Node) -> bool:
    """Whether the children of a node are told to write zeroes where the node is."""
    if node.driver == "blkverify":
        t.ev.meet(VERIFIED_ZEROES)
        return False
    return node.driver != "quorum" or t.ev.holds(QUORUM_ZEROES)


def _way(t: Transition, node: Node, data: Pieces, zeroes: str) -> str:
    """How a node goes on with what may be zeroes."""
    detects = node.detect_zeroes != "off" and node.driver != "blkverify" and not t.offloads
    if detects and zeroes == "off" and not differs(t, data) and t.ev.holds(ZEROES_DETECTED):
        zeroes = node.detect_zeroes
    if zeroes == "unmap" and not node.unmap:
        return "on"
    return zeroes


def _put_clusters(
    t: Transition, node: Node, start: int, end: int, data: Pieces, zeroes: str
) -> None:
    before = _image(t, node)
    _spend_on(t, before, start, end, data=zeroes == "off")
    if not readable(t, primary_child(t, node.name)):
        t.ev.meet(UNALIGNED)
    if zeroes == "off":
        image = _allocate(t, node, before, start, end)
        image = attrs.evolve(image, extents=_overlaid(image, start, end, data))
    else:
        image = _zero(t, node, before, start, end, unmap=zeroes == "unmap")
    file = primary_child(t, node.name)
    detected = zeroes == "off" and detects_zeroes(t, file) and t.ev.holds(ZERO_ROWS)
    _settle(t, node, before, image, zeroes=detected or zeroes != "off")
    if detected:
        grown(t, file, _data_end(t, before, image, start, end), zeroes=False)


def _spend_on(t: Transition, image: Image, start: int, end: int, *, data: bool) -> None:
    """Note down how much work it is to change a range of a qcow2 image."""
    tables = -(-end // L2_COVERS) - start // L2_COVERS
    known = len(image.data) + len(image.zeroed) + len(image.l2_tables) + len(image.extents)
    clusters = len(_touched(start, end)) // _CLUSTERS if data else 0
    spend(t, clusters, entries=known + (tables + clusters) * (_LEAST + len(image.free)))


def _data_end(t: Transition, before: Image, image: Image, start: int, end: int) -> int:
    """Up to which byte of the file a write goes, but for rows of clusters that are zeroes alone.

    The rest of a new cluster of which a part is written counts as data.
    """

    def whole(index: int) -> bool:
        known = index in before.data and index not in before.zeroed
        return known or (start <= index * CLUSTER and (index + 1) * CLUSTER <= end)

    reached = 0
    for row in _rows(image, start, end):
        first, last = max(start, row[0] * CLUSTER), min(end, (row[-1] + 1) * CLUSTER)
        known = differs(t, clip(image.extents, first, last))
        if known or not (whole(row[0]) and whole(row[-1])):
            reached = max(reached, (image.data[row[-1]] + 1) * CLUSTER)
    return reached


def _rows(image: Image, start: int, end: int) -> list[list[int]]:
    """The clusters of a range, those together that lie in a row in the file."""
    rows: list[list[int]] = []
    for index in _touched(start, end):
        if rows and image.data[index] == image.data[rows[-1][-1]] + 1:
            rows[-1].append(index)
        else:
            rows.append([index])
    return rows


def _put_bytes(t: Transition, node: Node, start: int, end: int, data: Pieces, zeroes: str) -> None:
    image = _guest_bytes(t, node)
    if not readable(t, node.name):
        t.ev.meet(UNALIGNED)
    spend(t, 0, entries=len(image.extents))
    if zeroes == "off":
        extents, room = _overlaid(image, start, end, data), image.room
    else:
        forget(t, node.name, start, end)
        extents, room = punched(image.extents, start, end), image.room or zeroes == "on"
    t.images[image.name] = attrs.evolve(image, extents=extents, room=room)


def discard(t: Transition, name: str, start: int, end: int) -> None:
    """Tell a node that nobody needs a range of whole clusters any more.

    Raises :class:`ImageError` where a node has no bytes of a guest's.
    """
    node = t.nodes[name]
    if not node.unmap:
        return
    if node.driver == "qcow2":
        start = -(-start // CLUSTER) * CLUSTER
        end = end if end == node.size else end // CLUSTER * CLUSTER
        if start >= end:
            return
        before = image = _image(t, node)
        _spend_on(t, before, start, end, data=False)
        touched = _touched(start, end)
        image = with_l2_tables(image, _tables(touched))
        held = held_among(image, touched)
        image = _unmapped(t, node, image, held)
        for run in [touched] if node.link("backing") is not None else _in_rows(held):
            extents = overlay(image.extents, *_clusters(t, node, run), 0)
            image = attrs.evolve(image, extents=extents)
        _settle(t, node, before, image, zeroes=True)
    elif node.driver == "raw":
        shift = node.private.offset
        discard(t, primary_child(t, name), start + shift, end + shift)
    elif node.driver == "file":
        image = _guest_bytes(t, node)
        spend(t, 1, entries=len(image.extents))
        forget(t, name, start, end)
        t.images[image.name] = attrs.evolve(image, extents=punched(image.extents, start, end))
    elif driver_of(node.driver).is_filter and node.driver != "blkverify":
        driver_of(node.driver).follow(t, node, opening=False)
        limits = _own_limits(node)
        for first, last, whole in _wholes(start, end, limits.discard, limits.most_discard):
            # What is too small is not passed on, which nobody minds.
            if whole:
                discard(t, primary_child(t, name), first, last)


def _overlaid(image: Image, start: int, end: int, data: Pieces) -> Extents:
    """The extents of an image once the runs ``data``, and zeroes between them, are written."""
    extents = overlay(image.extents, start, end, 0)
    for s, e, value in data:
        extents = overlay(extents, s, e, value)
    return extents


def _settle(t: Transition, node: Node, before: Image, image: Image, *, zeroes: bool) -> None:
    """Let ``image`` take the place of ``before``; the file grows as far as it was written.

    With ``zeroes`` that is no further than to the tables.
    """
    if image.unsure:
        t.ev.meet(RACE)
    remember(t, node.name, image)
    end = written_end(before, image)
    if end:
        tables = set(image.l2_tables.values()) - set(before.l2_tables.values())
        # A new L2 table is written before the data, and an entry of the cache at a time.
        first = min(tables) * CLUSTER + node.private.l2_entry if tables else None
        grown(t, primary_child(t, node.name), end, zeroes=zeroes, first=first)


def remember(t: Transition, name: str, image: Image) -> None:
    """Let ``image`` be what a qcow2 node has made of its image file."""
    t.images[image.name] = attrs.evolve(image, search=0)
    private: Qcow2State = t.nodes[name].private
    t.change(
        name,
        private=attrs.evolve(
            private,
            l1_entries=image.l1_entries,
            l2_tables=image.l2_tables,
            search=image.search,
            written=True,
            cached=True,
        ),
    )


def _cluster(t: Transition, node: Node, index: int) -> tuple[int, int]:
    return _clusters(t, node, range(index, index + 1))


def _clusters(t: Transition, node: Node, run: range) -> tuple[int, int]:
    """The bytes of some clusters in a row, as far as the node goes."""
    return run.start * CLUSTER, min(run.stop * CLUSTER, length_of(t, node.name))


def _tables(run: range) -> range:
    """The L2 tables that lead to some clusters in a row."""
    return range(run.start * CLUSTER // L2_COVERS, -(-run.stop * CLUSTER // L2_COVERS))


def _in_rows(indices: list[int]) -> list[range]:
    """The same numbers, which are sorted, as ranges."""
    rows: list[range] = []
    for index in indices:
        if rows and rows[-1].stop == index:
            rows[-1] = range(rows[-1].start, index + 1)
        else:
            rows.append(range(index, index + 1))
    return rows


def _touched(start: int, end: int) -> range:
    return range(start // CLUSTER, -(-end // CLUSTER))


def _read_rest(t: Transition, node: Node, image: Image, start: int, end: int) -> None:
    """Read what a write leaves of its first and its last cluster, where that may not be zeroes.

    The two are read at once if they are not far apart.
    """
    touched = _touched(start, end)
    head = touched[0] * CLUSTER, start
    tail = end, _cluster(t, node, touched[-1])[1]
    zero = [is_zero_at_once(t, node.name, *rest) for rest in (head, tail)]
    if not any(index in image.data for index in touched):
        zero = [all(zero)] * 2
        if not all(zero) and head[0] < start and end < tail[1] and end - start <= _MERGED:
            copy_up(t, node.name, head[0], tail[1])
            return
    for rest, known in zip((head, tail), zero, strict=True):
        if not known:
            copy_up(t, node.name, *rest)


def _allocate(t: Transition, node: Node, image: Image, start: int, end: int) -> Image:
    """The image once it has every cluster that the write touches, the rest copied from below."""
    touched = _touched(start, end)
    _read_rest(t, node, image, start, end)
    extents = image.extents
    for index in touched:
        first, last = _cluster(t, node, index)
        if not clip(extents, first, last) and t.ev.holds(REST_COPIED):
            rest = [(first, max(first, start)), (min(end, last), last)]
            if all(s < e for s, e in rest) and end - start <= _MERGED:
                rest = [(first, last)]
            below = [piece for s, e in rest if s < e for piece in pieces(t, node.name, s, e)]
            extents = overlay(extents, first, last, 0)
            for s, e, v in below:
                extents = overlay(extents, s, e, v)
    new = [index for index in touched if index not in image.data or index in image.zeroed]
    image = _dirtied(t, node, image) if new else image
    zeroed = image.zeroed - set(touched)
    return attrs.evolve(with_data(image, touched), extents=extents, zeroed=zeroed)


def _dirtied(t: Transition, node: Node, image: Image) -> Image:
    """The image with a note that its refcounts will not be right for a while, if they are lazy."""
    private: Qcow2State = t.nodes[node.name].private
    if not private.lazy:
        return image
    t.change(node.name, private=attrs.evolve(private, dirty=True))
    return attrs.evolve(image, dirty=True)


def _zero(t: Transition, node: Node, image: Image, start: int, end: int, *, unmap: bool) -> Image:
    """The image after zeroes were written as such.

    Whole clusters become zero clusters, and so do those of which the rest is nothing yet.
    """
    for run in _whole_or_one(t, node, start, end):
        first, last = _clusters(t, node, run)
        if (start <= first and last <= end) or _is_empty_but_for(t, node, image, run, start, end):
            for table in _tables(run):
                image = with_l2_tables(image, [table])
                held = held_among(image, _in_table(run, table))
                image = _unmapped(t, node, image, held) if unmap else _hidden(image, held)
        else:
            first, last = max(start, first), min(end, last)
            image = _allocate(t, node, image, first, last)
        image = attrs.evolve(image, extents=overlay(image.extents, first, last, 0))
    return image


def _whole_or_one(t: Transition, node: Node, start: int, end: int) -> list[range]:
    """The clusters of a range: all that lie within it together, each other one by itself."""
    touched = _touched(start, end)
    first = touched.start + (start > touched.start * CLUSTER)
    last = touched.stop - (end < _cluster(t, node, touched.stop - 1)[1])
    if first > last:
        return [touched]
    runs = range(touched.start, first), range(first, last), range(last, touched.stop)
    return [run for run in runs if run]


def _is_empty_but_for(
    t: Transition, node: Node, image: Image, run: range, start: int, end: int
) -> bool:
    """Whether a cluster has nothing but zeroes outside of a range, and no place in the file."""
    first, last = _clusters(t, node, run)
    held = run.start in image.data and run.start not in image.zeroed
    return not held and is_zero(t, node.name, first, start) and is_zero(t, node.name, end, last)


def _in_table(run: range, table: int) -> range:
    """Those of some clusters in a row to which one L2 table leads."""
    first = table * L2_COVERS // CLUSTER
    return range(max(run.start, first), min(run.stop, first + L2_COVERS // CLUSTER))


def _unmapped(t: Transition, node: Node, image: Image, held: list[int]) -> Image:
    """The image after clusters have become zeroes that take no place, or keep their own."""
    if node.private.keeps and t.ev.holds(KEEPS_PLACE):
        return _hidden(image, held)
    return without_data(image, held)


def _hidden(image: Image, held: list[int]) -> Image:
    """The image after clusters that have a place have become zero clusters there."""
    return attrs.evolve(image, zeroed=image.zeroed | set(held)) if held else image


def copy_up(t: Transition, name: str, start: int, end: int) -> None:
    """Copy what is about to be read, wherever it comes through a copy-on-read filter."""
    node = t.nodes[name]
    end = min(end, length_of(t, name))
    if start >= end:
        return
    if node.copies_on_read:
        _read_and_copy(t, name, start, end)
    else:
        _copy_up_below(t, name, start, end)


def _copy_up_below(t: Transition, name: str, start: int, end: int) -> None:
    """The same, where the node itself copies nothing."""
    node = t.nodes[name]
    if node.driver == "qcow2":
        backing = node.link("backing")
        if backing is not None:
            limit = min(end, length_of(t, backing.child))
            if t.nodes[backing.child].copies_on_read and limit < end:
                t.ev.meet(COPIES_BEYOND_END)
            for s, e in _unallocated(_image(t, node), start, limit):
                copy_up(t, backing.child, s, e)
    elif node.driver == "raw":
        shift = node.private.offset
        copy_up(t, primary_child(t, name), start + shift, end + shift)
    elif node.driver == "copy-on-read":
        _copy_through(t, node, start, end)
    else:
        for child in _read_from(node):
            copy_up(t, child, start, end)


def _copy_through(t: Transition, node: Node, start: int, end: int) -> None:
    """Copy what is about to be read through this copy-on-read filter."""
    below = primary_child(t, node.name)
    if end > length_of(t, below):
        t.ev.meet(BEYOND_END)
    for s, e, copies in _requests(t, below, start, end, node.private):
        if copies and t.ev.holds(COPIED_ON_READ):
            _read_and_copy(t, below, s, e)
        else:
            copy_up(t, below, s, e)


def _in_turn(node: Node) -> list[str]:
    """The children of a node in the order in which it turns to them."""
    if node.driver == "quorum":
        quorum: QuorumState = node.private
        return [link.child for m in quorum.members if (link := node.link(m)) is not None]
    if node.driver == "blkverify":
        return [link.child for name in ("test", "raw") if (link := node.link(name)) is not None]
    return [link.child for link in node.children]


def _read_from(node: Node) -> list[str]:
    """What a node reads; a filter that copies before it writes does not read its target."""
    if node.link("target") is not None:
        return [link.child for link in node.children if link.name != "target"]
    if node.driver == "quorum" and node.private.fifo:
        return _in_turn(node)[:1]
    return _in_turn(node)


def _unallocated(image: Image, start: int, end: int) -> Ranges:
    """The ranges between ``start`` and ``end`` for which a qcow2 image asks its backing file."""
    gaps = []
    for s, e, _ in [*clip(image.extents, start, end), (end, end, 0)]:
        if start < s:
            gaps.append((start, s))
        start = max(start, e)
    return gaps


def _requests(
    t: Transition, name: str, start: int, end: int, bottom: Bottom | None
) -> Iterator[tuple[int, int, bool]]:
    """In which pieces a copy-on-read filter reads ``name``, and which it has copied into that.

    That is all of it, but with a bottom only what lies between that and the first image.
    """
    if bottom is None:
        yield start, end, True
        return
    while start < end:
        reached, flags = status(t, name, start, end, asked=Question.ALLOCATION)
        copies = False
        if not flags & ALLOCATED:
            below = backing_next(t, name)
            reached, flags = _between(t, below, bottom.node, start, reached)
            if reached == start:
                return
            copies = bool(flags & ALLOCATED)
        yield start, reached, copies
        start = reached


def _reads(
    t: Transition, name: str, start: int, end: int, bottom: Bottom | None
) -> Iterator[tuple[int, int]]:
    """What a copy-on-read filter reads of ``name`` at a time, once what it copies is there."""
    at = start
    for _, e, copies in _requests(t, name, start, end, bottom):
        while copies and at < e:
            reached, _ = status(t, name, at, e, asked=Question.ALLOCATION)
            if reached == at:
                break
            yield at, reached
            at = reached
        if at < e:
            yield at, e
            at = e
    if at < end:
        yield at, end


def _between(
    t: Transition, below: str | None, bottom: str, start: int, end: int
) -> tuple[int, int]:
    """What a copy-on-read filter is told of the images down to its bottom."""
    if below is None:
        t.ev.meet(BOTTOM_ABOVE)
        return end, 0
    reached, flags = allocated_above(t, below, bottom, start, end)
    if reached == start:
        t.ev.meet(SHORT_BELOW)
    elif not flags & ALLOCATED and not contains(t, below, bottom):
        t.ev.meet(BOTTOM_ABOVE)
    return reached, flags


def _read_and_copy(t: Transition, name: str, start: int, end: int) -> None:
    """Read a node in whole clusters, and write to it what it does not have itself, run by run.

    What that is is asked before the run is read, which may have others copy it, too.
    """
    cluster = cluster_size(t, name) or 1
    spend(t)
    most = at_once(t, name)
    foresee(t, (end - start) // most if most else 0)
    if most % cluster == 0:
        _copy_clusters(t, name, start, end, cluster, None)
        return
    for s in range(start, end, most):
        e = min(s + most, end)
        reached, flags = status(t, name, s, e, asked=Question.ALLOCATION)
        if not (flags & ALLOCATED and reached == e):
            _copy_clusters(t, name, s, e, cluster, most)


def _copy_clusters(
    t: Transition, name: str, start: int, end: int, cluster: int, most: int | None
) -> None:
    """The same for one request, which is read in parts of at most ``most`` bytes.

    The first part has to get to what is asked for, and none may begin behind that.
    """
    at, last = ranges.aligned(start, end, cluster)
    last = min(last, length_of(t, name))
    while at < last:
        part = last if most is None else min(at + most, last)
        reached, flags = status(t, name, at, part, asked=Question.ALLOCATION)
        if reached == at:
            # The last sector of the node lies behind the end of its file in part.
            return
        if most is not None and (at > end or reached <= start):
            t.ev.meet(SPLIT)
        _copy_up_below(t, name, at, reached)
        if not flags & ALLOCATED:
            # Nobody notes that down, nor looks for zeroes but for this.
            data = pieces(t, name, at, reached)
            known = differs(t, data)
            write = Write(at, reached, data, "off" if known else "on", unchanged=True)
            _put(t, t.nodes[name], write)
        at = reached

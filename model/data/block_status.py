# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node knows of its bytes without reading them: if they are there, if they are zero.

Jobs ask before they copy, and what they are told decides which clusters they write and how.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import attrs

from model.data.image_access import image_of
from model.graph.driver import driver_of
from model.graph.sizes import spend
from model.graph.traversal import length_of, link_below, primary_child
from model.release.rules import effect, hazard
from model.values.image_layout import BLOCK, CLUSTER, clip, held_among
from model.values.ranges import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.graph.transition import Transition
    from model.values.private import FileState, QuorumState
    from model.values.state import Image, Node

UNSURE = hazard(
    "hazard.host-holes",
    "A job wants to know of the holes of a raw file in which room was made for zeroes.",
    source="our own: the host takes room for a hole until it happens to read there",
)

QUORUM_STATUS = effect(
    "quorum.block-status",
    "A quorum asks its children where they read as zeroes.",
    source="6.0; before, it is all data",
)
ZEROES_FORGOTTEN = effect(
    "data.zeroes-forgotten",
    "Whoever only asks for zeroes does not have remembered where data were found.",
    source="11.1, seen by a stream after a commit",
)
REMEMBERED = effect(
    "data.status-remembered",
    "Where a file was last found to have data, it is taken to have them until zeroes are written "
    "there; questions end where these data end.",
    source="7.2, seen by how much a job copies at once",
)

RACE = hazard(
    "hazard.copies-race",
    "A job has copied several pieces at once, and which came first shows: the image that they go "
    "to has holes or gets some, is made smaller, or lies above a preallocate filter; or a slow job "
    "stops where they lie apart; or several are read at once from a quorum whose children do not "
    "agree; or a paused mirror is told to stop that has something left to copy, which 5.2 goes on "
    "with for a moment.",
    source="our own: which piece arrives first depends on timing",
)

DATA = 1
"""There are bytes to be read."""
ZERO = 2
"""The bytes read as zeroes."""
ALLOCATED = 4
"""The bytes are this node's own, or that of the node where the question ended."""
END = 8
"""Here the node ends."""


class Question(IntEnum):
    """What is asked of a node: where anything is allocated, where it reads as zeroes, or both."""

    ALLOCATION = 0
    ZEROES = 1
    ALL = 2


Status = tuple[int, int]
"""Up to where an answer goes, and a sum of the flags above."""


def status(t: Transition, name: str, start: int, end: int, *, asked: Question) -> Status:
    """What a node alone says of the bytes from ``start`` on.

    A file takes all of itself for data where no more is ``asked`` than what is allocated.
    """
    spend(t)
    node = t.nodes[name]
    length = length_of(t, name)
    if start >= length:
        return start, END
    end = min(end, length)
    shift = _shift(node)
    if shift is not None:
        driver_of(node.driver).follow(t, node, opening=True)
        below = primary_child(t, name)
        reached, flags = status(t, below, start + shift, end + shift, asked=asked)
        reached -= shift
    else:
        reached, flags = _own(t, node, start, end, asked=asked)
        if flags & (DATA | ZERO):
            flags |= ALLOCATED
        elif driver_of(node.driver).supports_backing:
            flags |= _nothing_below(t, node, start, asked=asked)
    flags &= ~END
    return reached, flags | (END if reached == length else 0)


def _shift(node: Node) -> int | None:
    """How far the bytes of the child that says it all are moved, None if there is none."""
    if node.driver == "raw":
        offset: int = node.private.offset
        return offset
    return 0 if driver_of(node.driver).is_filter else None


def _nothing_below(t: Transition, node: Node, start: int, *, asked: Question) -> int:
    """What the image itself has not, reads as zeroes where no backing file has it."""
    backing = node.link("backing")
    if backing is None:
        return ZERO
    return ZERO if asked and start >= length_of(t, backing.child) else 0


def _own(t: Transition, node: Node, start: int, end: int, *, asked: Question) -> Status:
    if node.driver == "qcow2":
        image = image_of(t, node)
        if image is not None:
            reached, kind = _in_clusters(node, image, start, end)
            spend(t, 0, entries=(reached - start) // CLUSTER if kind else 0)
            return reached, kind
    elif node.driver == "quorum" and t.ev.holds(QUORUM_STATUS):
        return _of_children(t, node, start, end, asked=asked)
    elif node.driver == "file":
        return _of_file(t, node, start, end, asked=asked)
    elif not node.children:
        return end, ZERO if node.options.get("read-zeroes") in (True, "on") else 0
    return end, DATA


def _in_clusters(node: Node, image: Image, start: int, end: int) -> Status:
    """The clusters of one kind in a row, as far as one part of an L2 table knows of them.

    Data lie in a row in the file, too.
    """
    known = node.private.l2_entry // 8 * CLUSTER
    end = min(end, (start // known + 1) * known)
    first = start // CLUSTER
    kind, place = _kind(image, first), image.data.get(first)
    at = first + 1
    if not kind and place is None:
        at = max(at, _nothing_to(image, first, end))
    while at * CLUSTER < end and _kind(image, at) == kind:
        # Those that lie in the file do so in a row.
        if image.data.get(at) != (None if place is None else place + at - first):
            break
        at += 1
    return min(at * CLUSTER, end), kind


def _nothing_to(image: Image, first: int, end: int) -> int:
    """Up to which cluster an image has nothing from the ``first`` on; ``end`` is in bytes."""
    data = clip(image.extents, first * CLUSTER, end)[:1]
    last = data[0][0] // CLUSTER if data else -(-end // CLUSTER)
    return min(held_among(image, range(first, last)), default=last)


def _kind(image: Image, index: int) -> int:
    first, last = index * CLUSTER, (index + 1) * CLUSTER
    if not clip(image.extents, first, last):
        return 0
    return DATA if index in image.data and index not in image.zeroed else ZERO


def _of_file(t: Transition, node: Node, start: int, end: int, *, asked: Question) -> Status:
    """What the host says, unless that was asked before: QEMU remembers where there are data."""
    state: FileState = node.private
    if state.data[0] <= start < state.data[1]:
        return min(state.data[1], end), DATA
    image = t.images.get(node.filename)
    if not asked or image is None or image.format != "raw":
        return end, DATA
    if image.room:
        t.ev.meet(UNSURE)
    spend(t, 0, entries=len(image.extents))
    reached, flags = _in_file(image, start, length_of(t, node.name))
    forgotten = asked is Question.ZEROES and t.ev.holds(ZEROES_FORGOTTEN)
    if flags & DATA and not forgotten and t.ev.holds(REMEMBERED):
        first = start // state.alignment * state.alignment
        t.change(node.name, private=attrs.evolve(state, data=(first, reached)))
    return min(reached, end), flags


def forget(t: Transition, name: str, start: int, end: int) -> None:
    """Zeroes are written to a file as such, or a part is discarded: it is asked for anew."""
    state: FileState = t.nodes[name].private
    if start < state.data[1] and state.data[0] < end:
        t.change(name, private=attrs.evolve(state, data=(0, 0)))


def _in_file(image: Image, start: int, end: int) -> Status:
    """Data where anything was written to a block of the host's file system, else a hole."""
    for s, e, _ in image.extents:
        first, last = aligned(s, e, BLOCK)
        if last <= start:
            continue
        if first > start:
            return min(first, end), ZERO
        return _data_end(image, last, end), DATA
    return end, ZERO


def _data_end(image: Image, reached: int, end: int) -> int:
    for s, e, _ in image.extents:
        first, last = aligned(s, e, BLOCK)
        if first <= reached < last:
            reached = last
    return min(reached, end)


def _of_children(t: Transition, node: Node, start: int, end: int, *, asked: Question) -> Status:
    """The children of a quorum may not agree: then it is data, as far as any of them says so."""
    quorum: QuorumState = node.private
    zero, data = end, start
    for member in quorum.members:
        link = node.link(member)
        if link is None:
            continue
        reached, flags = status_above(t, link.child, None, start, end, asked=asked)
        if flags & ZERO:
            zero = min(zero, reached)
        else:
            data = max(data, reached)
    return (data, DATA) if data > start else (zero, ZERO)


def status_above(
    t: Transition,
    top: str,
    base: str | None,
    start: int,
    end: int,
    *,
    asked: Question = Question.ALL,
    include_base: bool = False,
) -> Status:
    """What the nodes from ``top`` down to ``base`` say together.

    Without a ``base`` the whole chain is asked.
    """
    if top == base and not include_base:
        return end, 0
    reached, flags = status(t, top, start, end, asked=asked)
    if reached == start or flags & ALLOCATED or top == base:
        return reached, flags
    bound = reached if flags & END else None
    name: str | None = top
    while True:
        link = link_below(t, name) if name is not None else None
        name = None if link is None else link.child
        if name is None or (name == base and not include_base):
            break
        end = reached
        reached, flags = status(t, name, start, end, asked=asked)
        if reached == start:
            # What lies behind the end of this node reads as zeroes, as if they were its own.
            reached, flags = end, ZERO | ALLOCATED
            break
        flags &= ~END if flags & ALLOCATED else ~0
        if flags & ALLOCATED or name == base:
            break
    return reached, flags | (END if reached == bound else 0)


def allocated_above(t: Transition, top: str, base: str | None, start: int, end: int) -> Status:
    """Up to where, and whether, something lies between ``top`` and ``base``, that included.

    Without a ``base`` the whole chain is asked.
    """
    reached, flags = status_above(
        t, top, base, start, end, asked=Question.ALLOCATION, include_base=base is not None
    )
    return reached, flags & ALLOCATED


def nothing_to(t: Transition, names: Iterable[str], start: int, end: int) -> int:
    """Up to where none of the nodes of a chain has anything from ``start`` on, or just ``start``.

    That is a place where questions that are asked one after the other end, too: between parts of
    L2 tables. Nodes other than images and filters may have something anywhere.
    """
    known = CLUSTER
    for name in names:
        node = t.nodes[name]
        length = length_of(t, name)
        image = image_of(t, node) if node.driver == "qcow2" else None
        if image is not None:
            known = max(known, node.private.l2_entry // 8 * CLUSTER)
            length = min(length, _nothing_to(image, start // CLUSTER, length) * CLUSTER)
        elif not driver_of(node.driver).is_filter:
            return start
        end = min(end, length)
    return max(start, end // known * known)


def is_zero(t: Transition, name: str, start: int, end: int) -> bool:
    """Whether a range, perhaps an empty one, is known to read as zeroes."""
    while start < end:
        reached, flags = status_above(t, name, None, start, end, asked=Question.ZEROES)
        if not flags & ZERO or reached == start:
            return False
        start = reached
    return True


def is_zero_at_once(t: Transition, name: str, start: int, end: int) -> bool:
    """Whether a range, perhaps an empty one, is known to read as zeroes without a look at files."""
    if start >= end:
        return True
    reached, flags = status_above(t, name, None, start, end, asked=Question.ALLOCATION)
    return reached == end and bool(flags & ZERO)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving a node another length, as a client's block_resize and jobs do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.data.block_status import RACE
from model.data.image_access import FOREIGN_FILE, UNALIGNED, image_of, readable
from model.data.length import grown, tell_above
from model.data.requests import remember
from model.graph import dirty_bitmaps
from model.graph.driver import driver_of, sectors
from model.graph.traversal import driver_at, length_of, primary_child, primary_length
from model.release.rules import Refusal, guard, hazard
from model.values import image_layout

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.private import Qcow2State
    from model.values.state import Image, Node

RESIZE_MAXIMUM = guard(
    "resize.maximum",
    "A size fits QEMU's limit.",
    source="7.2",
    text="offset({size}) exceeds maximum({maximum})",
)
RESIZE_READ_ONLY = guard(
    "resize.read-only",
    "A read-only node is not resized.",
    source="7.2",
    text="Image is read-only",
)
RESIZE_UNSUPPORTED = guard(
    "resize.unsupported",
    "Not every driver can resize.",
    source="7.2",
    text="Image format driver does not support resize",
)
RESIZE_DEVICE = guard(
    "resize.device",
    "A device file does not grow.",
    source="5.2; 7.2 takes no devices",
    text="Cannot grow device files",
)
RESIZE_FIXED = guard(
    "resize.raw-fixed",
    "A raw node with a size of its own is not resized.",
    source="7.2",
    text="Cannot resize fixed-size raw disks",
)
RESIZE_OFFSET = guard(
    "resize.raw-offset",
    "Window and offset of a raw node fit 63 bits.",
    source="7.2",
    text="Disk size too large for the chosen offset",
)
RESIZE_SECTORS = guard(
    "resize.qcow2-sectors",
    "The size of a qcow2 image is a multiple of 512.",
    source="7.2",
    text="The new size must be a multiple of 512",
)
BLKVERIFY_LENGTH = hazard(
    "hazard.blkverify-resize",
    "A blkverify node is resized while its two images differ in size, or come to.",
    source="7.2 takes the one's size for the other's and ends with an unexpected error",
)
RESIZE_L1 = guard(
    "resize.qcow2-l1",
    "The L1 table of a qcow2 image takes at most 32 MiB.",
    source="7.2",
    text="Failed to grow the L1 table: File too large",
)
RESIZE_FILE = guard(
    "resize.file-limit",
    "No file is as long as the greatest numbers are.",
    source="5.2; later, QEMU's own limit comes first",
    text="Could not resize file: File too large",
)
_INT64_MAX = (1 << 63) - 1
_INVALID = frozenset({RESIZE_OFFSET.id, RESIZE_SECTORS.id})
"""The rules that call the size itself invalid."""
_SURPLUS = "preallocate-filter: failed to drop write-zero preallocation: "


def truncate(t: Transition, name: str, size: int) -> None:
    """Make a node ``size`` bytes long, down to its file; who may do so is not asked.

    Raises :class:`Refusal`.
    """
    _truncate(t, name, size)
    tell_above(t, name)
    dirty_bitmaps.truncated(t, name)


def _truncate(t: Transition, name: str, size: int) -> None:
    ev = t.ev
    node = t.nodes[name]
    ev.check(
        RESIZE_MAXIMUM, size <= image_layout.MAX_LENGTH, size=size, maximum=image_layout.MAX_LENGTH
    )
    ev.check(RESIZE_READ_ONLY, not node.read_only)
    driver = driver_of(node.driver)
    if driver.is_filter:
        if driver.name == "blkverify" and driver.measure(t, node) != primary_length(t, node):
            ev.meet(BLKVERIFY_LENGTH)
        _truncate_child(t, name, size)
        driver.truncated(t, t.nodes[name], size)
        length = driver.measure(t, t.nodes[name])
        # Who cannot say how long it is, is taken for as many whole sectors as were asked for.
        t.change(name, size=length if driver.hears_of_length else size // 512 * 512)
        if driver.name == "blkverify" and t.nodes[name].size != sectors(size):
            ev.meet(BLKVERIFY_LENGTH)
        return
    if driver.name == "raw":
        ev.check(RESIZE_FIXED, node.private.size is None)
        ev.check(RESIZE_OFFSET, _INT64_MAX - size >= node.private.offset)
        truncate(t, primary_child(t, name), size + node.private.offset)
        t.change(name, size=driver.measure(t, t.nodes[name]))
        return
    if driver.name == "qcow2":
        ev.check(RESIZE_SECTORS, size % 512 == 0)
        image = image_of(t, node)
        if image is None:
            ev.meet(FOREIGN_FILE)
        else:
            _resize_image(t, node, image, size)
        t.change(name, size=size)
        return
    ev.check(RESIZE_UNSUPPORTED, driver.name == "file")
    ev.check(RESIZE_FILE, size <= image_layout.MAX_LENGTH)
    image = t.images.get(node.filename)
    if image is None:
        # A device: it is no image, and as long as it was.
        ev.check(RESIZE_DEVICE, size == 0)
        return
    if image.format == "qcow2" and size < min(image.length, image.clusters * image_layout.CLUSTER):
        ev.meet(FOREIGN_FILE)
    t.images[node.filename] = image_layout.truncated(image, size)
    t.change(name, size=sectors(size))


def _truncate_child(t: Transition, name: str, size: int) -> None:
    """Give the child of a filter another length, in one step or two."""
    driver, child = driver_at(t, name), primary_child(t, name)
    first = driver.surplus(t, t.nodes[name], size)
    if first is not None:
        try:
            truncate(t, child, first)
        except Refusal as refusal:
            raise refusal.prefixed(_SURPLUS) from None
    try:
        truncate(t, child, size)
    except Refusal as refusal:
        driver.not_truncated(t, t.nodes[name], invalid=refusal.rule.id in _INVALID)
        raise


def _resize_image(t: Transition, node: Node, image: Image, size: int) -> None:
    """Resize a qcow2 image, whose node had another size before.

    When it shrinks, what lies behind its last cluster is cut off. When it grows, a
    backing file that is longer than it was must not show in the new part.
    """
    file = primary_child(t, node.name)
    if not readable(t, file):
        t.ev.meet(UNALIGNED)
    known: Qcow2State = node.private
    image = attrs.evolve(
        image,
        size=node.size,
        l1_entries=known.l1_entries,
        l2_tables=known.l2_tables,
        search=known.search,
    )
    try:
        after, written = image_layout.resized(image, size)
    except image_layout.ImageError:
        t.ev.refuse(RESIZE_L1)
        return
    t.ev.accepted.add(RESIZE_L1.id)
    if after.unsure:
        t.ev.meet(RACE)
    backing = node.link("backing")
    if backing is not None and size > node.size and length_of(t, backing.child) > node.size:
        resized = after
        after = image_layout.zeroed(resized, node.size, size)
        written = max(written, image_layout.written_end(resized, after))
    remember(t, node.name, after)
    end = after.clusters * image_layout.CLUSTER
    if written:
        first = written - image_layout.CLUSTER + known.l2_entry
        grown(t, file, written, zeroes=True, first=first)
    if size < node.size and end < length_of(t, file):
        try:
            truncate(t, file, end)
        except Refusal as refusal:
            # QEMU warns and goes on: the tail does no harm.
            t.ev.refused.discard(refusal.rule.id)

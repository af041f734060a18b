# SPDX-License-Identifier: GPL-2.0-or-later
"""block_resize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model import images
from model.blockers import blocked
from model.drivers import driver_of
from model.drivers.base import sectors
from model.drivers.formats import FOREIGN_FILE, Qcow2State
from model.lengths import content, grown, look_again
from model.opening import MAX_LENGTH, NO_NODE
from model.permissions import ALL, Permissions, User
from model.refreshing import loosen, refresh
from model.rules import Refusal, guard, hazard
from model.state import Image, Node, Perm

if TYPE_CHECKING:
    from model.graph import Transition

RESIZE_NEGATIVE = guard(
    "resize.negative",
    "A size is not negative.",
    source="7.2",
    text="Parameter 'size' expects a >0 size",
)
RESIZE_BUSY = guard(
    "resize.busy",
    "A backing file is busy: it is not resized.",
    source="7.2; the message prints a device name that nobody gave",
    text="Device '{device}' is in use",
)
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
_INT64_MAX = (1 << 63) - 1


def block_resize(t: Transition, arguments: dict[str, Any]) -> None:
    """Give a node another size, in bytes."""
    ev = t.ev
    name, size = arguments.get("node-name", ""), arguments["size"]
    device = arguments.get("device", "")
    ev.check(NO_NODE, name in t.nodes, device=device, node=name)
    ev.check(RESIZE_NEGATIVE, size >= 0)
    given = arguments.get("device", "(null)")
    ev.check(RESIZE_BUSY, not blocked(t, name, "resize"), device=given)
    user = User("an unnamed block device", "root", name, Perm.RESIZE, ALL)
    refresh(t, [name], user=user)
    try:
        _truncate(t, name, size)
    finally:
        loosen(t, name, Permissions(dict(t.nodes), {}, user))
    look_again(t)


def _truncate(t: Transition, name: str, size: int) -> None:
    ev = t.ev
    node = t.nodes[name]
    ev.check(RESIZE_MAXIMUM, size <= MAX_LENGTH, size=size, maximum=MAX_LENGTH)
    ev.check(RESIZE_READ_ONLY, not node.read_only)
    driver = driver_of(node.driver)
    if driver.is_filter:
        if driver.name == "blkverify" and driver.measure(t, node) != t.primary_length(node):
            ev.meet(BLKVERIFY_LENGTH)
        _truncate(t, t.primary_child(name), size)
        driver.truncated(t, node, size)
        if not driver.variable_length:
            t.change(name, size=driver.measure(t, t.nodes[name]))
        if driver.name == "blkverify" and t.nodes[name].size != sectors(size):
            ev.meet(BLKVERIFY_LENGTH)
        return
    if driver.name == "raw":
        ev.check(RESIZE_FIXED, node.private.size is None)
        ev.check(RESIZE_OFFSET, _INT64_MAX - size >= node.private.offset)
        _truncate(t, t.primary_child(name), size + node.private.offset)
        return
    if driver.name == "qcow2":
        ev.check(RESIZE_SECTORS, size % 512 == 0)
        file = t.primary_child(name)
        image = content(t, file)
        if image is not None and image.format == "qcow2" and _holds(t, file, image):
            _resize_image(t, node, image, size)
        else:
            ev.meet(FOREIGN_FILE)
        t.change(name, size=size)
        return
    ev.check(RESIZE_UNSUPPORTED, driver.name == "file")
    image = t.images[node.filename]
    if image.format == "qcow2" and size < min(image.length, image.clusters * images.CLUSTER):
        ev.meet(FOREIGN_FILE)
    t.images[node.filename] = images.truncated(image, size)
    t.change(name, size=sectors(size))


def _holds(t: Transition, file: str, image: Image) -> bool:
    """Whether a node shows all of an image's clusters, the last one at least in part."""
    return t.length(file) > min(image.length - 1, (image.clusters - 1) * images.CLUSTER)


def _resize_image(t: Transition, node: Node, image: Image, size: int) -> None:
    """Resize a qcow2 image, whose node had another size before.

    When it shrinks, what lies behind its last cluster is cut off. When it grows, a
    backing file that is longer than it was must not show in the new part.
    """
    file = t.primary_child(node.name)
    known: Qcow2State = node.private
    image = attrs.evolve(
        image, size=node.size, l1_entries=known.l1_entries, l2_tables=known.l2_tables
    )
    try:
        after, written = images.resized(image, size)
    except images.ImageError:
        t.ev.refuse(RESIZE_L1)
        return
    t.ev.accepted.add(RESIZE_L1.id)
    t.images[image.name] = after
    backing = node.link("backing")
    if backing is not None and size > node.size and t.length(backing.child) > node.size:
        resized = after
        after = t.images[image.name] = images.zeroed(resized, node.size, size)
        written = max(written, images.written_end(resized, after))
    t.change(
        node.name,
        private=attrs.evolve(node.private, l1_entries=after.l1_entries, l2_tables=after.l2_tables),
    )
    end = after.clusters * images.CLUSTER
    if written:
        first = written - images.CLUSTER + known.l2_entry
        grown(t, file, written, zeroes=True, first=first)
    if size < node.size and end < t.length(file):
        try:
            _truncate(t, file, end)
        except Refusal as refusal:
            # QEMU warns and goes on: the tail does no harm.
            t.ev.refused.discard(refusal.rule.id)

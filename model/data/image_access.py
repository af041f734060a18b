# SPDX-License-Identifier: GPL-2.0-or-later
"""Which image file a node shows, and whether what it shows is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import driver_of
from model.graph.traversal import length_of, primary_child
from model.release.rules import hazard
from model.values.image_layout import CLUSTER, UNKNOWN, clip

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.private import Qcow2State
    from model.values.state import Image, Node

FOREIGN_FILE = hazard(
    "hazard.qcow2-file",
    "A qcow2 node was to get another file when the transaction failed; or it has one that holds "
    "another image, or not all of its own, or did when it was opened, and is read, written or "
    "resized; or the file is cut off where its tables are.",
    source="7.2 looks at neither file nor link: it goes on with a link that was taken back, or "
    "with tables that are not there, finds the image corrupt, and ends at the next reopen",
)


UNFLUSHED = hazard(
    "hazard.two-writers",
    "An image is read or written through a node while another node, which does not lock it either, "
    "has written to it.",
    source="our own: each has tables in a cache of its own, and nobody tells when it is written "
    "down or read again",
)


UNKNOWN_BYTES = hazard(
    "hazard.unknown-bytes",
    "Bytes are read or written of which the spec knows nothing: by a job, those inside of an image "
    "file, what the children of a quorum do not agree on, what is written compressed, or, where it "
    "matters if they are zero, those of a null node that need not read so; by anybody, those of an "
    "image whose file shows something else.",
    source="our own",
)


def content(t: Transition, name: str) -> Image | None:
    """The image file whose bytes a node shows unchanged from the beginning, if any."""
    node = t.nodes[name]
    driver = driver_of(node.driver)
    if node.filename:
        return t.images.get(node.filename)
    if driver.can_add_child:
        seen = {content(t, link.child) for link in node.children}
        return seen.pop() if len(seen) == 1 else None
    primary = driver.primary(node)
    if primary is None or not driver.passes_through(node):
        return None
    return content(t, primary.child)


def read_header(t: Transition, name: str) -> None:
    """A node is read from to open what lies above it: whoever is asked on the way may mind."""
    stack = [name]
    while stack:
        node = t.nodes[stack.pop()]
        driver_of(node.driver).follow(t, node, opening=True)
        stack.extend(link.child for link in node.children)


def shows_all(t: Transition, file: str, image: Image) -> bool:
    """Whether a node shows all of an image's clusters, the last one at least in part."""
    return length_of(t, file) > min(image.length - 1, (image.clusters - 1) * CLUSTER)


def image_of(t: Transition, node: Node) -> Image | None:
    """The qcow2 image that a qcow2 node works on, if its file shows one."""
    file = primary_child(t, node.name)
    image = content(t, file)
    if image is None or image.format != "qcow2":
        t.ev.meet(UNKNOWN_BYTES)
        return None
    state: Qcow2State | None = node.private
    opened = state is None or state.image == image.name
    if not opened or not shows_all(t, file, image):
        t.ev.meet(FOREIGN_FILE)
    check_alone(t, node, image)
    return image


def check_alone(t: Transition, node: Node, image: Image) -> None:
    """Notice that another node has written to an image that a node is about to use."""
    if any(_has_written(x, image.name) for x in t.nodes.values() if x.name != node.name):
        t.ev.meet(UNFLUSHED)


def _has_written(node: Node, image: str) -> bool:
    state: Qcow2State | None = node.private if node.driver == "qcow2" else None
    return state is not None and state.written and state.image == image


UNALIGNED = hazard(
    "hazard.unaligned",
    "Somebody writes to a file, or reads a part of a sector of it, that is open directly though "
    "its node does not know: 5.2 does not notice a reopen that opens it so, and later releases "
    "not one after which it stays so (file.forgets-access).",
    source="5.2 to 11.1 make requests of any size there, and the host refuses the small ones",
)


def readable(t: Transition, name: str) -> bool:
    """Whether small reads through a node succeed."""
    node = t.nodes[name]
    driver = driver_of(node.driver)
    if driver.reads_badly(node):
        return False
    if not length_of(t, name):
        # What lies behind the end is not asked for.
        return True
    primary = driver.primary(node)
    return primary is None or readable(t, primary.child)


_HEADER = 112
"""How many bytes QEMU reads to see whether an image is a qcow2 one."""


def _beginning(t: Transition, name: str) -> tuple[object, ...]:
    """What tells the first bytes of a node from those of another; () where they are zeroes."""
    image = content(t, name)
    if image is None:
        return ()
    if image.format == "raw":
        first = bytearray(_HEADER)
        for start, end, value in clip(image.extents, 0, _HEADER):
            if value == UNKNOWN:
                t.ev.meet(UNKNOWN_BYTES)
            else:
                first[start:end] = bytes([value]) * (end - start)
        return (bytes(first),) if any(first) else ()
    return (image.format, image.size, image.l1_first, image.backing, image.backing_format)


def verified(t: Transition, name: str) -> bool:
    """Whether every blkverify that a read from the beginning goes through is content."""
    node = t.nodes[name]
    test = node.link("test")
    primary = driver_of(node.driver).primary(node)
    if primary is None:
        return True
    if test is not None and _beginning(t, primary.child) != _beginning(t, test.child):
        return False
    return verified(t, primary.child)

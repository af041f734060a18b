# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a node's bytes come from, and how far they reach when files grow and shrink."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph.driver import ALWAYS_LOOKS, driver_of, sectors
from model.graph.traversal import length_of, primary_child
from model.release.rules import effect, hazard
from model.values.image_layout import CLUSTER, UNKNOWN, clip
from model.values.state import Role, Use

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

TELLS_FILTERS = effect(
    "length.tells-filters",
    "A node that gets another length tells the filters above it.",
    source="11.1",
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


def grown(t: Transition, name: str, length: int, *, zeroes: bool, first: int | None = None) -> None:
    """Data was written up to ``length``: the nodes on the way down to the files notice.

    ``first`` is where the first of several writes ended. Zeroes, as new tables are, do not make the
    file longer where they are to be detected and unmapped.
    """
    _grow(t, name, length, first, zeroes=zeroes, unmapped=False)


def detects_zeroes(t: Transition, name: str) -> bool:
    """Whether a node, or one that it writes to, looks for zeroes and unmaps them."""
    node = t.nodes[name]
    below = driver_of(node.driver).written(node) if node.children else []
    return node.detect_zeroes == "unmap" or any(detects_zeroes(t, child) for child in below)


def flush(t: Transition, name: str) -> None:
    """A node, and those that it writes to, write down what they keep in a cache."""
    node = t.nodes[name]
    driver = driver_of(node.driver)
    driver.flush(t, node)
    if node.children:
        for child in driver.written(node):
            flush(t, child)


def _grow(
    t: Transition, name: str, length: int, first: int | None, *, zeroes: bool, unmapped: bool
) -> None:
    node = t.nodes[name]
    driver = driver_of(node.driver)
    unmapped = unmapped or (zeroes and node.detect_zeroes == "unmap")
    alignment = driver.alignment(t, node)
    length = -(-length // alignment) * alignment
    if node.filename and not unmapped:
        image = t.images[node.filename]
        t.images[image.name] = attrs.evolve(image, length=max(image.length, length))
    if node.size < length:
        t.change(name, size=sectors(length))
        tell_above(t, name)
    reached = driver.grow(t, node, length, first or length) if node.children else length
    if reached != length:
        # What is preallocated is written for good, whatever was to become of the zeroes.
        length, first, zeroes, unmapped = reached, None, False, False
    for child in driver.written(node):
        _grow(t, child, length, first, zeroes=zeroes, unmapped=unmapped)


def cut(t: Transition, name: str, length: int) -> None:
    """What lies behind ``length`` in a file is given back, and the nodes above notice."""
    done: list[str] = []
    while True:
        node = t.nodes[name]
        t.change(name, size=sectors(length))
        primary = driver_of(node.driver).primary(node)
        done.append(name)
        if primary is None:
            break
        name = primary.child
    for each in reversed(done):
        tell_above(t, each)
    if node.filename:
        image = t.images[node.filename]
        t.images[image.name] = attrs.evolve(image, length=length)


def tell_above(t: Transition, name: str) -> None:
    """A node may have got another length: all filters above look at theirs again.

    They do so even where a filter in between keeps its length, such as a raw node's window.
    """
    if not t.ev.holds(TELLS_FILTERS):
        return
    for key in t.nodes[name].parents:
        if isinstance(key, Use):
            continue
        parent = t.nodes[key[0]]
        driver = driver_of(parent.driver)
        link = parent.link(key[1])
        if link is None or not link.role & Role.FILTERED or not driver.hears_of_length:
            continue
        private = driver.shortened(t, parent)
        t.change(parent.name, size=sectors(driver.measure(t, parent)), private=private)
        tell_above(t, parent.name)


def can_cut(t: Transition, name: str) -> bool:
    """Whether a node can be made shorter, down to its file."""
    while True:
        node = t.nodes[name]
        driver = driver_of(node.driver)
        if node.read_only or not driver.can_resize(node):
            return False
        primary = driver.primary(node)
        if primary is None:
            return True
        name = primary.child


def look_again(t: Transition) -> None:
    """A raw node whose file has become too short for its window keeps the shorter window."""
    if not t.ev.holds(ALWAYS_LOOKS):
        return
    for node in list(t.nodes.values()):
        driver = driver_of(node.driver)
        private = driver.shortened(t, node)
        if private is not node.private:
            t.change(node.name, private=private)


def cluster_size(t: Transition, name: str) -> int | None:
    """Bytes per cluster; 0 where a node knows but has none, None where nobody knows."""
    node = _who_knows_clusters(t, name)
    return None if node is None else driver_of(node.driver).cluster_size(node)


def is_dirty(t: Transition, name: str) -> bool:
    """Whether the image that knows of clusters has refcounts that are not written down."""
    node = _who_knows_clusters(t, name)
    return node is not None and driver_of(node.driver).is_dirty(node)


def _who_knows_clusters(t: Transition, name: str) -> Node | None:
    """The node that answers for a node's clusters, itself or one below."""
    while True:
        node = t.nodes[name]
        driver = driver_of(node.driver)
        if driver.cluster_size(node) is not None:
            return node
        primary = driver.primary(node)
        if primary is None or not driver.asks_below:
            return None
        name = primary.child

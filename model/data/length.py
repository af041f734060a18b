# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a node's bytes come from, and how far they reach when files grow and shrink."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph.driver import ALWAYS_LOOKS, driver_of, sectors
from model.release.rules import effect
from model.values.state import Role, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Node


TELLS_FILTERS = effect(
    "length.tells-filters",
    "A node that gets another length tells the filters above it.",
    source="11.1",
)


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

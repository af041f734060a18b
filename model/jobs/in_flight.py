# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies that are under way at the same time.

Mirrors and backups read and write many pieces at once, and which of them arrives first is a
matter of timing. Mostly it does not show: the same clusters are taken in the end. Where it does,
nobody can say what to expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.data.block_status import RACE
from model.data.copy import copy
from model.data.image_access import content
from model.data.requests import heard
from model.graph.driver import driver_of
from model.graph.traversal import primary_child
from model.values.state import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph.transition import Transition
    from model.values.state import Node


class _Side:
    """The images that the copies of a race write to: below its target, or on the way of a read."""

    __slots__ = ("_before", "_free", "_images", "_preallocates", "_t", "freed", "holes", "sizes")

    def __init__(self, t: Transition, nodes: list[Node]) -> None:
        self._t = t
        self._images = _images(t, nodes)
        self._preallocates = any(node.driver == "preallocate" for node in nodes)
        self._free = self._holes_now()
        self._before = 0
        self.sizes: list[int] = []
        self.holes = False
        self.freed = False

    def begin(self) -> None:
        """A request is about to be made."""
        self._before = self._taken()
        now = self._holes_now()
        self.holes |= bool(now)
        self.freed |= bool(now - self._free)

    def end(self) -> None:
        """It has arrived: note how many clusters it took."""
        self.sizes.append(self._taken() - self._before)

    @property
    def several(self) -> bool:
        """Whether more than one request took clusters."""
        return sum(size > 0 for size in self.sizes) > 1

    @property
    def large(self) -> bool:
        """Whether one request took several clusters."""
        return max(self.sizes, default=0) > 1

    def shows(self, batches: int) -> bool:
        """Whether the order of the requests shows in the clusters that they took or in the file."""
        # Zeroes need not be read before they are written: what they free may be taken by any copy.
        self.freed |= bool(self._holes_now() - self._free)
        return bool(
            (any(self.sizes) and self.freed)
            or ((self.several or self.large) and self._preallocates)
            or (self.several and self.holes and (batches > 1 or self.large))
        )

    def scatter(self) -> None:
        """Remember that it is luck where the clusters lie, if it is."""
        if self.several:
            for name in self._images:
                self._t.images[name] = attrs.evolve(self._t.images[name], scattered=True)

    def _holes_now(self) -> set[tuple[str, int]]:
        return {(name, index) for name in self._images for index in self._t.images[name].free}

    def _taken(self) -> int:
        images = [self._t.images[name] for name in self._images]
        return sum(len(image.data) + len(image.l2_tables) for image in images)


class Race:
    """The copies that a job makes into one target between two moments of rest."""

    __slots__ = ("_batches", "_detects", "_events", "_guess", "_sides", "_t")

    def __init__(self, t: Transition, source: str, target: str) -> None:
        self._t = t
        nodes = list(_below(t, target, backing=False))
        # What is read through a copy-on-read filter is written, too: to the image below it.
        copying = {
            below.name: below
            for node in _below(t, source, backing=True)
            if node.driver == "copy-on-read"
            for below in _below(t, node.name, backing=False)
        }
        self._sides = _Side(t, nodes), _Side(t, list(copying.values()))
        self._detects = any(node.detect_zeroes != "off" for node in nodes)
        # How the source is split into requests depends on where its data lie.
        self._guess = scattered(t, source)
        self._events = len(t.events)
        self._batches = 0

    def batch(self) -> None:
        """What comes now is begun when some of what came before may have arrived."""
        self._batches += 1

    def copy(self, source: str, target: str, start: int, end: int) -> None:
        """Copy a range from one node to another in one request, as :func:`model.data.copy.copy`."""
        for side in self._sides:
            side.begin()
        copy(self._t, source, target, start, end)
        for side in self._sides:
            side.end()

    def settle(self) -> None:
        """All copies have arrived: notice if their order shows, or may do so later."""
        t = self._t
        written, _ = self._sides
        shown = [side.shows(self._batches) for side in self._sides]
        if (
            any(shown)
            or (self._guess and written.holes and written.large)
            or (self._guess and self._detects and written.sizes)
            or heard(t, self._events) > 1
        ):
            t.ev.meet(RACE)
        for side in self._sides:
            side.scatter()


def scattered(t: Transition, source: str) -> bool:
    """Whether it is luck how a node's data lie in its images, and so how they are split."""
    known = _images(t, list(_below(t, source, backing=True)))
    return any(t.images[name].scattered for name in known)


def _below(t: Transition, name: str, *, backing: bool) -> Iterator[Node]:
    """The nodes that requests to a node get to, with its backing files or without."""
    node = t.nodes[name]
    yield node
    is_filter = driver_of(node.driver).is_filter
    for link in node.children:
        if is_filter and link.name == "target":
            continue
        if backing or not link.role & Role.COW:
            yield from _below(t, link.child, backing=backing)


def _images(t: Transition, nodes: list[Node]) -> list[str]:
    """The qcow2 images of nodes."""
    found = (content(t, primary_child(t, node.name)) for node in nodes if node.driver == "qcow2")
    return [image.name for image in found if image is not None]

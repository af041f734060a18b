# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies that are under way at the same time.

Mirrors and backups read and write many pieces at once, and which of them arrives first is a
matter of luck. Mostly it does not show: the same clusters are taken in the end. Where it does,
nobody can say what to expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.block_status import RACE
from model.copying import copy
from model.drivers import driver_of
from model.guest import heard
from model.lengths import content
from model.state import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph import Transition
    from model.state import Node


class Race:
    """The copies that a job makes into one target between two moments of rest."""

    __slots__ = (
        "_batches",
        "_detects",
        "_events",
        "_free",
        "_freed",
        "_guess",
        "_holes",
        "_images",
        "_preallocates",
        "_sizes",
        "_t",
    )

    def __init__(self, t: Transition, source: str, target: str) -> None:
        self._t = t
        nodes = list(_below(t, target, backing=False))
        self._images = _images(t, nodes)
        self._preallocates = any(node.driver == "preallocate" for node in nodes)
        self._detects = any(node.detect_zeroes != "off" for node in nodes)
        # How the source is split into requests depends on where its data lie.
        self._guess = scattered(t, source)
        self._free = self._holes_now()
        self._events = len(t.events)
        self._sizes: list[int] = []
        self._batches = 0
        self._holes = False
        self._freed = False

    def batch(self) -> None:
        """What comes now is begun when some of what came before may have arrived."""
        self._batches += 1

    def copy(self, source: str, target: str, start: int, end: int) -> None:
        """Copy a range from one node to another in one request, as :func:`model.copying.copy`."""
        before = self._taken()
        holes = self._holes_now()
        self._holes |= bool(holes)
        self._freed |= bool(holes - self._free)
        copy(self._t, source, target, start, end)
        self._sizes.append(self._taken() - before)

    def _holes_now(self) -> set[tuple[str, int]]:
        return {(name, index) for name in self._images for index in self._t.images[name].free}

    def _taken(self) -> int:
        images = [self._t.images[name] for name in self._images]
        return sum(len(image.data) + len(image.l2_tables) for image in images)

    def settle(self) -> None:
        """All copies have arrived: notice if their order shows, or may do so later."""
        t = self._t
        # Zeroes need not be read before they are written: what they free may be taken by any copy.
        self._freed |= bool(self._holes_now() - self._free)
        taken = [size for size in self._sizes if size]
        several = len(taken) > 1
        large = max(taken, default=0) > 1
        if (
            (taken and self._freed)
            or ((several or large) and self._preallocates)
            or (several and self._holes and (self._batches > 1 or large))
            or (self._guess and ((self._holes and large) or (self._detects and self._sizes)))
            or heard(t, self._events) > 1
        ):
            t.ev.meet(RACE)
        if several:
            for name in self._images:
                t.images[name] = attrs.evolve(t.images[name], scattered=True)


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
    found = (content(t, t.primary_child(node.name)) for node in nodes if node.driver == "qcow2")
    return [image.name for image in found if image is not None]

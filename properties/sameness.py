# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two states are the same, but for what even a refused command may touch.

States are compared as they are. Nothing is computed by the spec for it: what a command may leave
behind is told from the two states alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from model.graph.request_limits import LIMITS
from model.values.image_layout import tables_end
from model.values.private import PreallocateState, Qcow2State
from model.values.state import NO_LIMITS
from properties.graph import below

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from model import BlockState, Dialect
    from model.values.state import Image, Node

_STRETCHES: Final = frozenset({"blkdebug", "preallocate"})
"""Drivers below which a file may become longer than what is written to it."""


def same_but_for_order(one: BlockState, other: BlockState, dialect: Dialect) -> bool:
    """Whether two states differ at most in what even a refused command may touch.

    That is: the order of links in the lists of their parent and child (a link that was
    moved and moved back is the newest), how many node names have been generated, the
    threads that nodes live in, how a file node's descriptor is really open, which 7.2 does
    not always know itself, what has been written down by now, of tables and lazy refcounts, and
    what is known by now: of permissions, of limits, and of the end of a file that could not be cut.
    """
    if list(one.nodes) != list(other.nodes):
        return False
    images, through = _written_down(one, other)
    forgets = dialect.has(LIMITS)
    return (
        one.objects == other.objects
        and _files(one.images, images) == _files(other.images, images)
        and _elsewhere(one) == _elsewhere(other)
        and one.jobs == other.jobs
        and one.exports == other.exports
        and one.nbd_server == other.nbd_server
        and all(
            mine is theirs
            or _plain(mine, mine.name in through, forgets)
            == _plain(theirs, theirs.name in through, forgets)
            for mine, theirs in zip(one.nodes.values(), other.nodes.values(), strict=True)
        )
    )


def _written_down(one: BlockState, other: BlockState) -> tuple[set[str], set[str]]:
    """Images whose tables one state still has in a cache, and the nodes below that cache.

    The file of such an image ends before its tables do. In the other state it reaches exactly to
    their end, or further where a node between makes it longer than what is written.
    """
    images: set[str] = set()
    through: set[str] = set()
    for node in (*one.nodes.values(), *other.nodes.values()):
        link = node.link("file")
        if not isinstance(node.private, Qcow2State) or not node.private.cached or link is None:
            continue
        path = below(one, [link.child])
        stretched = any(one.nodes[name].driver in _STRETCHES for name in path)
        for name in {one.nodes[each].filename for each in path}:
            image, theirs = one.images.get(name), other.images.get(name)
            if image is None or theirs is None:
                continue
            short, long = sorted((image.length, theirs.length))
            end = tables_end(image)
            if short < end and (long == end or (stretched and long > end)):
                images.add(name)
                through |= path
    return images, through


def _files(images: Mapping[str, Image], written: Collection[str]) -> dict[str, Image]:
    return {
        name: attrs.evolve(image, dirty=False, length=0 if name in written else image.length)
        for name, image in images.items()
    }


def _elsewhere(state: BlockState) -> dict[str, tuple[tuple[str, str], ...]]:
    return {key: tuple(sorted(user.links)) for key, user in state.users.items()}


def _plain(node: Node, written: bool, forgets_limits: bool) -> Node:
    private = None if node.driver == "file" else node.private
    if isinstance(private, Qcow2State):
        private = attrs.evolve(private, dirty=False, sweeping=False, cached=False)
    elif isinstance(private, PreallocateState):
        end = None if written else private.data_end
        private = attrs.evolve(private, data_end=end, file_end=None)
    links = (attrs.evolve(link, kept=None) for link in node.children)
    return attrs.evolve(
        node,
        context="",
        private=private,
        size=0 if written else node.size,
        limits=NO_LIMITS if forgets_limits else node.limits,
        children=tuple(sorted(links, key=lambda link: link.name)),
        parents=tuple(sorted(node.parents)),
    )

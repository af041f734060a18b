# SPDX-License-Identifier: GPL-2.0-or-later
"""What preallocate nodes have in store and know of their files, read from a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from model.graph.driver import driver_of
from model.permissions.grants import permissions
from model.values.private import PreallocateState
from model.values.state import FrozenDict, Perm, Role, Use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model import BlockState
    from model.values.state import Node

_SECTOR: Final = 512


def without_space(state: BlockState) -> BlockState:
    """The state if its preallocate nodes had nothing in store, and knew nothing of their files.

    A file ends where its data does, as far as all nodes on the way down can be made shorter.
    """
    nodes, images = dict(state.nodes), dict(state.images)
    for name, node in state.nodes.items():
        private = node.private
        if not isinstance(private, PreallocateState):
            continue
        path = _data_path(nodes, name)
        image = images.get(path[-1].filename) if path else None
        end = private.data_end
        fixed = any(each.read_only or not driver_of(each.driver).can_resize(each) for each in path)
        if (
            image is not None
            and end is not None
            and not fixed
            and end < (image.length if private.file_end is None else private.file_end)
        ):
            images[image.name] = attrs.evolve(image, length=end)
            size = -(-end // _SECTOR) * _SECTOR
            nodes.update((each.name, attrs.evolve(each, size=size)) for each in path)
        private = PreallocateState(private.align, private.size)
        nodes[name] = attrs.evolve(nodes[name], private=private)
    return attrs.evolve(state, nodes=FrozenDict(nodes), images=FrozenDict(images))


def without_ends(state: BlockState) -> BlockState:
    """The state without what preallocate nodes know of how far their files reach."""
    nodes = {
        name: attrs.evolve(node, private=attrs.evolve(node.private, data_end=None, file_end=None))
        if isinstance(node.private, PreallocateState)
        else node
        for name, node in state.nodes.items()
    }
    return attrs.evolve(state, nodes=FrozenDict(nodes))


def _data_path(nodes: Mapping[str, Node], name: str) -> list[Node]:
    """The nodes below one, down to where its data lies."""
    path: list[Node] = []
    link = nodes[name].link("file")
    while link is not None:
        node = nodes[link.child]
        path.append(node)
        link = next((each for each in node.children if each.role & Role.PRIMARY), None)
    return path


def gave_too_early(state: BlockState) -> Iterator[Node]:
    """The preallocate nodes that have given back space and rights, and have users that write."""
    for node, used in _preallocating(state):
        if used and node.private.data_end is None:
            yield node


def claims_in_vain(state: BlockState) -> Iterator[Node]:
    """The preallocate nodes that claim to be alone while nobody writes and resizes there."""
    for node, used in _preallocating(state):
        if not used and node.private.alone:
            yield node


def _preallocating(state: BlockState) -> Iterator[tuple[Node, bool]]:
    """The preallocate nodes, and whether their users together require to write and to resize."""
    nodes = [x for x in state.nodes.values() if isinstance(x.private, PreallocateState)]
    grants = permissions(state) if nodes else {}
    for node in nodes:
        required = 0
        for key in node.parents:
            required |= key.perm if isinstance(key, Use) else grants[key][0]
        yield node, bool(required & Perm.WRITE and required & Perm.RESIZE)

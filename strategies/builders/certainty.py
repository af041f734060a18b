# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace must not hold, because nobody knows what comes of it: the spec leaves bytes open.

Nobody knows what a null node without read-zeroes reads as, what an injected error leaves behind,
or what a node goes on showing of an image that was changed behind its back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.commands import guest
from model.graph.driver import as_bool
from model.graph.transition import Transition
from model.graph.traversal import length_of, primary_length
from model.release.rules import NotModelledError
from model.values.image_layout import ImageError
from model.values.private import RawState
from model.values.state import Role
from strategies.builders.guest_io import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from model.release.dialect import Dialect
    from model.values.state import BlockState, Node
    from model.values.trace import Command

_CAREFUL: Final = ("blkdebug", "blkverify", "copy-on-read", "quorum")
"""The drivers that do something else than hand on what is read."""


def below(state: BlockState, names: Iterable[str]) -> list[Node]:
    """These nodes and all that lie below them, each once."""
    found: dict[str, Node] = {}
    stack = list(names)
    while stack:
        name = stack.pop()
        node = state.nodes.get(name)
        if node is not None and name not in found:
            found[name] = node
            stack.extend(link.child for link in node.children)
    return list(found.values())


def certain(
    state: BlockState, names: Iterable[str], spoilt: Collection[str], dialect: Dialect
) -> bool:
    """Whether it is known what all of these nodes hold. ``spoilt`` are images' names."""
    nodes = below(state, names)
    if any(_unknown(node) or node.filename in spoilt for node in nodes):
        return False
    verified = [node for node in nodes if _verifies(node)]
    return not verified or _agree(state, verified, dialect)


def _verifies(node: Node) -> bool:
    """Whether QEMU ends where a node's children are not equal."""
    return node.driver == "blkverify" or (node.driver == "quorum" and node.private.blkverify)


def _unknown(node: Node) -> bool:
    if node.driver in ("null-co", "null-aio"):
        return not as_bool(node.options.get("read-zeroes"))
    return node.driver == "blkdebug" and any(key.startswith("inject-error") for key in node.options)


def _agree(state: BlockState, nodes: list[Node], dialect: Dialect) -> bool:
    """Whether children that must be equal are, where they are read one node after the other."""
    t = Transition(state, dialect.evaluation())
    try:
        for node in nodes:
            seen = [node.name, *(link.child for link in node.children)]
            guest.runs(t, node.name, 0, min(MOST_BYTES, *(length_of(t, name) for name in seen)))
    except (ImageError, NotModelledError):
        return False
    return True


def involved(before: BlockState, after: BlockState, command: Command) -> list[str]:
    """The nodes that a command may let jobs or guests get at: named in it, or held by a user."""
    names = [
        value
        for value in command.get("arguments", {}).values()
        if isinstance(value, str) and value in before.nodes
    ]
    for state in (before, after):
        for user in state.users.values():
            names += [node for _, node in user.links if node in before.nodes]
    return names


def looks(state: BlockState, command: Command) -> bool:
    """Whether a new disk looks at what nobody knows, and it matters what it finds there."""
    if command.get("execute") != "device_add":
        return False
    node = command.get("arguments", {}).get("drive")
    known = isinstance(node, str) and node in state.nodes
    return known and any(each.driver in _CAREFUL for each in below(state, [node]))


def doubly_open(state: BlockState, image: str) -> bool:
    """Whether several nodes have an image open."""
    opened = [node for node in state.nodes.values() if node.filename == image]
    return len(opened) > 1


def changed_behind(before: BlockState, after: BlockState) -> list[str]:
    """The images that a step has changed while several nodes had them open."""
    if before.images is after.images:
        return []
    return [
        name
        for name, image in after.images.items()
        if before.images.get(name) is not image and doubly_open(before, name)
    ]


def crossed(before: BlockState, after: BlockState, names: Iterable[str]) -> bool:
    """Whether a step has changed an image that lies below these nodes in two ways."""
    changed = changed_behind(before, after)
    opened = [node.filename for node in below(before, names)] if changed else []
    return any(opened.count(image) > 1 for image in changed)


def moderate(state: BlockState, command: Command, dialect: Dialect) -> bool:
    """Whether what a command that copies reads and writes of nodes is done in a moment."""
    arguments = command.get("arguments")
    if not isinstance(arguments, dict):
        return True
    names = [arguments.get(key) for key in ("device", "drive", "target", "node")]
    known = [name for name in names if isinstance(name, str) and name in state.nodes]
    t = Transition(state, dialect.evaluation())
    return all(length_of(t, name) <= MOST_BYTES for name in known) and all(
        _as_long_as_below(t, node) for node in below(state, known)
    )


def _as_long_as_below(t: Transition, node: Node) -> bool:
    """Whether a filter or window lies within what it shows; it may have missed a change."""
    if isinstance(node.private, RawState):
        end = length_of(t, node.name) + node.private.offset
        return end <= -(-primary_length(t, node) // 512) * 512
    return all(
        length_of(t, node.name) <= length_of(t, link.child)
        for link in node.children
        if link.role & Role.FILTERED or node.driver == "blkverify"
    )

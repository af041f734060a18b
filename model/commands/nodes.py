# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that change the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data.length import flush, look_again
from model.drivers import DRIVER_SCOPES
from model.edits.links import attach_child, drop_link, references, release, unset_inherits
from model.edits.restore import restore
from model.edits.users import replace_node
from model.graph.aio_contexts import MOVES_LOCKED, drain, locked
from model.graph.driver import driver_of
from model.graph.op_blockers import check_free
from model.graph.request_limits import take_limits
from model.graph.traversal import driver_at
from model.operations.chain_edits import beware_of_compress
from model.operations.node_options import GENERIC, GENERIC_OUTSIDE
from model.operations.open import NO_NODE, Opening
from model.operations.reopen import OMISSION_KEEPS, Reopening, keep_options
from model.permissions.grants import Permissions
from model.permissions.refresh import refresh
from model.release.rules import Refusal, effect, guard, hazard
from model.release.scope import takes
from model.values.qdict import flatten
from model.values.state import Perm, Role, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition

ROOT_NAME = guard(
    "add.node-name-missing",
    "A node that is added has a name.",
    source="7.2",
    text="'node-name' must be specified for the root node",
)
UNKNOWN = guard(
    "node.unknown",
    "The node that a command is about exists.",
    source="7.2; 5.2 words it otherwise",
    text="Failed to find node with node-name='{node}'",
)
HAS_BACKEND = guard(
    "del.has-backend",
    "A node that a block backend uses is not deleted.",
    source="7.2",
    text="Node {node} is in use",
)
NOT_OWNED = guard(
    "del.not-owned",
    "A client deletes only what a client added.",
    source="7.2",
    text="Node {node} is not owned by the monitor",
)
IN_USE = guard(
    "del.in-use",
    "A node in use is not deleted.",
    source="7.2",
    text="Block device {node} is in use",
)
REOPEN_NAME = guard(
    "reopen.node-name-missing",
    "Each node to reopen is named.",
    source="patch 12/13 (the QMP command); 7.2 wording",
    text="node-name not specified",
)
REOPEN_UNKNOWN = guard(
    "reopen.unknown-node",
    "Each node to reopen exists.",
    source="patch 12/13; 7.2 wording",
    text="Failed to find node with node-name='{node}'",
)
TAKES_CONTEXT = effect(
    "reopen.takes-context",
    "The command itself locks the iothread in which its node lives.",
    source="patch 12/13 (the letter: acquire the AioContext before calling bdrv_reopen_multiple); "
    "7.2 does so node by node, and in 10.0 there is nothing to lock",
)
NOTHING_ASSERTS = hazard(
    "hazard.empty-list",
    "A reopen of no node at all.",
    source="7.2 ends with an assertion in bdrv_reopen_multiple",
)
REOPEN_NOTHING = guard(
    "reopen.empty-list",
    "At least one node is reopened.",
    source="our own: see hazard.empty-list",
    text="No node to reopen",
)
OVERLAY_IN_USE = guard(
    "snapshot.overlay-in-use",
    "The overlay has no users that expect a valid image.",
    source="7.2",
    text="The overlay is already in use",
)
OVERLAY_FILTER = guard(
    "snapshot.overlay-filter",
    "The overlay is no filter.",
    source="7.2",
    text="Filters cannot be used as overlays",
)
OVERLAY_BACKING = guard(
    "snapshot.overlay-backing",
    "The overlay has no backing file yet.",
    source="7.2",
    text="The overlay already has a backing image",
)
OVERLAY_FORMAT = guard(
    "snapshot.overlay-format",
    "The overlay's format has backing files.",
    source="7.2",
    text="The overlay does not support backing images",
)
SNAPSHOT_READ_ONLY = effect(
    "snapshot.base-read-only",
    "The node under a new overlay becomes read-only, if that is possible.",
    source="7.2: a reopen that keeps the old options",
)
SNAPSHOT_PARENTS = effect(
    "snapshot.parents-move",
    "The users of the node go over to the overlay.",
    source="7.2",
)
CHANGE_NEITHER = guard(
    "change.neither",
    "Either a child is removed or a node is added.",
    source="7.2",
    text="Either child or node must be specified",
)
CHANGE_BOTH = guard(
    "change.both",
    "Either a child is removed or a node is added, not both.",
    source="7.2",
    text="The parameters child and node are in conflict",
)
CHANGE_NO_CHILD = guard(
    "change.unknown-child",
    "The child to remove is one of the parent's.",
    source="7.2",
    text="Node '{parent}' does not have child '{child}'",
)
CHANGE_NO_REMOVE = guard(
    "change.remove-unsupported",
    "Only a quorum loses children.",
    source="7.2",
    text="The node {parent} does not support removing a child",
)
CHANGE_THRESHOLD = guard(
    "change.threshold",
    "A quorum keeps as many children as it needs votes.",
    source="7.2",
    text="The number of children cannot be lower than the vote threshold {threshold}",
)
CHANGE_NO_NODE = guard(
    "change.unknown-node",
    "The node to add exists.",
    source="7.2",
    text="Node '{node}' not found",
)
CHANGE_NO_ADD = guard(
    "change.add-unsupported",
    "Only a quorum gains children.",
    source="7.2",
    text="The node {parent} does not support adding a child",
)
CHANGE_HAS_PARENT = guard(
    "change.has-parent",
    "Only a node without a parent is added.",
    source="7.2",
    text="The node {node} already has a parent",
)
CHANGE_BLKVERIFY = guard(
    "change.blkverify",
    "A quorum in blkverify mode keeps its two children.",
    source="7.2",
    text="Cannot add a child to a quorum in blkverify mode",
)
INDEX_REUSED = effect(
    "change.index-reused",
    "The name of the child that was added last is free again when it is removed.",
    source="7.2",
)


@takes(*GENERIC, outside=GENERIC_OUTSIDE, variants=DRIVER_SCOPES)
def blockdev_add(t: Transition, arguments: dict[str, Any]) -> None:
    """Open a node, with the children that are given inline."""
    t.ev.check(ROOT_NAME, "node-name" in arguments)
    try:
        name = Opening(t).open_root(flatten(arguments))
    except Refusal:
        restore(t)
        raise
    t.change(name, monitor_owned=True)


@takes("node-name")
def blockdev_del(t: Transition, arguments: dict[str, Any]) -> None:
    """Delete a node that a client added and nobody uses."""
    ev = t.ev
    name = arguments["node-name"]
    ev.check(UNKNOWN, name in t.nodes, node=name)
    has_backend = any(
        isinstance(key, Use) and t.users[key.user].kind == "block-backend"
        for key in t.nodes[name].parents
    )
    ev.check(HAS_BACKEND, not has_backend, node=name)
    check_free(t, name, "delete")
    ev.check(NOT_OWNED, t.nodes[name].monitor_owned, node=name)
    ev.check(IN_USE, references(t, name) <= 1, node=name)
    t.change(name, monitor_owned=False)
    with locked(t, name):
        release(t, name)


@takes("options")
def blockdev_reopen(t: Transition, arguments: dict[str, Any]) -> None:
    """Reopen nodes with new options, all or none of them."""
    ev = t.ev
    reopening = Reopening(t)
    for options in arguments["options"]:
        name = options.get("node-name")
        ev.check(REOPEN_NAME, name is not None)
        ev.check(REOPEN_UNKNOWN, name in t.nodes, node=name)
        reopening.add(name, flatten(options), keep_old=ev.holds(OMISSION_KEEPS))
    if not reopening.queue:
        ev.meet(NOTHING_ASSERTS)
        ev.refuse(REOPEN_NOTHING)
    ev.accepted.add(REOPEN_NOTHING.id)
    reopening.run()
    look_again(t)


@takes(*GENERIC, outside=GENERIC_OUTSIDE, variants=DRIVER_SCOPES)
def x_blockdev_reopen(t: Transition, arguments: dict[str, Any]) -> None:
    """Reopen one node, as the command was before it got a list and lost its ``x-``."""
    name = arguments.get("node-name")
    if name not in t.nodes or not t.ev.holds(TAKES_CONTEXT):
        blockdev_reopen(t, {"options": [arguments]})
        return
    with locked(t, name):
        blockdev_reopen(t, {"options": [arguments]})


@takes("node", "overlay")
def blockdev_snapshot(t: Transition, arguments: dict[str, Any]) -> None:
    """Put an overlay that exists on top of a node."""
    ev = t.ev
    name, overlay = arguments["node"], arguments["overlay"]
    ev.check(NO_NODE, name in t.nodes, device=name, node=name)
    check_free(t, name, "snapshot")
    flush(t, name)
    ev.check(NO_NODE, overlay in t.nodes, device=overlay, node=overlay)
    perm, _ = Permissions(t.nodes, {}).cumulative(overlay)
    ev.check(OVERLAY_IN_USE, not perm & Perm.CONSISTENT_READ)
    driver = driver_at(t, overlay)
    ev.check(OVERLAY_FILTER, not driver.is_filter)
    ev.check(OVERLAY_BACKING, t.nodes[overlay].link("backing") is None)
    ev.check(OVERLAY_FORMAT, driver.supports_backing)
    with locked(t, name):
        beware_of_compress(t, name)
        context = t.nodes[name].context
        _append(t, overlay, name)
        if t.nodes[name].context != context and ev.holds(MOVES_LOCKED):
            drain(t, name)
    if ev.holds(SNAPSHOT_READ_ONLY):
        try:
            keep_options(t, name, {"read-only": True})
        except Refusal as refusal:
            # QEMU does not insist, and the command was carried out.
            ev.refused.discard(refusal.rule.id)


def _append(t: Transition, overlay: str, name: str) -> None:
    undo = t.undo()
    try:
        attach_child(t, overlay, "backing", name, Role.COW, undo)
        if t.ev.holds(SNAPSHOT_PARENTS):
            replace_node(t, name, overlay, undo)
        refresh(t, [overlay])
    except Refusal:
        undo.abort()
        take_limits(t, name)
        raise
    undo.commit()
    take_limits(t, name)


@takes("parent", "child", "node")
def x_blockdev_change(t: Transition, arguments: dict[str, Any]) -> None:
    """Add a child to a quorum, or remove one."""
    ev = t.ev
    parent = arguments["parent"]
    ev.check(NO_NODE, parent in t.nodes, device=parent, node=parent)
    child, node = arguments.get("child"), arguments.get("node")
    ev.check(CHANGE_BOTH, child is None or node is None)
    ev.check(CHANGE_NEITHER, child is not None or node is not None)
    if child is not None:
        _remove_child(t, parent, child)
    elif node is not None:
        _add_child(t, parent, node)


def _remove_child(t: Transition, parent: str, child: str) -> None:
    ev = t.ev
    node = t.nodes[parent]
    link = node.link(child)
    if link is None:
        ev.refuse(CHANGE_NO_CHILD, parent=parent, child=child)
        return
    ev.accepted.add(CHANGE_NO_CHILD.id)
    ev.check(CHANGE_NO_REMOVE, driver_of(node.driver).can_add_child, parent=parent)
    quorum = node.private
    ev.check(CHANGE_THRESHOLD, len(quorum.members) > quorum.threshold, threshold=quorum.threshold)
    next_index = quorum.next_index
    if child == f"children.{next_index - 1}" and ev.holds(INDEX_REUSED):
        next_index -= 1
    members = tuple(member for member in quorum.members if member != child)
    t.change(parent, private=attrs.evolve(quorum, members=members, next_index=next_index))
    drain(t, parent)
    unset_inherits(t, parent, child, None)
    drop_link(t, link)


def _add_child(t: Transition, parent: str, child: str) -> None:
    ev = t.ev
    node = t.nodes[parent]
    ev.check(CHANGE_NO_NODE, child in t.nodes, node=child)
    ev.check(CHANGE_NO_ADD, driver_of(node.driver).can_add_child, parent=parent)
    ev.check(CHANGE_HAS_PARENT, not t.nodes[child].parents, node=child)
    quorum = node.private
    ev.check(CHANGE_BLKVERIFY, not quorum.blkverify)
    name = f"children.{quorum.next_index}"
    drain(t, parent)
    undo = t.undo()
    attach_child(t, parent, name, child, Role.DATA, undo)
    try:
        refresh(t, [parent])
    except Refusal:
        undo.abort()
        raise
    t.change(
        parent,
        private=attrs.evolve(
            quorum, members=(*quorum.members, name), next_index=quorum.next_index + 1
        ),
    )

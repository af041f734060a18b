# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of the other commands: deletion, snapshots, quorum children, objects, size, queries.

A builder returns the command's arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.builders.situation import generated, idle, is_overlay
from strategies.choices.drivers import WRAPPERS
from strategies.choices.option_values import (
    IOTHREAD,
    KIB,
    LIMITS,
    MIB,
)
from strategies.choices.weights import FIT

if TYPE_CHECKING:
    from model.values.state import Node
    from strategies.builders.scene import Scene

Arguments = dict[str, Any]

_HELD = 25
_SIZES = (MIB, 2 * MIB, 64 * KIB, 512 * KIB, 3 * MIB, 1536 * KIB, 1000)


def deletion(scene: Scene) -> Arguments:
    """blockdev-del, mostly of a node that nothing uses."""
    node = scene.pick(scene.everything, lambda each: idle(each) and each.monitor_owned)
    return {"node-name": node.name if node else "missing"}


def snapshot(scene: Scene) -> Arguments:
    """blockdev-snapshot, mostly onto an idle qcow2 node without a backing file."""
    overlay = scene.pick(scene.nodes, is_overlay)
    name = overlay.name if overlay else "missing"
    bases = [each for each in scene.not_above(name) if each.name != name]
    base = scene.pick(bases, lambda each: each.driver in ("qcow2", "raw"))
    held = [x.child for x in scene.state.links() if x.frozen and not generated(x.child)]
    if held and scene.choose.chance(_HELD):
        return {"node": scene.choose.one_of(held), "overlay": name}
    return {"node": base.name if base else "missing", "overlay": name}


def quorum_child(scene: Scene) -> Arguments:
    """x-blockdev-change: a quorum gets another child or loses one."""
    choose = scene.choose
    parent = scene.pick(scene.nodes, lambda each: each.driver == "quorum")
    if parent is None:
        return {"parent": "missing"}
    if parent.children and choose.chance(50):
        return {"parent": parent.name, "child": choose.one_of(parent.children).name}
    candidates = [each for each in scene.not_above(parent.name) if each.name != parent.name]
    node = scene.pick(candidates, idle)
    return {"parent": parent.name, "node": node.name if node else "missing"}


def throttle_group(scene: Scene) -> Arguments:
    """object-add of a throttle group whose limits nothing here reaches."""
    choose = scene.choose
    arguments: Arguments = {"qom-type": "throttle-group", "id": scene.fresh_id("tg")}
    limits = choose.one_of(LIMITS)
    return {**arguments, **spelled(limits, as_properties=choose.chance(40))}


def spelled(limits: dict[str, int], *, as_properties: bool) -> Arguments:
    """Limits as properties (``x-iops-total``) or as the one structured member ``limits``."""
    if as_properties:
        return {f"x-{name}": value for name, value in limits.items()}
    return {"limits": dict(limits)}


def iothread(scene: Scene) -> Arguments:
    """object-add of an iothread."""
    arguments: Arguments = {"qom-type": "iothread", "id": scene.fresh_id("io")}
    return {**arguments, **scene.choose.one_of(IOTHREAD)}


def object_deletion(scene: Scene) -> Arguments:
    """object-del of any object; a group in use is refused."""
    nodes = scene.state.nodes.values()
    # A thread that somebody works in is no longer there for him: no release survives that.
    used = [str(node.options.get("throttle-group")) for node in nodes]
    used += [node.context for node in nodes]
    used += [user.context for user in scene.state.users.values()]
    ids = [*scene.groups(), *scene.iothreads()]
    chosen = scene.pick(ids, lambda each: each not in used)
    return {"id": chosen or "missing"}


def resize(scene: Scene) -> Arguments:
    """block_resize. The bytes of a qcow2 image are only ever made more, or through qcow2."""
    choose = scene.choose
    node = scene.pick(scene.nodes, lambda each: idle(each) and _resizes(scene, each))
    if node is None:
        return {"node-name": "missing", "size": MIB}
    size = choose.one_of(_SIZES)
    image = scene.image_of(node)
    if image is not None and image.format == "qcow2":
        size = 2 * MIB + size
    if node.driver == "qcow2" and choose.chance(FIT):
        size = max(size - size % 512, 64 * KIB)
    return {"node-name": node.name, "size": size}


def _resizes(scene: Scene, node: Node) -> bool:
    seen: Node | None = node
    while seen is not None and seen.driver in (*WRAPPERS, "raw"):
        if seen.read_only:
            return False
        link = seen.link("file") or seen.link("image")
        seen = scene.state.nodes.get(link.child) if link else None
    return seen is not None and seen.driver in ("file", "qcow2") and not seen.read_only


def query_nodes(scene: Scene) -> Arguments:
    """query-named-block-nodes, flat or nested."""
    return scene.choose.one_of(({"flat": True}, {"flat": False}, {}))


def query_graph(_scene: Scene) -> Arguments:
    """x-debug-query-block-graph."""
    return {}

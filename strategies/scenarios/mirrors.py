# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios of mirrors; see :mod:`strategies.scenarios.graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.values.private import RawState
from model.values.trace import WRITE
from strategies.builders.current_options import described
from strategies.builders.guest_io import MOST_BYTES
from strategies.builders.situation import describable, generated, idle
from strategies.scenarios.steps import add, do, null, null_node, tower

if TYPE_CHECKING:
    from model.values.state import Job, Node
    from model.values.trace import Command
    from strategies.builders.scene import Scene

_SIZE = 1 << 20
_SECTOR = 512
_CLUSTER = 65536


def replaced_child(scene: Scene) -> Command | None:
    """A mirror that is to replace a quorum's child, which then goes or gets another length."""
    for job in scene.jobs():
        replaced = getattr(job.body, "replaces", None)
        if replaced is not None and job.status in ("ready", "standby"):
            return _without_replaced(scene, job, replaced)
    for node in scene.nodes:
        if node.driver != "quorum" or node.parents or len(node.children) == 1:
            continue
        children = [scene.state.nodes[link.child] for link in node.children]
        found = [child for child in children if describable(child)]
        if found:
            return _mirror(scene, node, scene.choose.one_of(found))
    if "q0" in scene.state.nodes:
        return None
    members = [{**null(), "node-name": "q0"}, null()]
    return add(scene, driver="quorum", vote_threshold=1, children=members)


def _without_replaced(scene: Scene, job: Job, replaced: str) -> Command:
    """Take away what a mirror is to replace, or let it be busy."""
    if job.status == "standby":
        # Told to end, it waits for being resumed; what it is to replace is busy meanwhile.
        if job.replacing is None:
            return do("job-complete", id=job.id)
        return do("block-stream", job_id=scene.fresh_id("j"), device=replaced)
    node = scene.state.nodes.get(replaced)
    if node is None:
        return do("job-complete", id=job.id)
    if scene.choose.chance(40):
        return do("job-pause", id=job.id)
    parents = [key for key in node.parents if key[0] in scene.names()]
    if parents:
        return do("x-blockdev-change", parent=parents[0][0], child=parents[0][1])
    return do("blockdev-del", node_name=replaced)


def _mirror(scene: Scene, source: Node, replaced: Node) -> Command:
    """Mirror a quorum, or first make its child longer, or a target for it."""
    targets = [
        node.name
        for node in scene.nodes
        if idle(node)
        and not node.read_only
        and node.driver in ("qcow2", "raw", "null-co")
        and scene.length(node.name) == scene.length(source.name)
    ]
    if not targets:
        return add(scene, **null(scene.length(source.name)))
    if replaced.driver == "qcow2" and not replaced.read_only and scene.choose.chance(50):
        return do("block_resize", node_name=replaced.name, size=4 << 20)
    return do(
        "blockdev-mirror",
        job_id=scene.fresh_id("j"),
        device=source.name,
        target=scene.choose.one_of(targets),
        sync="full",
        replaces=replaced.name,
    )


def filtered_target(scene: Scene) -> Command | None:
    """A mirror to a filter that stands above a part of the source's own chain."""
    sources = [x for x in scene.nodes if idle(x) and len(scene.layers(x.name)) > 1]
    if not sources:
        return tower(scene, null(), read_only=False)
    source = scene.choose.one_of(sources)
    below = scene.layers(source.name)[1].name
    for node in scene.nodes:
        if node.driver == "copy-on-read" and idle(node) and below in scene.below(node.name):
            nodes = {"device": source.name, "target": node.name, "sync": "top"}
            return do("blockdev-mirror", job_id=scene.fresh_id("j"), **nodes)
    return add(scene, driver="copy-on-read", file=below, read_only=True)


def stale_length(scene: Scene) -> Command | None:
    """A mirror that is to replace a node whose new length its source has not noticed."""
    for node in scene.nodes:
        link = node.link("image") if node.driver == "blkdebug" and idle(node) else None
        child = scene.state.nodes[link.child] if link else None
        if child is None or child.driver != "qcow2" or child.read_only or not describable(child):
            continue
        size = scene.length(node.name)
        if scene.length(child.name) == size:
            return do("block_resize", node_name=child.name, size=size + _SIZE)
        target = null_node(scene, size)
        if target is None:
            return add(scene, **null(size))
        nodes = {"device": node.name, "target": target, "replaces": child.name}
        return do("blockdev-mirror", job_id=scene.fresh_id("j"), sync="full", **nodes)
    bases = [x.name for x in scene.nodes if x.driver == "qcow2" and idle(x) and not x.read_only]
    return add(scene, driver="blkdebug", image=scene.choose.one_of(bases)) if bases else None


def read_only_source(scene: Scene) -> Command | None:
    """A mirror of a node that is read-only, which its target then becomes, too."""
    for job in scene.jobs():
        if job.status == "ready" and job.type == "mirror":
            return do("job-complete", id=job.id)
    sources = [
        node for node in scene.nodes if idle(node) and node.read_only and node.driver == "qcow2"
    ]
    if not sources:
        return None
    source = scene.choose.one_of(sources)
    size = scene.length(source.name)
    target = null_node(scene, size)
    if target is None:
        return add(scene, **null(size))
    nodes = {"device": source.name, "target": target, "sync": "full"}
    return do("blockdev-mirror", job_id=scene.fresh_id("j"), **nodes)


def shortened_target(scene: Scene) -> Command | None:
    """A mirror whose target became shorter, and a guest that writes behind its end."""
    for job in scene.jobs():
        if job.type != "mirror" or job.status != "ready" or generated(job.body.filter):
            continue
        target = scene.state.nodes.get(job.body.target)
        if target is None or not isinstance(target.private, RawState) or not describable(target):
            continue
        if scene.length(target.name) <= _SECTOR:
            place = {"offset": _CLUSTER, "length": _SECTOR, "pattern": 1}
            return do(WRITE, node=job.body.filter, **place)
        options = {**described(scene, target, inline=0), "size": _SECTOR}
        return do("blockdev-reopen", options=[options])
    sources = [
        node
        for node in scene.nodes
        if idle(node)
        and node.driver not in ("file", "raw")
        and not node.read_only
        and _CLUSTER < scene.length(node.name) <= MOST_BYTES
    ]
    if not sources:
        return None
    size = scene.length(sources[0].name)
    for node in scene.nodes:
        if node.driver == "raw" and idle(node) and scene.length(node.name) == size:
            return do(
                "blockdev-mirror",
                job_id=scene.fresh_id("j"),
                device=sources[0].name,
                target=node.name,
                sync="none",
                filter_node_name=scene.fresh_id("f"),
                on_target_error=scene.choose.one_of(("report", "stop", "stop", "enospc")),
            )
    return add(scene, driver="raw", file=null(size))


MIRROR_CORNERS = (
    replaced_child,
    replaced_child,
    shortened_target,
    shortened_target,
    read_only_source,
    stale_length,
    stale_length,
    filtered_target,
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Corners of iothreads; see :mod:`strategies.scenarios.graph`.

No query shows in which thread a node lives. What shows it is an export that keeps a node where it
is, and a command that tells the node to go elsewhere: each of these corners ends with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strategies.builders.exports import server_start
from strategies.builders.scene import Scene, on_top
from strategies.builders.situation import generated, idle, is_overlay
from strategies.scenarios.steps import add, do, null, null_node

if TYPE_CHECKING:
    from model.values.trace import Command


def _missing(scene: Scene) -> Command | None:
    """A thread and a server, which all of these corners need."""
    if not scene.iothreads():
        return do("object-add", qom_type="iothread", id=scene.fresh_id("io"))
    return server_start() if scene.state.nbd_server is None else None


def _go(scene: Scene, name: str, *, home: bool = False) -> Command:
    thread = None if home else scene.iothreads()[0]
    return do("x-blockdev-set-iothread", node_name=name, iothread=thread, force=True)


def _export(scene: Scene, name: str, *, kept: bool, writable: bool = False) -> Command:
    export = scene.fresh_id("e")
    how = {"name": export, "fixed-iothread": kept, "writable": writable}
    return do("block-export-add", type="nbd", id=export, node_name=name, **how)


def _exported(scene: Scene, *, kept: bool) -> list[str]:
    """The nodes of exports that keep them where they are, or of those that do not.

    Those that have names: an export can have come to the filter of a job.
    """
    users = [scene.state.users[export.user] for export in scene.state.exports.values()]
    nodes = [node for user in users if user.follows != kept for _, node in user.links]
    return [node for node in nodes if not generated(node)]


def _there(scene: Scene) -> Command | None:
    """What is missing, or the end of a way: a node that is kept is told to go."""
    missing = _missing(scene)
    kept = _exported(scene, kept=True)
    if missing is not None or not kept:
        return missing
    return _go(scene, kept[0], home=scene.choose.chance(50))


def _overlay(scene: Scene, *, read_only: bool) -> Command | None:
    images = [image for image in scene.images if image.format == "qcow2"]
    if not images:
        return None
    file = {"driver": "file", "filename": scene.choose.one_of(images).name, "locking": "off"}
    return add(scene, driver="qcow2", file=file, backing=None, read_only=read_only)


def gone_home(scene: Scene) -> Command | None:
    """A node in a thread has lost an export and has gone back to the main loop."""
    there = _there(scene)
    if there is not None:
        return there
    for export in scene.state.exports.values():
        if len(scene.nodes) > 1:
            return do("block-export-del", id=export.id)
        return add(scene, **null())
    nodes = [node for node in scene.nodes if idle(node)]
    if not nodes:
        return add(scene, **null())
    node = next((node for node in nodes if node.context), nodes[0])
    if len(nodes) > 1 and scene.choose.chance(70):
        return _export(scene, node.name, kept=True)
    return _export(scene, node.name, kept=False) if node.context else _go(scene, node.name)


def joined(scene: Scene) -> Command | None:
    """A node has come to the thread where its new overlay lives."""
    there = _there(scene)
    if there is not None:
        return there
    tops = [node for node in scene.nodes if idle(node) and node.link("backing") is not None]
    if tops and scene.choose.chance(35):
        return _export(scene, tops[-1].name, kept=True)
    overlay = next((node for node in scene.nodes if is_overlay(node)), None)
    if overlay is None:
        return _overlay(scene, read_only=False)
    if not overlay.context:
        return _go(scene, overlay.name)
    others = [x for x in scene.nodes if idle(x) and x is not overlay and not x.context]
    if not others:
        return add(scene, **null())
    return do("blockdev-snapshot", node=scene.choose.one_of(others).name, overlay=overlay.name)


def parted_again(scene: Scene) -> Command | None:
    """A node has gone back to its thread: its overlay is read-only, and somebody writes."""
    there = _there(scene)
    if there is not None:
        return there
    written = [scene.state.nodes[name] for name in _exported(scene, kept=False)]
    if not written:
        nodes = [node for node in scene.nodes if idle(node) and not node.read_only]
        if not nodes:
            return add(scene, **null())
        return _export(scene, nodes[0].name, kept=False, writable=True)
    node = written[0]
    overlays = [x for x in scene.nodes if is_overlay(x) and x.read_only and x is not node]
    if not overlays:
        return _overlay(scene, read_only=True) if node.context else _go(scene, node.name)
    if node.context != overlays[0].context and scene.choose.chance(75):
        return do("blockdev-snapshot", node=node.name, overlay=overlays[0].name)
    return _export(scene, node.name, kept=True)


def job_held_back(scene: Scene) -> Command | None:
    """The target of a mirror cannot go: the job would come along, and so would its source."""
    missing = _missing(scene)
    if missing is not None:
        return missing
    for job in scene.jobs():
        target = getattr(job.body, "target", None)
        if job.type != "mirror" or job.status != "ready" or target is None:
            continue
        if _exported(scene, kept=True):
            return _go(scene, target, home=scene.choose.chance(30))
        source = scene.shown(job.body.filter).name
        return None if generated(source) else _export(scene, source, kept=True)
    sources = [node for node in scene.nodes if on_top(node) and node.driver == "qcow2"]
    if not sources:
        return _overlay(scene, read_only=False)
    source, size = sources[0].name, scene.length(sources[0].name)
    target = null_node(scene, size)
    if target is None:
        return add(scene, **null(size))
    nodes = {"device": source, "target": target, "sync": "none"}
    return do("blockdev-mirror", job_id=scene.fresh_id("j"), **nodes)


THREAD_CORNERS = (gone_home, joined, parted_again, job_held_back)

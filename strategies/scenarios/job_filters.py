# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios of the filters that jobs put into a graph; see :mod:`strategies.scenarios.graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.values.trace import WRITE
from strategies.builders.situation import describable, idle
from strategies.choices.option_values import LEAST, LEAST_SIZES
from strategies.scenarios.steps import add, do, null, null_node, tower

if TYPE_CHECKING:
    from model.values.trace import Command
    from strategies.builders.scene import Scene

_THREE = 3
_SIZE = 1 << 20
_SECTOR = 512
_CLUSTER = 65536
_GROWN = 4 * _SIZE


def copy_before_write(scene: Scene) -> Command | None:
    """The filter of a backup, added by a client; a bitmap for it does not exist."""
    sources = [node for node in scene.nodes if idle(node) and node.driver in ("qcow2", "raw")]
    if not sources:
        return None
    source = scene.choose.one_of(sources)
    options: dict[str, Any] = {"file": source.name, "target": null(scene.length(source.name))}
    if scene.choose.chance(60):
        options["bitmap"] = {"node": scene.choose.one_of(("missing", source.name)), "name": "b0"}
    elif scene.has_option("copy-before-write", LEAST):
        options[LEAST] = scene.choose.one_of((*LEAST_SIZES, 1000, 2**63))
    return add(scene, driver="copy-before-write", **options)


def over_a_filter(scene: Scene) -> Command | None:
    """A chain that is to be frozen through the filter of a job."""
    names = [node.name for node in scene.everything if node.never_frozen]
    for name in names:
        layers = [node.name for node in scene.layers(name)]
        if layers:
            bottom = scene.choose.one_of(layers)
            return add(scene, driver="copy-on-read", file=name, bottom=bottom, read_only=True)
    sources = [node for node in scene.nodes if idle(node) and node.driver == "qcow2"]
    if not sources:
        return _idle_image(scene)
    source, size = sources[0].name, scene.length(sources[0].name)
    target = null_node(scene, size)
    if target is None:
        return add(scene, **null(size))
    nodes = {"device": source, "target": target, "filter-node-name": scene.fresh_id("f")}
    return do("blockdev-mirror", job_id=scene.fresh_id("j"), sync="none", **nodes)


def job_on_a_filter(scene: Scene) -> Command | None:
    """A commit whose filter is to go while another job stays at it."""
    for job in scene.jobs():
        top = scene.state.nodes.get(getattr(job.body, "filter", None) or "")
        if job.status != "pending" or job.type != "commit" or top is None or top.implicit:
            continue
        if any(key[0].startswith("job:") for key in top.parents):
            return do("job-finalize", id=job.id)
        size = scene.length(top.name)
        target = null_node(scene, size)
        if target is None:
            return add(scene, **null(size))
        nodes = {"device": top.name, "target": target, "sync": "none"}
        return do("blockdev-backup", job_id=scene.fresh_id("j"), **nodes)
    for node in scene.nodes:
        layers = scene.layers(node.name)
        if idle(node) and len(layers) >= _THREE:
            return do(
                "block-commit",
                job_id=scene.fresh_id("j"),
                device=node.name,
                top_node=layers[1].name,
                filter_node_name=scene.fresh_id("f"),
                auto_finalize=False,
            )
    return tower(scene, null(_GROWN))


def nothing_but_a_filter(scene: Scene) -> Command | None:
    """A commit of a filter into what it filters, below an overlay."""
    for node in scene.nodes:
        below = scene.chain(node.name)[1:_THREE]
        if node.driver != "qcow2" or node.parents or len(below) + 1 < _THREE:
            continue
        top, base = below
        if top.driver == "copy-on-read" and describable(top) and describable(base):
            nodes = {"device": node.name, "top-node": top.name, "base-node": base.name}
            return do("block-commit", job_id=scene.fresh_id("j"), **nodes)
    free = [x for x in scene.images if x.format == "qcow2" and not scene.is_open(x)]
    bases = [node.name for node in scene.nodes if node.driver == "qcow2" and idle(node)]
    if not free or not bases:
        return None
    name, image = scene.fresh_name(), scene.choose.one_of(free)
    file = {"driver": "file", "filename": image.name}
    below_it = {"driver": "copy-on-read", "node-name": name, "file": scene.choose.one_of(bases)}
    return add(scene, driver="qcow2", file=file, backing=below_it)


def overwritten_source(scene: Scene) -> Command | None:
    """A guest who writes where a backup has not been yet."""
    for job in scene.jobs():
        top = scene.state.nodes.get(getattr(job.body, "filter", None) or "")
        if job.type == "backup" and job.status == "running" and top is not None:
            where = {"offset": scene.choose.integer(0, 7) * _CLUSTER, "length": _CLUSTER}
            pattern = scene.choose.byte()
            return do(WRITE, node=top.name, **where, pattern=pattern)
    sources = [x for x in scene.nodes if idle(x) and not x.read_only and x.driver == "qcow2"]
    if not sources:
        return None
    source = scene.choose.one_of(sources)
    target = null_node(scene, scene.length(source.name))
    if target is None:
        return add(scene, **null(scene.length(source.name)))
    nodes = {"device": source.name, "target": target, "filter-node-name": scene.fresh_id("f")}
    return do("blockdev-backup", job_id=scene.fresh_id("j"), sync="none", **nodes)


def _idle_image(scene: Scene, kind: str = "qcow2") -> Command | None:
    """An image of more than a cluster that nobody has opened yet."""
    free = [x for x in scene.images if x.format == kind and not scene.is_open(x)]
    images = [image for image in free if image.size > _CLUSTER]
    if not images:
        return None
    file = {"driver": "file", "filename": scene.choose.one_of(images).name}
    backing = {"backing": None} if kind == "qcow2" else {}
    return add(scene, driver=kind, file=file, **backing)


def cut_and_grown(scene: Scene) -> Command | None:
    """A file that had data where it is cut off and grows again, copied twice by a backup."""
    raw = [x for x in scene.nodes if x.driver == "raw" and idle(x) and not x.read_only]
    images = [(x.name, image) for x in raw if (image := scene.image_of(x)) is not None]
    tops = [x for x in scene.nodes if x.driver == "qcow2" and idle(x) and not x.read_only]
    if not images or not tops:
        return _idle_image(scene, "qcow2" if images else "raw")
    (source, image), target = images[0], tops[0].name
    if scene.length(target) != _GROWN:
        return do("block_resize", node_name=target, size=_GROWN)
    size = scene.length(source)
    if size == _SECTOR:
        return do("block_resize", node_name=source, size=_GROWN)
    if size != _GROWN:
        if [(start, end) for start, end, _ in image.extents] != [(0, size)]:
            return do(WRITE, node=source, offset=0, length=size, pattern=1)
        null_target = null_node(scene, size)
        if null_target is None:
            return add(scene, **null(size))
        if scene.choose.chance(25):
            return do("block_resize", node_name=source, size=_SECTOR)
        target = null_target
    nodes = {"device": source, "target": target, "sync": "full"}
    return do("blockdev-backup", job_id=scene.fresh_id("j"), **nodes)


FILTER_CORNERS = (
    overwritten_source,
    cut_and_grown,
    cut_and_grown,
    cut_and_grown,
    over_a_filter,
    over_a_filter,
    copy_before_write,
    job_on_a_filter,
    nothing_but_a_filter,
    nothing_but_a_filter,
)

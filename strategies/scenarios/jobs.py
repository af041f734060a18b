# SPDX-License-Identifier: GPL-2.0-or-later
"""Corners of jobs that a random walk seldom finds; see :mod:`strategies.scenarios.graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from model.commands.driving import WRITE
from model.drivers.formats import RawState
from strategies.builders.current_options import described
from strategies.builders.exports import server_start
from strategies.builders.guest_io import MOST_BYTES
from strategies.builders.scene import Scene, describable, generated, idle
from strategies.choices.option_values import LEAST, LEAST_SIZES

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.state import Job, Node
    from model.trace import Command

_THREE = 3
_SIZE = 1 << 20
_SECTOR = 512
_CLUSTER = 65536
_GROWN = 4 * _SIZE
_CHUNK = 8 * _CLUSTER
"""What a job that is limited to a rate copies before it sleeps."""


def add(scene: Scene, **options: Any) -> Command:
    """blockdev-add of a node with a new name."""
    arguments = {key.replace("_", "-"): value for key, value in options.items()}
    return {"execute": "blockdev-add", "arguments": {"node-name": scene.fresh_name(), **arguments}}


def do(command: str, **arguments: Any) -> Command:
    """A command, its arguments spelled as in Python."""
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": command, "arguments": plain}


def null(size: int = _SIZE) -> dict[str, Any]:
    """The options of a node that reads as zeroes."""
    return {"driver": "null-co", "read-zeroes": True, "size": size}


def null_node(scene: Scene, size: int) -> str | None:
    """An idle null node of a length, which takes whatever is copied to it."""
    found = (x for x in scene.nodes if idle(x) and not x.read_only and x.driver == "null-co")
    return next((node.name for node in found if scene.length(node.name) == size), None)


def written_top(scene: Scene) -> Command | None:
    """A commit from the middle of a chain where somebody writes."""
    exported = {export.user for export in scene.state.exports.values()}
    for node in scene.nodes:
        layers = scene.layers(node.name)
        if len(layers) < _THREE or not idle(node):
            continue
        middle = layers[1]
        users = [key for key in middle.parents if key[0] in exported]
        if users:
            name = scene.fresh_id("j")
            return do(
                "block-commit",
                job_id=name,
                device=node.name,
                top_node=middle.name,
                base_node=layers[2].name,
                backing_file="other.qcow2",
            )
        if scene.state.nbd_server is None:
            return server_start()
        if middle.read_only:
            options = {**described(scene, middle, inline=0), "read-only": False}
            return do("blockdev-reopen", options=[options])
        return do(
            "block-export-add",
            type="nbd",
            id=scene.fresh_id("e"),
            node_name=middle.name,
            writable=True,
        )
    return _tower(scene, null(_GROWN))


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


def filtered_target(scene: Scene) -> Command | None:
    """A mirror to a filter that stands above a part of the source's own chain."""
    sources = [x for x in scene.nodes if idle(x) and len(scene.layers(x.name)) > 1]
    if not sources:
        return _tower(scene, null(), read_only=False)
    source = scene.choose.one_of(sources)
    below = scene.layers(source.name)[1].name
    for node in scene.nodes:
        if node.driver == "copy-on-read" and idle(node) and below in scene.below(node.name):
            nodes = {"device": source.name, "target": node.name, "sync": "top"}
            return do("blockdev-mirror", job_id=scene.fresh_id("j"), **nodes)
    return add(scene, driver="copy-on-read", file=below, read_only=True)


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
    return _tower(scene, null(_GROWN))


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


def shortened_base(scene: Scene) -> Command | None:
    """A commit that goes on into a base which became shorter while the job was paused."""
    for job in scene.jobs():
        base = scene.state.nodes.get(getattr(job.body, "base", ""))
        if job.status != "paused" or job.type != "commit" or base is None:
            continue
        if isinstance(base.private, RawState) and describable(base):
            if scene.length(base.name) <= _SECTOR:
                return do("job-resume", id=job.id)
            options = {**described(scene, base, inline=0), "size": _SECTOR}
            return do("blockdev-reopen", options=[options])
    for node in scene.nodes:
        images = [each for each in scene.layers(node.name) if each.driver == "qcow2"]
        below = images[-1].link("backing") if images else None
        if idle(node) and len(images) > 1 and below is not None and not generated(below.child):
            return do(
                "block-commit",
                job_id=scene.fresh_id("j"),
                device=node.name,
                top_node=images[-1].name,
                on_error=scene.choose.one_of(("report", "stop", "enospc")),
                speed=1,
            )
    window = {"driver": "raw", "node-name": scene.fresh_name(), "file": null(_GROWN)}
    return _tower(scene, window)


def _tower(scene: Scene, base: dict[str, Any], *, read_only: bool = True) -> Command | None:
    """Two images of which nobody has opened one yet, the lower with much data, over a base."""
    free = [x for x in scene.images if x.format == "qcow2" and not scene.is_open(x)]
    lower = [x for x in free if x.extents and x.extents[-1][1] > _CHUNK]
    pairs = [(one, other) for one in free for other in lower if one is not other]
    if not pairs:
        return None
    files = [
        {"driver": "qcow2", "file": {"driver": "file", "filename": image.name}}
        for image in scene.choose.one_of(pairs)
    ]
    middle = {**files[1], "node-name": scene.fresh_name(), "read-only": read_only}
    return add(scene, **files[0], backing={**middle, "backing": base})


def overwritten_source(scene: Scene) -> Command | None:
    """A guest who writes where a backup has not been yet."""
    for job in scene.jobs():
        top = scene.state.nodes.get(getattr(job.body, "filter", None) or "")
        if job.type == "backup" and job.status == "running" and top is not None:
            where = {"offset": scene.choose.integer(0, 7) * _CLUSTER, "length": _CLUSTER}
            pattern = scene.choose.integer(1, 255)
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


CHAIN_CORNERS = (written_top, shortened_base)
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


def any_of(*corners: Callable[[Scene], Command | None]) -> Callable[[Scene], Command]:
    """The next command into one of some corners; a look at the jobs where there is none."""

    def corner(scene: Scene) -> Command:
        # An example mostly keeps to one of them, which its images choose: each takes several steps.
        favourite = crc32(",".join(scene.state.images).encode()) % len(corners)
        way = scene.choose.one_of(corners) if scene.choose.chance(20) else corners[favourite]
        return way(scene) or {"execute": "query-jobs"}

    return corner

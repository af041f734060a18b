# SPDX-License-Identifier: GPL-2.0-or-later
"""Corners of the rules that a random walk seldom finds, some of them several commands deep.

Each function returns the next command on the way into its corner, as far as the state tells
where on that way it is, or None where there is no way from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.values.image_layout import CLUSTER
from model.values.private import Bottom, FileState, PreallocateState, Qcow2State, RawState
from model.values.trace import WRITE
from strategies.builders.situation import generated, is_overlay
from strategies.scenarios.steps import add, do

if TYPE_CHECKING:
    from model.values.state import Image
    from model.values.trace import Command
    from strategies.builders.scene import Scene
    from strategies.scenarios.steps import Corner

GIB = 1 << 30
_TOLD = 'json:{"driver": "qcow2", "backing": {"driver": "null-co"}}'
_ALMOST_ALL = (1 << 63) - GIB


def _reopen(**options: Any) -> Command:
    arguments = {key.replace("_", "-"): value for key, value in options.items()}
    return do("blockdev-reopen", options=[arguments])


def _file(image: Image) -> dict[str, Any]:
    return {"driver": "file", "filename": image.name, "locking": "off"}


def _qcow2_image(scene: Scene) -> Image | None:
    images = [image for image in scene.images if image.format == "qcow2"]
    return scene.choose.one_of(images) if images else None


def mismatch(scene: Scene) -> Command | None:
    """A header that is read through a blkverify node whose images differ."""
    image = _qcow2_image(scene)
    if image is None:
        return None
    zeroes = {"driver": "null-co", "read-zeroes": True}
    file = {"driver": "blkverify", "raw": zeroes, "test": _file(image)}
    return add(scene, driver="qcow2", file=file, backing=None)


def direct_directory(scene: Scene) -> Command | None:
    """Direct access to a directory."""
    return add(scene, driver="file", filename=".", cache={"direct": True}, read_only=True)


def huge_cache(scene: Scene) -> Command | None:
    """An L2 cache of more entries than QEMU counts."""
    image = _qcow2_image(scene)
    if image is None:
        return None
    sizes = {"cache-size": 1 << 62, "refcount-cache-size": 65536}
    return add(scene, driver="qcow2", file=_file(image), backing=None, **sizes)


def other_file(scene: Scene) -> Command | None:
    """Another file for a node that has none."""
    leaves = [node for node in scene.nodes if node.driver in ("null-co", "null-aio")]
    files = [node for node in scene.nodes if not node.children]
    if not leaves or len(files) <= 1:
        return None
    leaf = scene.choose.one_of(leaves)
    other = scene.choose.one_of([node for node in files if node.name != leaf.name])
    size = {key: leaf.options[key] for key in ("size", "read-zeroes") if key in leaf.options}
    if "latency-ns" in leaf.options or "read-zeroes" in size:
        return None
    return _reopen(driver="raw", node_name=leaf.name, file=other.name, **size)


def far_window(scene: Scene) -> Command | None:
    """A size that does not fit behind the offset of a raw node."""
    for node in scene.nodes:
        private = node.private
        if isinstance(private, RawState) and private.offset >= GIB and private.size is None:
            arguments = {"node-name": node.name, "size": _ALMOST_ALL}
            return {"execute": "block_resize", "arguments": arguments}
    below = {"driver": "null-co", "read-zeroes": True}
    return add(scene, driver="raw", offset=GIB, file=below)


def frozen_twice(scene: Scene) -> Command | None:
    """A chain that is frozen from above and once more from further above."""
    for node in scene.nodes:
        known = node.private
        if isinstance(known, Bottom) and known.frozen and not generated(known.node):
            return add(scene, driver="copy-on-read", file=node.name, bottom=known.node)
    formats = [node for node in scene.nodes if node.driver in ("qcow2", "raw")]
    if not formats:
        return None
    name = scene.choose.one_of(formats).name
    return add(scene, driver="copy-on-read", file=name, bottom=name)


def forgotten_access(scene: Scene) -> Command | None:
    """A file that is open directly without its node's knowing, and a header in it."""
    for node in scene.nodes:
        state = node.private
        image = scene.state.images.get(node.filename)
        if not isinstance(state, FileState) or not state.direct or not node.monitor_owned:
            continue
        if image is None or image.format != "qcow2" or node.parents:
            continue
        options = {
            "driver": "file",
            "node-name": node.name,
            "filename": node.explicit.get("filename", node.filename),
            **{key: node.options[key] for key in ("locking", "aio") if key in node.options},
        }
        if not node.no_cache:
            return add(scene, driver="qcow2", file=node.name, read_only=True, backing=None)
        if state.forgotten:
            return _reopen(**options, read_only=True)
        return _reopen(**options, cache={"direct": True}, read_only=node.read_only)
    image = _qcow2_image(scene)
    if image is None:
        return None
    return add(scene, **_file(image), cache={"direct": True})


def stuck_preallocation(scene: Scene) -> Command | None:
    """Preallocated space that cannot be given back: the node got a file that has no space."""
    nulls = [n for n in scene.nodes if n.driver in ("null-co", "null-aio") and not n.read_only]
    for node in scene.nodes:
        state = node.private
        if not isinstance(state, PreallocateState) or not node.parents:
            continue
        overlay = scene.state.nodes.get(node.parents[0][0])
        if (
            overlay is None
            or overlay.driver != "qcow2"
            or overlay.name not in scene.names()
            or overlay.parents
        ):
            continue
        file = node.children[0].child
        if (state.file_end or 0) <= (state.data_end or 0):
            offset = scene.choose.integer(0, max(0, overlay.size // CLUSTER - 1)) * CLUSTER
            if scene.choose.chance(50) or not overlay.size:
                size = {"node-name": overlay.name, "size": offset + CLUSTER}
                return {"execute": "block_resize", "arguments": size}
            where = {"node": overlay.name, "offset": offset, "length": 512, "pattern": 1}
            return {"execute": WRITE, "arguments": where}
        given = {
            k: node.options[k] for k in ("prealloc-align", "prealloc-size") if k in node.options
        }
        options = {"driver": "preallocate", "node_name": node.name, **given}
        backing = {"backing": None} if overlay.link("backing") is None else {}
        if scene.state.nodes[file].driver not in ("null-co", "null-aio"):
            if overlay.private.cached:
                # What is in a cache is written down first: it is not to be lost.
                return _reopen(driver="qcow2", node_name=overlay.name, file=node.name, **backing)
            if not nulls:
                return add(scene, driver="null-co")
            return _reopen(**options, file=scene.choose.one_of(nulls).name)
        return _reopen(
            driver="qcow2", node_name=overlay.name, file=node.name, read_only=True, **backing
        )
    image = _qcow2_image(scene)
    if image is None or scene.is_open(image):
        return None
    name = scene.fresh_name()
    below = {"driver": "preallocate", "node-name": name, "file": _file(image)}
    return add(scene, driver="qcow2", file=below, backing=None)


def put_back(scene: Scene) -> Command | None:
    """A quorum that is written to: an overlay that is read-only cannot take its older child."""
    quorums = [node for node in scene.nodes if node.driver == "quorum" and node.parents]
    older = [node.children[-1].child for node in quorums if len(node.children) > 1]
    named = [name for name in older if not generated(name)]
    if not named:
        zeroes = {"driver": "null-co", "read-zeroes": True}
        children = [{**zeroes, "node-name": scene.fresh_name()}, zeroes]
        quorum = {"driver": "quorum", "node-name": scene.fresh_name(), "children": children}
        below = {**quorum, "vote-threshold": 1}
        return add(scene, driver="blkdebug", image=below, take_child_perms=["write"])
    for overlay in scene.nodes:
        if is_overlay(overlay) and overlay.read_only:
            nodes = {"node": named[0], "overlay": overlay.name}
            return {"execute": "blockdev-snapshot", "arguments": nodes}
    image = _qcow2_image(scene)
    if image is None:
        return None
    return add(scene, driver="qcow2", file=_file(image), backing=None, read_only=True)


def outvoted(scene: Scene) -> Command | None:
    """A quorum in which one child has other data than the rest."""
    images = [image for image in scene.images if image.format == "raw" and image.extents]
    if not images:
        return None
    image = scene.choose.one_of(images)
    zeroes = {"driver": "null-co", "read-zeroes": True, "size": image.length}
    children = [zeroes, zeroes, {**_file(image), "read-only": True}]
    return add(scene, driver="quorum", vote_threshold=2, children=children, read_only=True)


def left_dirty(scene: Scene) -> Command | None:
    """A read-only node on an image that another one, which does not lock it, has made dirty."""
    known = [node for node in scene.nodes if isinstance(node.private, Qcow2State)]
    for node in known:
        name = node.children[0].child
        if node.read_only and node.private.dirty and not generated(name):
            lazy = node.private.lazy and scene.choose.chance(50)
            given = {"read_only": True, "lazy_refcounts": lazy, "file": name, "backing": None}
            return _reopen(driver="qcow2", node_name=node.name, **given)
    for node in known:
        image = scene.state.images.get(node.private.image)
        if image is None:
            continue
        lazy = scene.choose.chance(50)
        file = {**_file(image), "node-name": scene.fresh_name()}
        if node.private.dirty:
            given = {"read_only": True, "lazy_refcounts": lazy, "backing": None}
            return add(scene, driver="qcow2", file=file, **given)
        if node.private.lazy and not node.read_only and node.size:
            where = {"node": node.name, "offset": 0, "length": 512, "pattern": 1}
            return {"execute": WRITE, "arguments": where}
    image = _qcow2_image(scene)
    if image is None or scene.is_open(image):
        return None
    file = {**_file(image), "node-name": scene.fresh_name()}
    return add(scene, driver="qcow2", file=file, backing=None, lazy_refcounts=True)


def told_backing(scene: Scene) -> Command | None:
    """An image that names a backing file with one of its own, opened on a node of another kind."""
    for told in scene.images:
        if told.format == "qcow2" and told.backing == _TOLD:
            return add(scene, driver="qcow2", file=_file(told), backing={"driver": "null-co"})
    for node in scene.nodes:
        backing = node.link("backing")
        writable = node.driver == "qcow2" and not node.read_only
        if writable and backing is not None and not generated(backing.child):
            where = {"device": node.name, "base-node": backing.child, "backing-file": _TOLD}
            arguments = {"job-id": scene.fresh_id("j"), **where}
            return {"execute": "block-stream", "arguments": arguments}
    image = _qcow2_image(scene)
    if image is None or scene.is_open(image):
        return None
    nulls = [node for node in scene.nodes if node.driver == "null-co" and node.monitor_owned]
    if not nulls:
        return add(scene, driver="null-co", read_zeroes=True, size=image.size)
    return add(scene, driver="qcow2", file=_file(image), backing=nulls[0].name)


CORNERS: tuple[Corner, ...] = (
    mismatch,
    direct_directory,
    huge_cache,
    other_file,
    far_window,
    frozen_twice,
    outvoted,
    put_back,
    forgotten_access,
    forgotten_access,
    forgotten_access,
    left_dirty,
    *(stuck_preallocation,) * 6,
)
"""The last ones take four commands, so that they are tried more often."""


def corner(scene: Scene) -> Command:
    """The next command into a corner; a look at the graph where there is none to go to."""
    found = scene.choose.one_of(CORNERS)(scene)
    return found or {"execute": "x-debug-query-block-graph"}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that look at the graph and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.data.length import cluster_size, is_dirty
from model.graph.chain import skip_implicit
from model.graph.driver import driver_of
from model.graph.filenames import Names, dirname, is_absolute
from model.graph.request_limits import LIMITS, shown_limits
from model.graph.traversal import length_of, link_below
from model.permissions.grants import GRAPH_MOD, Permissions
from model.release.rules import effect
from model.release.scope import takes
from model.values.ranges import count
from model.values.state import Bitmap, Node, Perm, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.graph.transition import Transition

ACTIVE = effect(
    "query.active",
    "A node says whether it is active.",
    source="10.0 (query-named-block-nodes)",
)
BITMAP_STATUS = effect(
    "query.bitmap-status",
    "What state a bitmap is in is also told in one word.",
    source="5.2; deprecated there, gone since 6.0",
)
DIRTY_FLAG = effect(
    "query.dirty-flag",
    "An image says that its refcounts are not written down yet.",
    source="6.1; before, no qcow2 image ever says so",
)
KEY_MISSING = effect(
    "query.encryption-key-missing",
    "A node says whether its key is missing.",
    source="5.2; deprecated there, gone since 6.1",
)
FILE_SPECIFIC = effect(
    "query.file-specific",
    "What is shown of a file node's image has a part for what only files have.",
    source="10.0 (query-named-block-nodes)",
)

CHILDREN = effect(
    "query.children",
    "A node says which children it has, the newest first.",
    source="11.1 (query-named-block-nodes)",
)

_PERM_NAMES = (
    (16, "graph-mod"),
    (8, "resize"),
    (4, "write-unchanged"),
    (2, "write"),
    (1, "consistent-read"),
)

_QCOW2_INFO = {
    "type": "qcow2",
    "data": {
        "compat": "1.1",
        "compression-type": "zlib",
        "lazy-refcounts": False,
        "refcount-bits": 16,
        "corrupt": False,
        "extended-l2": False,
    },
}

ACTUAL_SIZE = 0
"""What stands for the bytes that the host's file system allocated, which we cannot know."""


@takes(
    inert={
        "flat": "only a release without a machine here has it, and its answer is always empty",
    }
)
def query_block(t: Transition, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every disk of the machine with its node, in the order in which they came to them.

    Filters that nobody asked for are left out, above a disk's node and below it.
    """
    names = Names(t.nodes)
    disks = {each.user for each in t.devices.values()}
    found = []
    for user in t.users.values():
        if user.key not in disks:
            continue
        node = skip_implicit(t, user.links[0][1])
        inserted = _node_info(t, names, node, flat=False, below=_visible_below)
        found.append(
            {
                "device": "",
                "qdev": user.name,
                "type": "unknown",
                "locked": False,
                "removable": False,
                "io-status": "ok",
                "inserted": inserted,
            }
        )
    return found


@takes("flat")
def query_named_block_nodes(t: Transition, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node, newest first; with the images below it unless ``flat``."""
    names = Names(t.nodes)
    flat = arguments.get("flat", False)
    return [_node_info(t, names, name, flat=flat) for name in reversed(t.nodes)]


def _below(t: Transition, name: str) -> str | None:
    """What a node filters or overlays."""
    link = link_below(t, name)
    return None if link is None else link.child


def _visible_below(t: Transition, name: str) -> str | None:
    """The same without the filters of jobs that nobody asked for."""
    below = _below(t, name)
    return None if below is None else skip_implicit(t, below)


def _node_info(
    t: Transition,
    names: Names,
    name: str,
    *,
    flat: bool,
    below: Callable[[Transition, str], str | None] = _below,
) -> dict[str, Any]:
    node = t.nodes[name]
    info: dict[str, Any] = {
        "file": names.text(name),
        "node-name": name,
        "ro": node.read_only,
        "drv": node.driver,
        "encrypted": False,
        "detect_zeroes": node.detect_zeroes,
        "cache": {"writeback": True, "direct": node.no_cache, "no-flush": node.no_flush},
        "write_threshold": 0,
        "bps": 0,
        "bps_rd": 0,
        "bps_wr": 0,
        "iops": 0,
        "iops_rd": 0,
        "iops_wr": 0,
    }
    if t.ev.holds(KEY_MISSING):
        info["encryption_key_missing"] = False
    if t.ev.holds(ACTIVE):
        info["active"] = True
    if t.ev.holds(CHILDREN):
        info["children"] = [{"node-name": link.child, "child": link.name} for link in node.children]
    if node.bitmaps:
        info["dirty-bitmaps"] = [_bitmap_info(t, bitmap) for bitmap in node.bitmaps]
    overlaid = None if driver_of(node.driver).is_filter else node.link("backing")
    if overlaid is not None:
        info["backing_file"] = names.text(overlaid.child)
    info["image"] = image = _image_info(t, names, node)
    depth = 0
    if not flat:
        next_one = below(t, name)
        while next_one is not None:
            depth += 1
            image["backing-image"] = _image_info(t, names, t.nodes[next_one])
            image = image["backing-image"]
            next_one = below(t, next_one)
    info["backing_file_depth"] = depth
    return info


def _bitmap_info(t: Transition, bitmap: Bitmap) -> dict[str, Any]:
    status = {}
    if t.ev.holds(BITMAP_STATUS):
        status = {"status": "active" if bitmap.recording else "disabled"}
    return {
        **status,
        "recording": bitmap.recording,
        "persistent": False,
        "busy": False,
        "granularity": bitmap.granularity,
        "count": count(bitmap.dirty),
    }


def _image_info(t: Transition, names: Names, node: Node) -> dict[str, Any]:
    info: dict[str, Any] = {
        "filename": names.text(node.name),
        "format": node.driver,
        "virtual-size": length_of(t, node.name),
    }
    if t.ev.holds(LIMITS):
        info["limits"] = shown_limits(t, node)
    if _knows_actual_size(t, node):
        info["actual-size"] = ACTUAL_SIZE
    cluster = cluster_size(t, node.name)
    if cluster is not None:
        info["dirty-flag"] = t.ev.holds(DIRTY_FLAG) and is_dirty(t, node.name)
        if cluster:
            info["cluster-size"] = cluster
    if node.driver == "qcow2":
        info["format-specific"] = _QCOW2_INFO
    elif node.driver == "file" and t.ev.holds(FILE_SPECIFIC):
        info["format-specific"] = {"type": "file", "data": {}}
    if node.backing_file:
        info |= _backing_info(t, node)
    return info


def _backing_info(t: Transition, node: Node) -> dict[str, Any]:
    """What the image itself says of its backing file."""
    info = {"backing-filename": node.backing_file}
    if is_absolute(node.backing_file):
        info["full-backing-filename"] = node.backing_file
    else:
        directory = dirname(t.nodes, node.name)
        if directory.refused_by is None:
            info["full-backing-filename"] = directory.path + node.backing_file
    if node.backing_format:
        info["backing-filename-format"] = node.backing_format
    return info


def _knows_actual_size(t: Transition, node: Node) -> bool:
    """Files and null nodes know what they take on disk; who has children asks them."""
    driver = driver_of(node.driver)
    if driver.is_protocol:
        return not node.children
    return all(
        _knows_actual_size(t, t.nodes[link.child])
        for link in node.children
        if not link.role & Role.COW
    )


def _names_of(t: Transition, perm: int) -> list[str]:
    shown = perm if t.ev.holds(GRAPH_MOD) else perm & ~Perm.GRAPH_MOD
    return [name for bit, name in _PERM_NAMES if shown & bit]


@takes()
def x_debug_query_block_graph(t: Transition, arguments: dict[str, Any]) -> dict[str, Any]:
    """Nodes and links, newest first, with the permissions of each link."""
    derived = Permissions(t.nodes, {})
    ids: dict[str, int] = {}

    def number(name: str) -> int:
        return ids.setdefault(name, len(ids) + 1)

    nodes = []
    edges = []
    users = list(t.users.values())
    backends = [user for user in users if user.kind == "block-backend"]
    for user in [*backends, *(u for u in reversed(users) if u.kind == "block-job")]:
        nodes.append({"id": number(user.key), "type": user.kind, "name": user.name})
        for name, child in user.links:
            _, use = t.used(user.key, name)
            edges.append(
                {
                    "name": use.label,
                    "parent": number(user.key),
                    "child": number(child),
                    "perm": _names_of(t, use.perm),
                    "shared-perm": _names_of(t, use.shared),
                }
            )
    for node in t.nodes.values():
        nodes.append({"id": number(node.name), "type": "block-driver", "name": node.name})
        for link in node.children:
            perm, shared = derived.grant(link.key)
            edges.append(
                {
                    "name": link.name,
                    "parent": number(node.name),
                    "child": number(link.child),
                    "perm": _names_of(t, perm),
                    "shared-perm": _names_of(t, shared),
                }
            )
    return {"nodes": nodes[::-1], "edges": edges[::-1]}

# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the options of a node, whether it is new or reopened.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.choices.drivers import CHILD
from strategies.choices.option_values import (
    REFUSED,
)

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Fault, Options

_REWRITES = 2


def file_below(options: Options) -> Options | None:
    """The file node's options under these, if all on the way down is inline."""
    seen: Any = options
    while isinstance(seen, dict):
        if seen.get("driver") == "file":
            return seen
        seen = seen.get("file", seen.get("image"))
    return None


def missing_reference(_scene: Scene, options: Options) -> bool:
    """A child that does not exist."""
    name = CHILD.get(options["driver"])
    if name is None:
        return False
    options[name] = "missing"
    return True


def missing_backing(_scene: Scene, options: Options) -> bool:
    """A backing file that does not exist."""
    if options["driver"] != "qcow2":
        return False
    options["backing"] = "missing"
    return True


def refused_value(scene: Scene, options: Options) -> bool:
    """An option value that the driver refuses."""
    refused = REFUSED[options["driver"]]
    if not refused:
        return False
    option = scene.choose.one_of(refused)
    options[option.name] = scene.choose.one_of(option.wrong)
    return True


def zeroes_without_discard(_scene: Scene, options: Options) -> bool:
    """detect-zeroes=unmap where discard=unmap is missing."""
    options["detect-zeroes"] = "unmap"
    options["discard"] = "ignore"
    return True


def shared_but_writable(_scene: Scene, options: Options) -> bool:
    """force-share on a node that is to be written."""
    options["force-share"] = True
    options["read-only"] = False
    return True


def unknown_group(_scene: Scene, options: Options) -> bool:
    """A throttle group that does not exist."""
    if options["driver"] != "throttle":
        return False
    options["throttle-group"] = "missing"
    return True


def native_without_direct(_scene: Scene, options: Options) -> bool:
    """aio=native without cache.direct."""
    if options["driver"] != "file":
        return False
    options["aio"] = "native"
    options["cache"] = {"direct": False}
    return True


def all_three_caches(_scene: Scene, options: Options) -> bool:
    """All three cache sizes of qcow2 at once."""
    if options["driver"] != "qcow2":
        return False
    options.update({"cache-size": 2**20, "l2-cache-size": 2**16, "refcount-cache-size": 2**18})
    return True


def cache_part_too_large(scene: Scene, options: Options) -> bool:
    """A part of qcow2's cache larger than the whole."""
    if options["driver"] != "qcow2":
        return False
    parts = ("l2-cache-size", "refcount-cache-size")
    for part in parts:
        options.pop(part, None)
    options["cache-size"] = 2**19
    options[scene.choose.one_of(parts)] = 2**20
    return True


def unclean_quorum(scene: Scene, options: Options) -> bool:
    """Quorum options that exclude each other."""
    if options["driver"] != "quorum":
        return False
    kind = scene.choose.integer(0, 3)
    if kind == 0:
        options.update({"read-pattern": "fifo", "rewrite-corrupted": True})
    elif kind == 1:
        options.update({"blkverify": True, "vote-threshold": 1})
    elif kind == _REWRITES:
        null = {"driver": "null-co", "read-zeroes": True}
        options["children"] = [null, dict(null)]
        options.update({"blkverify": True, "vote-threshold": 2, "rewrite-corrupted": True})
    else:
        options["children"] = []
    return True


def writable_over_read_only(scene: Scene, options: Options) -> bool:
    """A writable format over a read-only child, or the other way round for a reopen."""
    if options["driver"] != "qcow2":
        return False
    frozen = [node.name for node in scene.nodes if node.read_only and node.driver == "file"]
    if not frozen:
        return False
    options["file"] = scene.choose.one_of(frozen)
    options["read-only"] = False
    return True


def empty_cache(_scene: Scene, options: Options) -> bool:
    """An empty dictionary for an option that has members: it stays as an option of its own."""
    options["cache"] = {}
    return True


def wrong_bottom(scene: Scene, options: Options) -> bool:
    """A copy-on-read whose bottom does not exist, is a filter, or lies elsewhere."""
    if options["driver"] != "copy-on-read":
        return False
    options["bottom"] = scene.choose.one_of(["missing", *scene.names()])
    return True


ANY_OPTIONS: tuple[Fault, ...] = (
    refused_value,
    missing_reference,
    zeroes_without_discard,
    shared_but_writable,
    missing_backing,
    writable_over_read_only,
    empty_cache,
)
"""What can go wrong whatever the driver is."""

OWN_OPTIONS: dict[str, tuple[Fault, ...]] = {
    "blkdebug": (refused_value,),
    "copy-on-read": (wrong_bottom,),
    "file": (native_without_direct, refused_value),
    "null-aio": (refused_value,),
    "null-co": (refused_value,),
    "preallocate": (refused_value,),
    "qcow2": (all_three_caches, cache_part_too_large, *(refused_value,) * 4),
    "quorum": (unclean_quorum, unclean_quorum, refused_value),
    "raw": (refused_value,),
    "throttle": (unknown_group,),
}
"""What can go wrong with one driver only."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in a blockdev-add.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strategies.builders.add_node import file_over
from strategies.choices.drivers import CHILD
from strategies.choices.option_values import (
    OPTIONS,
)
from strategies.near_valid.wrong_options import ANY_OPTIONS, file_below

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Fault, Options


BAD_NAMES = ("", "1x", "a b", "#x", "x" * 32, "a/b", "n\u00e4me")


def duplicate_name(scene: Scene, options: Options) -> bool:
    """A name that another node has."""
    names = scene.names()
    if not names:
        return False
    options["node-name"] = scene.choose.one_of(names)
    return True


def bad_name(scene: Scene, options: Options) -> bool:
    """A name that no node may have."""
    options["node-name"] = scene.choose.one_of(BAD_NAMES)
    return True


def no_name(_scene: Scene, options: Options) -> bool:
    """No name for the node that the monitor would own."""
    options.pop("node-name", None)
    return True


def missing_file(scene: Scene, options: Options) -> bool:
    """A file that does not exist, or that is no file."""
    below = file_below(options)
    if below is None:
        return False
    below["filename"] = scene.choose.one_of(("missing.raw", ".", "", "/dev/null"))
    return True


def wrong_format(scene: Scene, options: Options) -> bool:
    """qcow2 over what is no qcow2 image."""
    raw = [image for image in scene.images if image.format == "raw"]
    options["driver"] = "qcow2"
    for own in OPTIONS.values():
        for option in own:
            options.pop(option.name, None)
    for name in ("image", "children", "test", "raw", "filename", "throttle-group", "bottom"):
        options.pop(name, None)
    if raw:
        options["file"] = file_over(scene, scene.choose.one_of(raw))
    else:
        options["file"] = {"driver": "null-co", "read-zeroes": True, "size": 2**20}
    return True


def same_name_twice(_scene: Scene, options: Options) -> bool:
    """A child inline with the name of its parent."""
    child = options.get(CHILD.get(options["driver"], ""))
    if not isinstance(child, dict) or "node-name" not in options:
        return False
    child["node-name"] = options["node-name"]
    return True


def limits_against_alignment(scene: Scene, options: Options) -> bool:
    """A blkdebug whose limits are no multiples of its alignment."""
    if options["driver"] != "blkdebug":
        return False
    options["align"] = 4096
    name = scene.choose.one_of(("max-transfer", "opt-write-zero", "max-write-zero", "max-discard"))
    options[name] = 512
    return True


def preallocation_against_alignment(_scene: Scene, options: Options) -> bool:
    """A preallocate node that goes by less than its child's alignment."""
    null: Options = {"driver": "null-co", "read-zeroes": True}
    name = options.get("node-name")
    options.clear()
    options.update({"driver": "preallocate", "node-name": name, "prealloc-align": 512})
    options["file"] = {"driver": "blkdebug", "align": 4096, "image": null}
    return True


def writer_of_a_part(scene: Scene, options: Options) -> bool:
    """Someone who may write but not resize, where the last block is not whole."""
    name = options.get("node-name")
    options.clear()
    below: Options = {"driver": "blkdebug", "align": 4096}
    below["image"] = {**file_over(scene, scene.take_image()), "locking": "off"}
    options.update({"driver": "blkdebug", "node-name": name, "image": below})
    options["take-child-perms"] = ["write"]
    return True


def odd_directory(scene: Scene, options: Options) -> bool:
    """A backing file name relative to a directory that the file's driver cannot tell."""
    backed = [image for image in scene.images if image.backing is not None]
    if not backed:
        return False
    name = options.get("node-name")
    options.clear()
    below = file_over(scene, scene.choose.one_of(backed))
    options.update({"driver": "qcow2", "node-name": name})
    options["file"] = {"driver": "quorum", "children": [below], "vote-threshold": 1}
    return True


def named_twice(scene: Scene, options: Options) -> bool:
    """A backing file that the image names, described as something that takes no name."""
    backed = [image for image in scene.images if image.backing is not None]
    if not backed:
        return False
    name = options.get("node-name")
    options.clear()
    below = file_over(scene, scene.choose.one_of(backed))
    options.update({"driver": "qcow2", "node-name": name, "file": below})
    names = scene.names()
    others: list[Options] = [
        {"driver": "null-co", "read-zeroes": True},
        {"driver": "raw", "file": {"driver": "null-co", "read-zeroes": True}},
        {"driver": "raw", "file": {**file_over(scene, scene.take_image()), "locking": "off"}},
    ]
    if names:
        others.append({"driver": "raw", "file": scene.choose.one_of(names)})
    options["backing"] = scene.choose.one_of(others)
    return True


def too_large(_scene: Scene, options: Options) -> bool:
    """A node longer than QEMU counts."""
    if options["driver"] not in ("null-co", "null-aio"):
        return False
    options["size"] = 2**63 - 1
    return True


NEW_OPTIONS: tuple[Fault, ...] = (
    *ANY_OPTIONS,
    duplicate_name,
    bad_name,
    no_name,
    missing_file,
    wrong_format,
    same_name_twice,
    limits_against_alignment,
    preallocation_against_alignment,
    writer_of_a_part,
    odd_directory,
    named_twice,
    too_large,
)

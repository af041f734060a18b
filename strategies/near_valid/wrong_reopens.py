# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the options of a node that is reopened.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.builders.add_node import file_over
from strategies.choices.drivers import CHILD
from strategies.choices.option_values import (
    FIXED,
    OPTIONS,
)
from strategies.near_valid.wrong_nodes import no_name
from strategies.near_valid.wrong_options import ANY_OPTIONS, file_below

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Fault, Options

_ONCE = ("active", "force-share")
"""Options after which a node is not reopened any more."""


def fixed_changed(scene: Scene, options: Options) -> bool:
    """An option that cannot change gets another value."""
    fixed = scene.known(options["driver"], FIXED[options["driver"]])
    options_ = [option for option in fixed if option.name not in _ONCE] or fixed
    option = scene.choose.one_of(options_)
    others = [value for value in option.good if value != options.get(option.name)]
    if not others:
        return False
    options[option.name] = scene.choose.one_of(others)
    return True


def fixed_omitted(scene: Scene, options: Options) -> bool:
    """An option that was given and cannot be taken back is left out."""
    fixed = [option.name for option in FIXED[options["driver"]]]
    given = [name for name in options if name in fixed and name != "vote-threshold"]
    if not given:
        return False
    del options[scene.choose.one_of(given)]
    return True


def other_driver(scene: Scene, options: Options) -> bool:
    """Another driver that takes the same options."""
    twins = {
        "null-co": "null-aio",
        "null-aio": "null-co",
        "compress": "copy-on-read",
        "copy-on-read": "compress",
        "preallocate": "compress",
        "raw": "preallocate",
        "throttle": "raw",
        "qcow2": "raw",
    }
    new = twins.get(options["driver"])
    if new is None:
        return False
    own = [option.name for option in OPTIONS[options["driver"]]]
    for name in (*own, "backing", "throttle-group", "bottom"):
        if name in options and new not in ("null-co", "null-aio"):
            del options[name]
    options["driver"] = new
    return scene is not None


def other_file(scene: Scene, options: Options) -> bool:
    """Another file name for an open file."""
    below = file_below(options)
    if below is None:
        return False
    names = [image.name for image in scene.images if image.name != below["filename"]]
    below["filename"] = scene.choose.one_of(["missing.raw", *names])
    return True


def missing_node(_scene: Scene, options: Options) -> bool:
    """A node that does not exist."""
    options["node-name"] = "missing"
    return True


def other_node(scene: Scene, options: Options) -> bool:
    """The name of another node: most of its options differ."""
    others = [name for name in scene.names() if name != options.get("node-name")]
    if not others:
        return False
    options["node-name"] = scene.choose.one_of(others)
    return True


def cycle(scene: Scene, options: Options) -> bool:
    """A child that lies above its parent."""
    name = str(options.get("node-name"))
    if name not in scene.state.nodes or options["driver"] not in CHILD:
        return False
    above = [each for each in scene.names() if name in scene.below(each)]
    if not above:
        return False
    child = CHILD[options["driver"]]
    if options["driver"] == "qcow2" and scene.choose.chance(70):
        child = "backing"
    options[child] = scene.choose.one_of(above)
    return True


def other_child(scene: Scene, options: Options) -> bool:
    """Another node for a child that cannot be exchanged, or that conflicts."""
    names = [x for x in scene.names() if x != options.get("node-name")]
    if not names:
        return False
    driver = options["driver"]
    if driver == "quorum":
        options["children"] = [scene.choose.one_of(names), *options["children"][1:]]
    elif driver == "blkverify":
        options[scene.choose.one_of(("test", "raw"))] = scene.choose.one_of(names)
    elif driver in ("blkdebug", "copy-on-read", "compress"):
        options[CHILD[driver]] = scene.choose.one_of(names)
    else:
        return False
    return True


def backing_omitted(_scene: Scene, options: Options) -> bool:
    """A backing file that is left out although there is one."""
    return options.pop("backing", None) is not None


def inline_stranger(scene: Scene, options: Options) -> bool:
    """A child described anew that inherits nothing from this parent."""
    name = CHILD.get(options["driver"])
    if name is None or not isinstance(options.get(name), str):
        return False
    child = scene.state.nodes.get(options[name])
    if child is None or child.driver != "file":
        return False
    options[name] = {"driver": "file", "filename": child.filename, "node-name": child.name}
    return True


def new_child(scene: Scene, options: Options) -> bool:
    """A child described as another node: a file of its own, inline."""
    name = CHILD.get(options["driver"])
    if name is None:
        return False
    options[name] = file_over(scene, scene.take_image())
    return True


def writers_lose(scene: Scene, options: Options) -> bool:
    """A node that somebody writes becomes read-only."""
    node = scene.state.nodes.get(str(options.get("node-name")))
    if node is None or node.read_only or not node.parents:
        return False
    options["read-only"] = True
    return True


def drivers_mixed_up(scene: Scene, options: Options) -> bool:
    """Options of a qcow2 or raw node for a node that is none: their links come up first."""
    node = scene.state.nodes.get(str(options.get("node-name")))
    if node is None or node.driver == "qcow2":
        return False
    others = [name for name in scene.names() if name != node.name]
    if not others:
        return False
    link = node.link("file")
    file: Any = options.get("file") if link else scene.choose.one_of(others)
    options.clear()
    options.update({"driver": "qcow2", "node-name": node.name, "file": file})
    if scene.choose.chance(50):
        options["backing"] = scene.choose.one_of(others)
    elif link is not None:
        options["driver"] = scene.choose.one_of(("raw", "qcow2"))
        options["file"] = scene.choose.one_of(others)
    return True


REOPENED_OPTIONS: tuple[Fault, ...] = (
    fixed_changed,
    fixed_omitted,
    cycle,
    *ANY_OPTIONS,
    missing_node,
    other_node,
    no_name,
    other_driver,
    other_file,
    other_child,
    backing_omitted,
    inline_stranger,
    writers_lose,
    new_child,
    drivers_mixed_up,
    drivers_mixed_up,
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Near-valid commands: exactly one thing is made wrong that the schema cannot see.

Each spoil takes a command that its builder holds to be right, changes one thing in
place and says whether it could. A table per command lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from strategies.adding import file_over
from strategies.catalogue import (
    CHILD,
    FIXED,
    IOTHREAD,
    LIMITS,
    OPTIONS,
    REFUSED,
    WRONG_IOTHREAD,
    WRONG_LIMITS,
)
from strategies.changing import spelled
from strategies.scene import Scene

Options = dict[str, Any]
Arguments = dict[str, Any]
OptionsSpoil = Callable[[Scene, Options], bool]
Spoil = Callable[[Scene, Arguments], bool]

BAD_NAMES = ("", "1x", "a b", "#x", "x" * 32, "a/b", "n\u00e4me")
_TRIES = 4


def spoil(scene: Scene, command: str, arguments: Arguments) -> None:
    """Make one thing wrong: spoils are tried from a drawn start until one applies."""
    spoils = SPOILS.get(command, ())
    if spoils:
        start = scene.choose.integer(0, len(spoils) - 1)
        any(each(scene, arguments) for each in (*spoils[start:], *spoils[:start]))


def _live(scene: Scene) -> list[str]:
    return [node.name for node in scene.nodes]


# Options of one node, new or reopened


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


def clashing_template(scene: Scene, options: Options) -> bool:
    """overlap-check given both ways in one dictionary is still right; a reopen resets the rest."""
    if options["driver"] != "qcow2":
        return False
    options["overlap-check"] = {"template": scene.choose.one_of(("all", "none"))}
    return True


def unclean_quorum(scene: Scene, options: Options) -> bool:
    """Quorum options that exclude each other."""
    if options["driver"] != "quorum":
        return False
    kind = scene.choose.integer(0, 2)
    if kind == 0:
        options.update({"read-pattern": "fifo", "rewrite-corrupted": True})
    elif kind == 1:
        options.update({"blkverify": True, "vote-threshold": 1})
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


_OPTIONS: tuple[OptionsSpoil, ...] = (
    refused_value,
    missing_reference,
    zeroes_without_discard,
    shared_but_writable,
    all_three_caches,
    native_without_direct,
    unknown_group,
    cache_part_too_large,
    refused_value,
    unclean_quorum,
    missing_backing,
    writable_over_read_only,
)


# blockdev-add only


def duplicate_name(scene: Scene, options: Options) -> bool:
    """A name that another node has."""
    names = _live(scene)
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
    below = _file_below(options)
    if below is None:
        return False
    below["filename"] = scene.choose.one_of(("missing.raw", ".", ""))
    return True


def _file_below(options: Options) -> Options | None:
    seen: Any = options
    while isinstance(seen, dict):
        if seen.get("driver") == "file":
            return seen
        seen = seen.get("file", seen.get("image"))
    return None


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


def wrong_bottom(scene: Scene, options: Options) -> bool:
    """A copy-on-read whose bottom does not exist, is a filter, or lies elsewhere."""
    if options["driver"] != "copy-on-read":
        return False
    options["bottom"] = scene.choose.one_of(["missing", *_live(scene)])
    return True


_NEW: tuple[OptionsSpoil, ...] = (
    *_OPTIONS,
    duplicate_name,
    bad_name,
    no_name,
    missing_file,
    wrong_format,
    same_name_twice,
    wrong_bottom,
)


# blockdev-reopen only


def fixed_changed(scene: Scene, options: Options) -> bool:
    """An option that cannot change gets another value."""
    fixed = FIXED[options["driver"]]
    options_ = [option for option in fixed if option.name != "force-share"] or list(fixed)
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
    below = _file_below(options)
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
    others = [name for name in _live(scene) if name != options.get("node-name")]
    if not others:
        return False
    options["node-name"] = scene.choose.one_of(others)
    return True


def cycle(scene: Scene, options: Options) -> bool:
    """A child that lies above its parent."""
    name = str(options.get("node-name"))
    if name not in scene.state.nodes or options["driver"] not in CHILD:
        return False
    above = [each for each in _live(scene) if name in scene.below(each)]
    if not above:
        return False
    child = CHILD[options["driver"]]
    if options["driver"] == "qcow2" and scene.choose.chance(70):
        child = "backing"
    options[child] = scene.choose.one_of(above)
    return True


def other_child(scene: Scene, options: Options) -> bool:
    """Another node for a child that cannot be exchanged, or that conflicts."""
    names = [x for x in _live(scene) if x != options.get("node-name")]
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


def empty_cache(_scene: Scene, options: Options) -> bool:
    """An empty dictionary for an option that has members: it stays as an option of its own."""
    options["cache"] = {}
    return True


def writers_lose(scene: Scene, options: Options) -> bool:
    """A node that somebody writes becomes read-only."""
    node = scene.state.nodes.get(str(options.get("node-name")))
    if node is None or node.read_only or not node.parents:
        return False
    options["read-only"] = True
    return True


_REOPEN: tuple[OptionsSpoil, ...] = (
    fixed_changed,
    fixed_omitted,
    cycle,
    *_OPTIONS,
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
    empty_cache,
)


def _add(scene: Scene, arguments: Arguments) -> bool:
    return _first(scene, _NEW, arguments)


def _reopen(scene: Scene, arguments: Arguments) -> bool:
    return _first(scene, _REOPEN, scene.choose.one_of(arguments["options"]))


def _first(scene: Scene, spoils: Sequence[OptionsSpoil], options: Options) -> bool:
    # Independent tries first: always taking the next one would favour those after many misfits.
    return any(scene.choose.one_of(spoils)(scene, options) for _ in range(_TRIES)) or any(
        each(scene, options) for each in spoils
    )


def _same_entry_twice(scene: Scene, arguments: Arguments) -> bool:
    """The same node twice in one transaction: the last entry counts."""
    entry = scene.choose.one_of(arguments["options"])
    arguments["options"] = [*arguments["options"], dict(entry)]
    return True


def _nothing(_scene: Scene, arguments: Arguments) -> bool:
    """An empty transaction."""
    arguments["options"] = []
    return True


# The other commands


def _wrong(*keys: str) -> Spoil:
    """The value of one of ``keys`` becomes a name that nothing has."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        arguments[scene.choose.one_of(keys)] = "missing"
        return True

    return apply


def _any_node(*keys: str) -> Spoil:
    """The value of one of ``keys`` becomes any node, used or not, of any driver."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        names = _live(scene)
        if not names:
            return False
        arguments[scene.choose.one_of(keys)] = scene.choose.one_of(names)
        return True

    return apply


def _child_and_node(scene: Scene, arguments: Arguments) -> bool:
    """Both a child and a node, or neither."""
    if scene.choose.chance(50):
        arguments.update({"child": "children.0", "node": "missing"})
    else:
        arguments.pop("child", None)
        arguments.pop("node", None)
    return True


def _no_such_child(scene: Scene, arguments: Arguments) -> bool:
    """A child that a quorum does not have."""
    arguments.pop("node", None)
    arguments["child"] = scene.choose.one_of(("children.9", "file", ""))
    return True


def _bad_size(scene: Scene, arguments: Arguments) -> bool:
    """A size that no image can have."""
    arguments["size"] = scene.choose.one_of((-1, 2**63 - 512))
    return True


def _device(scene: Scene, arguments: Arguments) -> bool:
    """A device name, which nothing has in a storage daemon, with or without the node's."""
    arguments["device"] = scene.choose.one_of(("missing", arguments.get("node-name", "missing")))
    if scene.choose.chance(60):
        arguments.pop("node-name", None)
    return True


def _no_node(_scene: Scene, arguments: Arguments) -> bool:
    """Neither a device nor a node."""
    arguments.pop("node-name", None)
    return True


def _duplicate_id(scene: Scene, arguments: Arguments) -> bool:
    """An identifier that another object has."""
    ids = [*scene.groups(), *scene.iothreads()]
    if not ids:
        return False
    arguments["id"] = scene.choose.one_of(ids)
    return True


def _bad_id(scene: Scene, arguments: Arguments) -> bool:
    """An identifier that no object may have."""
    arguments["id"] = scene.choose.one_of(("", "1x", "a b", "#x", "tg/0"))
    return True


def _refused_properties(scene: Scene, arguments: Arguments) -> bool:
    """Limits or properties that exclude each other or are out of range."""
    choose = scene.choose
    name, kind = arguments["id"], arguments["qom-type"]
    arguments.clear()
    arguments.update({"qom-type": kind, "id": name})
    if kind == "iothread":
        arguments.update(choose.one_of(WRONG_IOTHREAD))
    else:
        arguments.update(spelled(choose.one_of(WRONG_LIMITS), as_properties=choose.chance(50)))
    return True


def _limits_twice(scene: Scene, arguments: Arguments) -> bool:
    """Limits given both ways at once."""
    if arguments["qom-type"] != "throttle-group":
        return False
    choose = scene.choose
    arguments.update(spelled(choose.one_of(LIMITS), as_properties=True))
    arguments.update(spelled(choose.one_of(LIMITS), as_properties=False))
    return True


def _spare_property(scene: Scene, arguments: Arguments) -> bool:
    """Other properties of an iothread, in the wrong object or not."""
    if arguments["qom-type"] != "iothread":
        return False
    arguments.update(scene.choose.one_of(IOTHREAD))
    arguments["poll-max-ns"] = -1
    return True


SPOILS: dict[str, tuple[Spoil, ...]] = {
    "blockdev-add": (_add,),
    "blockdev-reopen": (_reopen,) * 12 + (_same_entry_twice, _nothing),
    "blockdev-del": (_wrong("node-name"), _any_node("node-name")),
    "blockdev-snapshot": (
        _wrong("node", "overlay"),
        _any_node("overlay"),
        _any_node("node", "overlay"),
    ),
    "x-blockdev-change": (
        _wrong("parent", "node"),
        _any_node("parent"),
        _any_node("node"),
        _child_and_node,
        _no_such_child,
    ),
    "block_resize": (_wrong("node-name"), _bad_size, _device, _no_node, _any_node("node-name")),
    "object-add": (
        _duplicate_id,
        _bad_id,
        _refused_properties,
        _refused_properties,
        _limits_twice,
        _spare_property,
    ),
    "object-del": (_wrong("id"),),
}

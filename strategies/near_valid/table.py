# SPDX-License-Identifier: GPL-2.0-or-later
"""Near-valid commands: exactly one thing is made wrong that the schema cannot see.

Each spoil takes the arguments of a command that its builder holds to be right, changes
one thing in place and says whether it could. A table per command lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from strategies.builders.current_options import described
from strategies.builders.devices import DELETION_SPOILS, DEVICE_SPOILS
from strategies.builders.graph_commands import spelled
from strategies.builders.scene import Scene, generated, idle
from strategies.choices.option_values import (
    FAR,
    FILTERS,
    IOTHREAD,
    LARGEST,
    LIMITS,
    OPTIONS,
    REOPENABLE,
    WRONG_IOTHREAD,
    WRONG_LIMITS,
)
from strategies.choices.weights import OWN_FAULT
from strategies.near_valid.wrong_jobs import JOB_SPOILS
from strategies.near_valid.wrong_nodes import NEW_OPTIONS
from strategies.near_valid.wrong_options import OWN_OPTIONS, OptionsSpoil
from strategies.near_valid.wrong_reopens import REOPENED_OPTIONS

Options = dict[str, Any]
Arguments = dict[str, Any]
Spoil = Callable[[Scene, Arguments], bool]

_TRIES = 4


def spoil(scene: Scene, command: str, arguments: Arguments) -> None:
    """Make one thing wrong: spoils are tried from a drawn start until one applies."""
    spoils = SPOILS.get(command, ())
    if spoils:
        start = scene.choose.integer(0, len(spoils) - 1)
        any(each(scene, arguments) for each in (*spoils[start:], *spoils[:start]))


def _add(scene: Scene, arguments: Arguments) -> bool:
    return arguments["driver"] in OPTIONS and _first(scene, NEW_OPTIONS, arguments)


def _reopen(scene: Scene, arguments: Arguments) -> bool:
    return _first(scene, REOPENED_OPTIONS, scene.choose.one_of(arguments["options"]))


def _first(scene: Scene, spoils: Sequence[OptionsSpoil], options: Options) -> bool:
    own = OWN_OPTIONS.get(options["driver"])
    if own and scene.choose.chance(OWN_FAULT) and scene.choose.one_of(own)(scene, options):
        return True
    # Independent tries first: always taking the next one would favour those after many misfits.
    return any(scene.choose.one_of(spoils)(scene, options) for _ in range(_TRIES)) or any(
        each(scene, options) for each in spoils
    )


def _same_entry_twice(scene: Scene, arguments: Arguments) -> bool:
    """The same node twice in one transaction: the last entry counts."""
    entry = scene.choose.one_of(arguments["options"])
    arguments["options"] = [*arguments["options"], dict(entry)]
    return True


def _same_entry_otherwise(scene: Scene, arguments: Arguments) -> bool:
    """The same qcow2 node twice, with an option spelled in two ways that exclude each other."""
    formats = [node for node in scene.nodes if node.driver == "qcow2"]
    if not formats:
        return False
    one = described(scene, scene.choose.one_of(formats))
    other = {**one, "overlap-check": {"template": "none"}}
    arguments["options"] = [{**one, "overlap-check": "all"}, other]
    return True


def _frozen_child(scene: Scene, arguments: Arguments) -> bool:
    """Another child in the place of one that a copy-on-read has frozen."""
    frozen = [
        link
        for node in scene.nodes
        for link in node.children
        if link.frozen and node.driver in REOPENABLE
    ]
    if not frozen:
        return False
    link = scene.choose.one_of(frozen)
    options = described(scene, scene.state.nodes[link.parent])
    others = [node.name for node in scene.not_above(link.parent) if node.name != link.child]
    options[link.name] = scene.choose.one_of(others) if others else None
    arguments["options"] = [options]
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
        names = scene.names()
        if not names:
            return False
        arguments[scene.choose.one_of(keys)] = scene.choose.one_of(names)
        return True

    return apply


def _backed_overlay(scene: Scene, arguments: Arguments) -> bool:
    """An overlay that has a backing file already, or is a filter."""
    names = [
        node.name
        for node in scene.nodes
        if idle(node) and (node.link("backing") or node.driver in FILTERS)
    ]
    if not names:
        return False
    arguments["overlay"] = scene.choose.one_of(names)
    return True


def _under_a_frozen_link(scene: Scene, arguments: Arguments) -> bool:
    """A node that a copy-on-read wants to keep where it is."""
    names = [
        link.child
        for node in scene.nodes
        for link in node.children
        if link.frozen and not generated(link.child)
    ]
    if not names:
        return False
    arguments["node"] = scene.choose.one_of(names)
    return True


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
    node = scene.state.nodes.get(str(arguments.get("node-name")))
    sizes = [-1, 2**63 - 512]
    if node is not None and node.driver == "qcow2":
        sizes += [2**62, 1000]
    far = [
        each.name
        for each in scene.nodes
        if each.driver == "raw" and int(each.options.get("offset", 0)) >= FAR
    ]
    if far:
        arguments["node-name"] = scene.choose.one_of(far)
        sizes = [LARGEST]
    arguments["size"] = scene.choose.one_of(sizes)
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
    "blockdev-reopen": (
        *(_reopen,) * 12,
        _same_entry_twice,
        _same_entry_otherwise,
        _frozen_child,
        _nothing,
    ),
    "blockdev-del": (_wrong("node-name"), _any_node("node-name")),
    "blockdev-snapshot": (
        _wrong("node", "overlay"),
        _any_node("overlay"),
        _any_node("node", "overlay"),
        _backed_overlay,
        _under_a_frozen_link,
        _under_a_frozen_link,
    ),
    "x-blockdev-change": (
        _wrong("parent", "node"),
        _any_node("parent"),
        _any_node("node"),
        _child_and_node,
        _no_such_child,
    ),
    "block_resize": (
        _wrong("node-name"),
        _bad_size,
        _bad_size,
        _device,
        _no_node,
        _any_node("node-name"),
    ),
    "device_add": DEVICE_SPOILS,
    "device_del": DELETION_SPOILS,
    "object-add": (
        _duplicate_id,
        _bad_id,
        _refused_properties,
        _refused_properties,
        _limits_twice,
        _spare_property,
    ),
    "object-del": (_wrong("id"),),
    **JOB_SPOILS,
}

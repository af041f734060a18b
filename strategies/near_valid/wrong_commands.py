# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in a command that adds, reopens or rearranges nodes, or makes objects.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strategies.builders.current_options import described
from strategies.builders.graph_commands import spelled
from strategies.builders.situation import generated, idle
from strategies.choices.drivers import FILTERS, REOPENABLE
from strategies.choices.option_values import (
    FAR,
    IOTHREAD,
    LARGEST,
    LIMITS,
    OPTIONS,
    WRONG_IOTHREAD,
    WRONG_LIMITS,
)
from strategies.choices.weights import OWN_FAULT
from strategies.near_valid.fault import any_node, said, unknown_name
from strategies.near_valid.wrong_nodes import NEW_OPTIONS
from strategies.near_valid.wrong_options import OWN_OPTIONS
from strategies.near_valid.wrong_reopens import REOPENED_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Arguments, Fault, Options

_TRIES = 4


def _first(scene: Scene, faults: Sequence[Fault], options: Options) -> bool:
    own = OWN_OPTIONS.get(options["driver"])
    if own and scene.choose.chance(OWN_FAULT) and scene.choose.one_of(own)(scene, options):
        return True
    # Independent tries first: always taking the next one would favour those after many misfits.
    return any(scene.choose.one_of(faults)(scene, options) for _ in range(_TRIES)) or any(
        each(scene, options) for each in faults
    )


def _options_of(arguments: Arguments) -> list[Options]:
    """The options of each node that a command is about."""
    listed: list[Options] | None = arguments.get("options")
    return [arguments] if listed is None else listed


def _of_a_node(faults: Sequence[Fault]) -> Fault:
    """Something about the options of one node."""

    def wrong_options(scene: Scene, arguments: Arguments) -> bool:
        options = scene.choose.one_of(_options_of(arguments))
        return options["driver"] in OPTIONS and _first(scene, faults, options)

    own = (fault for each in OWN_OPTIONS.values() for fault in each)
    wrong_options.__doc__ = "\n".join(dict.fromkeys(said(each) for each in (*faults, *own)))
    return wrong_options


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


ADDITION_FAULTS: Final[tuple[Fault, ...]] = (_of_a_node(NEW_OPTIONS),)

REOPEN_FAULTS: Final[tuple[Fault, ...]] = (
    *(_of_a_node(REOPENED_OPTIONS),) * 12,
    _same_entry_twice,
    _same_entry_otherwise,
    _frozen_child,
    _nothing,
)

DELETION_FAULTS: Final[tuple[Fault, ...]] = (unknown_name("node-name"), any_node("node-name"))

SNAPSHOT_FAULTS: Final[tuple[Fault, ...]] = (
    unknown_name("node", "overlay"),
    any_node("overlay"),
    any_node("node", "overlay"),
    _backed_overlay,
    _under_a_frozen_link,
    _under_a_frozen_link,
)

QUORUM_FAULTS: Final[tuple[Fault, ...]] = (
    unknown_name("parent", "node"),
    any_node("parent"),
    any_node("node"),
    _child_and_node,
    _no_such_child,
)

RESIZE_FAULTS: Final[tuple[Fault, ...]] = (
    unknown_name("node-name"),
    _bad_size,
    _bad_size,
    _device,
    _no_node,
    any_node("node-name"),
)

OBJECT_FAULTS: Final[tuple[Fault, ...]] = (
    _duplicate_id,
    _bad_id,
    _refused_properties,
    _refused_properties,
    _limits_twice,
    _spare_property,
)

OBJECT_DELETION_FAULTS: Final[tuple[Fault, ...]] = (unknown_name("id"),)

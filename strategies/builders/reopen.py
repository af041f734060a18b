# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of blockdev-reopen: each starts from the current options and changes a few things.

A builder returns the list of options that the command takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.builders.add_node import settle
from strategies.builders.current_options import described
from strategies.builders.situation import generated, idle
from strategies.choices.drivers import CHILD, REOPENABLE, WRAPPERS
from strategies.choices.option_values import (
    LIVE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.values.state import Node
    from strategies.builders.scene import Scene

Options = dict[str, Any]

_MOST_CHANGES = 3
_TOGGLED = 40
_PAIR = 2


def _reopens(node: Node) -> bool:
    return node.driver in REOPENABLE


def change_options(scene: Scene, options: Options, node: Node) -> Options:
    """Change or take back up to three options that may change at run time."""
    choose = scene.choose
    live = scene.known(node.driver, LIVE[node.driver])
    for _ in range(choose.integer(1, _MOST_CHANGES)):
        option = choose.one_of(live)
        if option.name == "read-only":
            if choose.chance(_TOGGLED):
                options["read-only"] = not node.read_only
        elif option.name in options and choose.chance(_TOGGLED):
            del options[option.name]
        else:
            options[option.name] = choose.one_of(option.good)
    if node.driver == "throttle" and choose.chance(_TOGGLED):
        options["throttle-group"] = choose.one_of(scene.groups())
    return settle_reopen(options, node)


def settle_reopen(options: Options, node: Node) -> Options:
    """Like `settle`, but what a reopen cannot change stays as it was given."""
    if options["driver"] == "quorum" or "force-share" in options:
        return options
    kept = node.explicit.get("aio")
    return options if kept == "native" and "cache" not in options else settle(options)


def one(scene: Scene) -> list[Options]:
    """Other options for one node."""
    node = _pick(scene, scene.nodes)
    return [change_options(scene, described(scene, node), node)]


def as_it_is(scene: Scene) -> list[Options]:
    """One node with the options it has: nothing changes, and everything is checked."""
    return [described(scene, _pick(scene, scene.nodes))]


def less(scene: Scene) -> list[Options]:
    """One node with some of its options left out: they are reset, or the command is refused."""
    node = _pick(scene, scene.nodes)
    options = described(scene, node)
    live = {option.name for option in LIVE[node.driver]}
    given = [name for name in options if name in live]
    if not given:
        return [change_options(scene, options, node)]
    for name in scene.choose.some(given, len(given)) or given[:1]:
        del options[name]
    return [settle_reopen(options, node)]


def backing(scene: Scene) -> list[Options]:
    """One qcow2 node with another backing file: a node, none, or as it is but omitted."""
    choose = scene.choose
    formats = [node for node in scene.nodes if node.driver == "qcow2"]
    if not formats:
        return one(scene)
    node = choose.one_of(formats)
    options = described(scene, node)
    others = [each for each in scene.not_above(node.name) if each.name != node.name]
    new = scene.pick(others, lambda each: idle(each) and each.driver != "file")
    if new is None or choose.chance(25):
        options["backing"] = None
    else:
        options["backing"] = new.name
    return [options if choose.chance(60) else change_options(scene, options, node)]


def file(scene: Scene) -> list[Options]:
    """One node with another file: mostly a filter put in over it, or taken out."""
    choose = scene.choose
    owners = [node for node in scene.nodes if node.link("file") or node.link("image")]
    node = scene.pick(owners, _reopens)
    if node is None:
        return one(scene)
    options = described(scene, node)
    name = CHILD[node.driver]
    link = node.link(name)
    old = scene.state.nodes[link.child] if link else node
    candidates = [each for each in scene.not_above(node.name) if each is not node]
    # Another image under a qcow2 node is garbage to it, which is not what is tested here.
    same = [each for each in candidates if _same_bytes(scene, each, old)]
    new = scene.pick(same if node.driver == "qcow2" else candidates, lambda each: each is not old)
    if new is not None:
        options[name] = new.name
    return [options if choose.chance(70) else change_options(scene, options, node)]


def _same_bytes(scene: Scene, new: Node, old: Node) -> bool:
    """Whether two nodes show the same bytes of the same image."""
    return _floor(scene, new) == _floor(scene, old)


def _floor(scene: Scene, node: Node) -> str:
    seen = node
    while seen.driver in WRAPPERS:
        link = seen.link(CHILD[seen.driver])
        if link is None:
            break
        seen = scene.state.nodes[link.child]
    return seen.name


def several(scene: Scene) -> list[Options]:
    """Two or three nodes in one transaction, parents and children among them."""
    choose = scene.choose
    first = _pick(scene, scene.nodes)
    entries = [change_options(scene, described(scene, first, inline=10), first)]
    related = scene.below(first.name)
    for _ in range(choose.integer(1, 2)):
        near = [node for node in scene.nodes if node.name in related and node is not first]
        node = _pick(scene, near if near and choose.chance(60) else scene.nodes)
        options = described(scene, node, inline=10)
        if choose.chance(70):
            options = change_options(scene, options, node)
        entries.append(options)
    if choose.chance(50):
        _agree(entries, read_only=choose.chance(50))
    return entries if choose.chance(50) else entries[::-1]


def _agree(entries: Sequence[Options], *, read_only: bool) -> None:
    """Let all nodes become read-only, or all writable, together."""
    for options in entries:
        options["read-only"] = read_only


def swap_backing(scene: Scene) -> list[Options]:
    """Two qcow2 nodes whose backing files change in one transaction."""
    choose = scene.choose
    formats = [node for node in scene.nodes if node.driver == "qcow2"]
    if len(formats) < _PAIR:
        return backing(scene)
    first = formats.pop(choose.integer(0, len(formats) - 1))
    second = formats.pop(choose.integer(0, len(formats) - 1))
    one_, other = described(scene, first), described(scene, second)
    if choose.chance(40):
        one_["backing"], other["backing"] = other.get("backing"), one_.get("backing")
    elif choose.chance(50):
        one_["backing"], other["backing"] = second.name, None
    else:
        one_["backing"] = None
    # A dictionary describes a child that inherits from its own parent only.
    for options in (one_, other):
        if isinstance(options.get("backing"), dict):
            options["backing"] = options["backing"].get("node-name")
    return [one_, other]


def children(scene: Scene) -> list[Options]:
    """One node with all children that inherit described anew, and changed there."""
    choose = scene.choose
    owners = [
        node
        for node in scene.nodes
        if any(scene.state.nodes[x.child].inherits_from == node.name for x in node.children)
    ]
    node = scene.pick(owners, _reopens)
    if node is None:
        return one(scene)
    options = described(scene, node, inline=100)
    for link in node.children:
        child = options.get(link.name)
        if isinstance(child, dict):
            inner = scene.shown(link.child)
            if choose.chance(60):
                change_options(scene, child, inner)
            if choose.chance(15) and not generated(inner.name):
                child.pop("node-name", None)
    return [options]


def _pick(scene: Scene, candidates: Sequence[Node]) -> Node:
    node = scene.pick(candidates, _reopens)
    if node is None:
        raise LookupError("there is no node to reopen")
    return node

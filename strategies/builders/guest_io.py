# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of what a guest does: reads and writes, by commands of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.values.trace import READ, WRITE
from strategies.builders.situation import generated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.values.state import BlockState, Node
    from model.values.trace import Command
    from strategies.builders.scene import Scene

MOST_BYTES: Final = 8 << 20
"""No guest reads more at once, and no job copies more."""

_CLUSTER = 65536


def read(name: str) -> Command:
    """The command by which a guest reads all of a node."""
    return {"execute": READ, "arguments": {"node": name}}


def read_one(scene: Scene) -> Command:
    """A read of some node, mostly of one on top."""
    node = scene.pick(scene.everything, lambda each: not each.parents)
    return read(node.name if node else "missing")


def write_one(scene: Scene) -> Command:
    """A write to some node, mostly of whole clusters."""
    choose = scene.choose
    filters = [node for node in scene.everything if node not in scene.nodes]
    careful = [node for node in scene.nodes if node.detect_zeroes != "off"]
    candidates: Sequence[Node] = scene.everything
    if filters and choose.chance(60):
        candidates = filters
    elif careful and choose.chance(60):
        candidates = careful
    node = scene.pick(candidates, lambda each: not each.parents and not each.read_only)
    name = node.name if node else "missing"
    arguments: dict[str, Any] = {"node": name, "offset": 0, "length": 512}
    length = scene.length(node.name) if node else 0
    if length >= _CLUSTER:
        clusters = length // _CLUSTER
        first = choose.integer(0, clusters - 1)
        count = choose.integer(1, min(4, clusters - first))
        arguments.update({"offset": first * _CLUSTER, "length": count * _CLUSTER})
        if choose.chance(30):
            arguments.update({"offset": first * _CLUSTER + 1024, "length": 4096})
    detects = node is not None and node.detect_zeroes != "off"
    arguments["pattern"] = 0 if choose.chance(60 if detects else 15) else choose.byte()
    return {"execute": WRITE, "arguments": arguments}


def on_top(state: BlockState) -> list[str]:
    """The nodes that a guest would read: those with names that no other node has above it."""
    return [
        node.name
        for node in state.nodes.values()
        if not generated(node.name)
        and all(key[0] not in state.nodes or generated(key[0]) for key in node.parents)
    ]

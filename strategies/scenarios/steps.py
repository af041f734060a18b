# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

from model.values.trace import Command
from strategies.builders.scene import Scene
from strategies.builders.situation import idle

Corner = Callable[[Scene], Command | None]
"""The next command on the way into a corner, or None where there is no way from here."""

_MIB = 1 << 20
_CLUSTER = 65536
CHUNK = 8 * _CLUSTER
"""What a job that is limited to a rate copies before it sleeps."""


def add(scene: Scene, **options: Any) -> Command:
    """blockdev-add of a node with a new name."""
    arguments = {key.replace("_", "-"): value for key, value in options.items()}
    return {"execute": "blockdev-add", "arguments": {"node-name": scene.fresh_name(), **arguments}}


def do(command: str, **arguments: Any) -> Command:
    """A command, its arguments spelled as in Python."""
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": command, "arguments": plain}


def null(size: int = _MIB) -> dict[str, Any]:
    """The options of a node that reads as zeroes."""
    return {"driver": "null-co", "read-zeroes": True, "size": size}


def null_node(scene: Scene, size: int) -> str | None:
    """An idle null node of a length, which takes whatever is copied to it."""
    found = (x for x in scene.nodes if idle(x) and not x.read_only and x.driver == "null-co")
    return next((node.name for node in found if scene.length(node.name) == size), None)


def tower(scene: Scene, base: dict[str, Any], *, read_only: bool = True) -> Command | None:
    """Two images of which nobody has opened one yet, the lower with much data, over a base."""
    free = [x for x in scene.images if x.format == "qcow2" and not scene.is_open(x)]
    lower = [x for x in free if x.extents and x.extents[-1][1] > CHUNK]
    pairs = [(one, other) for one in free for other in lower if one is not other]
    if not pairs:
        return None
    files = [
        {"driver": "qcow2", "file": {"driver": "file", "filename": image.name}}
        for image in scene.choose.one_of(pairs)
    ]
    middle = {**files[1], "node-name": scene.fresh_name(), "read-only": read_only}
    return add(scene, **files[0], backing={**middle, "backing": base})


def any_of(*corners: Corner) -> Callable[[Scene], Command]:
    """The next command into one of some corners; a look at the jobs where there is none."""

    def corner(scene: Scene) -> Command:
        # An example mostly keeps to one of them, which its images choose: each takes several steps.
        favourite = crc32(",".join(scene.state.images).encode()) % len(corners)
        way = scene.choose.one_of(corners) if scene.choose.chance(20) else corners[favourite]
        return way(scene) or {"execute": "query-jobs"}

    names = ", ".join(dict.fromkeys(each.__name__.replace("_", " ") for each in corners))
    corner.__doc__ = f"The next command into a corner: {names}."
    return corner

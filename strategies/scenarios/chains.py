# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios of commits in a chain of images; see :mod:`strategies.scenarios.graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.values.private import RawState
from strategies.builders.current_options import described
from strategies.builders.exports import server_start
from strategies.builders.situation import describable, generated, idle
from strategies.scenarios.steps import do, null, tower

if TYPE_CHECKING:
    from model.values.trace import Command
    from strategies.builders.scene import Scene

_THREE = 3
_SECTOR = 512
_GROWN = 4 << 20


def written_top(scene: Scene) -> Command | None:
    """A commit from the middle of a chain where somebody writes."""
    exported = {export.user for export in scene.state.exports.values()}
    for node in scene.nodes:
        layers = scene.layers(node.name)
        if len(layers) < _THREE or not idle(node):
            continue
        middle = layers[1]
        users = [key for key in middle.parents if key[0] in exported]
        if users:
            name = scene.fresh_id("j")
            return do(
                "block-commit",
                job_id=name,
                device=node.name,
                top_node=middle.name,
                base_node=layers[2].name,
                backing_file="other.qcow2",
            )
        if scene.state.nbd_server is None:
            return server_start()
        if middle.read_only:
            options = {**described(scene, middle, inline=0), "read-only": False}
            return do("blockdev-reopen", options=[options])
        return do(
            "block-export-add",
            type="nbd",
            id=scene.fresh_id("e"),
            node_name=middle.name,
            writable=True,
        )
    return tower(scene, null(_GROWN))


def shortened_base(scene: Scene) -> Command | None:
    """A commit that goes on into a base which became shorter while the job was paused."""
    for job in scene.jobs():
        base = scene.state.nodes.get(getattr(job.body, "base", ""))
        if job.status != "paused" or job.type != "commit" or base is None:
            continue
        if isinstance(base.private, RawState) and describable(base):
            if scene.length(base.name) <= _SECTOR:
                return do("job-resume", id=job.id)
            options = {**described(scene, base, inline=0), "size": _SECTOR}
            return do("blockdev-reopen", options=[options])
    for node in scene.nodes:
        images = [each for each in scene.layers(node.name) if each.driver == "qcow2"]
        below = images[-1].link("backing") if images else None
        if idle(node) and len(images) > 1 and below is not None and not generated(below.child):
            return do(
                "block-commit",
                job_id=scene.fresh_id("j"),
                device=node.name,
                top_node=images[-1].name,
                on_error=scene.choose.one_of(("report", "stop", "enospc")),
                speed=1,
            )
    window = {"driver": "raw", "node-name": scene.fresh_name(), "file": null(_GROWN)}
    return tower(scene, window)


CHAIN_CORNERS = (written_top, shortened_base)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that get in the way of a living job, or of a link that something has frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.builders import jobs
from strategies.builders.current_options import described
from strategies.builders.reopen import change_options
from strategies.builders.situation import describable, generated, idle

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.values.state import Link, Node
    from model.values.trace import Command
    from strategies.builders.scene import Scene

Options = dict[str, Any]


def busy_nodes(scene: Scene) -> list[Node]:
    """The nodes that jobs hold on to, and those right above and below; each once."""
    state = scene.state
    names: list[str] = []
    for job in scene.jobs():
        for name in scene.held(job):
            names.append(name)
            node = state.nodes[name]
            names += [link.child for link in node.children]
            names += [key[0] for key in node.parents if key[0] in state.nodes]
    return [state.nodes[name] for name in dict.fromkeys(names) if not generated(name)]


def frozen(scene: Scene) -> list[Link]:
    """The frozen links, in the order of the nodes."""
    return [link for link in scene.state.links() if link.frozen]


def reopen_frozen(scene: Scene) -> list[Options]:
    """blockdev-reopen with another child behind a frozen link."""
    links = [link for link in frozen(scene) if describable(scene.state.nodes[link.parent])]
    return [_thawed(scene, scene.choose.one_of(links))] if links else reopen(scene)


def reopen(scene: Scene) -> list[Options]:
    """blockdev-reopen of a node that a job works on, or right beside one."""
    choose = scene.choose
    nodes = [node for node in busy_nodes(scene) if describable(node)] or list(scene.nodes)
    node = choose.one_of(nodes)
    options = described(scene, node)
    if node.driver == "qcow2" and choose.chance(25):
        others = [each.name for each in scene.not_above(node.name) if each.name != node.name]
        options["backing"] = choose.one_of([None, *others])
    if choose.chance(70):
        options = change_options(scene, options, node)
    return [options]


def _thawed(scene: Scene, link: Link) -> Options:
    """Another child, or none, in the place of one behind a frozen link."""
    options = described(scene, scene.state.nodes[link.parent])
    others = [
        x.name for x in scene.not_above(link.parent) if x.name not in (link.child, link.parent)
    ]
    if (link.name == "backing" and scene.choose.chance(35)) or not others:
        options[link.name] = None
    else:
        options[link.name] = scene.choose.one_of(others)
    return options


def delete(scene: Scene) -> Command:
    """blockdev-del of a node that a job works on."""
    name = _one(scene, [node.name for node in busy_nodes(scene)])
    return {"execute": "blockdev-del", "arguments": {"node-name": name}}


def snapshot(scene: Scene) -> Command:
    """blockdev-snapshot of a node that a job works on, or that hangs on a frozen link."""
    held = [link.child for link in frozen(scene) if not generated(link.child)]
    held += [node.name for node in busy_nodes(scene)]
    overlays = [
        node.name
        for node in scene.nodes
        if node.driver == "qcow2" and idle(node) and node.link("backing") is None
    ]
    arguments = {"node": _one(scene, held), "overlay": _one(scene, overlays)}
    return {"execute": "blockdev-snapshot", "arguments": arguments}


def change(scene: Scene) -> Command:
    """x-blockdev-change of a quorum whose children a job works on, or with such a node."""
    quorums = [node for node in scene.nodes if node.driver == "quorum"]
    parent = _one(scene, [node.name for node in quorums])
    arguments: dict[str, Any] = {"parent": parent}
    node = scene.state.nodes.get(parent)
    if node is not None and node.children and scene.choose.chance(50):
        arguments["child"] = scene.choose.one_of(node.children).name
    else:
        arguments["node"] = _one(scene, [node.name for node in busy_nodes(scene)])
    return {"execute": "x-blockdev-change", "arguments": arguments}


def resize(scene: Scene) -> Command:
    """block_resize of a node that a job works on."""
    name = _one(scene, [node.name for node in busy_nodes(scene)])
    size = scene.choose.one_of((1 << 20, 2 << 20, 3 << 20))
    return {"execute": "block_resize", "arguments": {"node-name": name, "size": size}}


def another_job(scene: Scene) -> Command:
    """One more job on the nodes of a living one."""
    choose = scene.choose
    names = [node.name for node in busy_nodes(scene)]
    command, build = choose.one_of(_STARTS)
    arguments = build(scene)
    if choose.chance(60):
        arguments["device"] = _one(scene, names)
    elif "target" in arguments:
        arguments["target"] = _one(scene, names)
    elif choose.chance(50):
        for key in ("base", "bottom"):
            arguments.pop(key, None)
        arguments["base-node"] = _one(scene, names)
    arguments.pop("speed", None)
    return {"execute": command, "arguments": arguments}


def add_above(scene: Scene) -> Command:
    """blockdev-add of a copy-on-read over a chain, down to a bottom in it."""
    nodes = [node.name for node in busy_nodes(scene)]
    filters = [node.name for node in scene.everything if node.never_frozen]
    if filters and scene.choose.chance(50):
        nodes = filters
    options: dict[str, Any] = {
        "driver": scene.choose.one_of(("copy-on-read", "copy-on-read", "raw", "throttle")),
        "node-name": scene.fresh_name(),
        "file": _one(scene, nodes),
        "read-only": scene.choose.chance(50),
    }
    if options["driver"] == "throttle":
        groups = scene.groups()
        if groups:
            options["throttle-group"] = scene.choose.one_of(groups)
        else:
            options["driver"] = "raw"
    below = [node.name for node in scene.layers(options["file"])] if nodes else []
    if options["driver"] == "copy-on-read" and below and scene.choose.chance(70):
        options["bottom"] = scene.choose.one_of(below)
    return {"execute": "blockdev-add", "arguments": options}


def _one(scene: Scene, names: list[str]) -> str:
    return scene.choose.one_of(names) if names else "missing"


_STARTS: tuple[tuple[str, Callable[[Scene], dict[str, Any]]], ...] = (
    ("block-commit", jobs.commit),
    ("block-commit", jobs.active_commit),
    ("block-stream", jobs.stream),
    ("block-stream", jobs.stream),
    ("blockdev-mirror", jobs.mirror),
    ("blockdev-backup", jobs.backup),
)

_WAYS: tuple[Callable[[Scene], Command], ...] = (
    delete,
    snapshot,
    snapshot,
    change,
    resize,
    another_job,
    another_job,
    another_job,
    add_above,
)


def beside(scene: Scene) -> Command:
    """A command on the nodes of a living job that has another purpose than the job's."""
    return scene.choose.one_of(_WAYS)(scene)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of what has to do with exports and with the threads that nodes live in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from model.values.trace import Command
    from strategies.builders.scene import Scene

Arguments = dict[str, Any]

SOCKET: Final = "nbd.sock"
_STOPPED = 60
_NEEDED = 75
_NEEDLESS = 5


def server(scene: Scene) -> Command:
    """nbd-server-start where there is no server, and now and then nbd-server-stop."""
    running = scene.state.nbd_server is not None
    if scene.choose.chance(_STOPPED if running else _NEEDLESS):
        return {"execute": "nbd-server-stop"}
    return server_start()


def server_start() -> Command:
    """nbd-server-start at a socket in the daemon's own directory."""
    address = {"type": "unix", "data": {"path": SOCKET}}
    return {"execute": "nbd-server-start", "arguments": {"addr": address}}


def exporting(scene: Scene) -> Command:
    """block-export-add; mostly nbd-server-start first where there is no server."""
    if scene.state.nbd_server is None and scene.choose.chance(_NEEDED):
        return server_start()
    return {"execute": "block-export-add", "arguments": export(scene)}


def export(scene: Scene) -> Arguments:
    """block-export-add; in an iothread or not, tied to it or not."""
    choose = scene.choose
    writable = choose.chance(40)
    node = scene.pick(scene.everything, lambda each: not (writable and each.read_only))
    arguments: Arguments = {
        "type": "nbd",
        "id": scene.fresh_id("e"),
        "node-name": node.name if node else "missing",
    }
    if writable or choose.chance(10):
        arguments["writable"] = writable
    threads = scene.iothreads()
    if threads and choose.chance(60):
        arguments["iothread"] = choose.one_of(threads)
    if choose.chance(40):
        arguments["fixed-iothread"] = choose.chance(80)
    if choose.chance(15):
        arguments["writethrough"] = choose.chance(50)
    if choose.chance(20):
        arguments["name"] = choose.one_of(("disk", "x", arguments["node-name"]))
    if choose.chance(10):
        arguments["description"] = "a disk"
    return arguments


def export_deletion(scene: Scene) -> Arguments:
    """block-export-del."""
    known = list(scene.state.exports)
    arguments: Arguments = {"id": scene.choose.one_of(known) if known else "missing"}
    if scene.choose.chance(30):
        arguments["mode"] = scene.choose.one_of(("safe", "hard"))
    return arguments


def move(scene: Scene) -> Arguments:
    """x-blockdev-set-iothread, to the iothread or back."""
    choose = scene.choose
    threads = scene.iothreads()
    arguments: Arguments = {
        "node-name": choose.one_of(scene.names()),
        "iothread": choose.one_of(threads) if threads and choose.chance(75) else None,
    }
    if choose.chance(60):
        arguments["force"] = choose.chance(80)
    return arguments


def whereabouts(scene: Scene) -> list[Command]:
    """Find out in which thread a node is: it is pinned there, and told to go somewhere by force.

    That succeeds if it is there already. No query would tell.
    """
    choose = scene.choose
    away = [node for node in scene.everything if node.context]
    node = choose.one_of(away if away and choose.chance(70) else list(scene.everything))
    thread = node.context or None
    if choose.chance(40):
        thread = choose.one_of([*scene.iothreads(), None])
    name = scene.fresh_id("e")
    pin = {"type": "nbd", "id": name, "node-name": node.name, "fixed-iothread": True}
    go = {"node-name": node.name, "iothread": thread, "force": True}
    commands: list[Command] = [] if scene.state.nbd_server is not None else [server_start()]
    commands.append({"execute": "block-export-add", "arguments": pin})
    commands.append({"execute": "x-blockdev-set-iothread", "arguments": go})
    if choose.chance(60):
        commands.append({"execute": "block-export-del", "arguments": {"id": name}})
    return commands

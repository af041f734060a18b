# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of what has to do with the devices of a machine: disks, and what they hang on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.commands.plugging import CONTROLLER, PERIPHERAL, SCSI_DISK, VIRTIO_DISK
from strategies.builders.situation import idle

if TYPE_CHECKING:
    from model.values.state import Device
    from model.values.trace import Command
    from strategies.builders.scene import Scene

Arguments = dict[str, Any]

_CONTROLLERS: Final = 2
_FIRST_CONTROLLER = 60
_SECOND_CONTROLLER = 15
_SCSI = 65
_NOWHERE = 5
_ALIASES: Final = {CONTROLLER: "virtio-scsi", VIRTIO_DISK: "virtio-blk"}
_YES: Final = (True, True, "on", "yes")
_NO: Final = (False, False, "off", "n")


def device(scene: Scene) -> Arguments:
    """device_add: a controller or a disk."""
    controllers = devices_of(scene, CONTROLLER)
    wanted = _SECOND_CONTROLLER if controllers else _FIRST_CONTROLLER
    if len(controllers) < _CONTROLLERS and scene.choose.chance(wanted):
        return controller(scene)
    return disk(scene)


def controller(scene: Scene) -> Arguments:
    """device_add: a controller for SCSI disks."""
    arguments = {"driver": _called(scene, CONTROLLER), "id": scene.fresh_id("d")}
    return _with_thread(scene, arguments)


def disk(scene: Scene) -> Arguments:
    """device_add: a disk on a controller or on the root bus."""
    choose = scene.choose
    controllers = devices_of(scene, CONTROLLER)
    if choose.chance(_SCSI if controllers else _NOWHERE):
        arguments = _disk(scene, SCSI_DISK)
        if controllers and choose.chance(70):
            arguments["bus"] = f"{choose.one_of(controllers).id}.0"
        return arguments
    arguments = _with_thread(scene, _disk(scene, VIRTIO_DISK))
    if choose.chance(10):
        arguments["bus"] = "pci.0"
    return arguments


def deletion(scene: Scene) -> Arguments:
    """device_del: mostly of a disk that goes at once."""
    disks, every = devices_of(scene, SCSI_DISK), list(scene.state.devices.values())
    if not every:
        return {"id": "missing"}
    found = scene.choose.one_of(disks if disks and scene.choose.chance(75) else every)
    return {"id": (PERIPHERAL if scene.choose.chance(10) else "") + found.id}


def query(_scene: Scene) -> Command:
    """query-block: what the disks show."""
    return {"execute": "query-block"}


def _called(scene: Scene, driver: str) -> str:
    """A device model, perhaps under another name."""
    return _ALIASES[driver] if driver in _ALIASES and scene.choose.chance(25) else driver


def devices_of(scene: Scene, driver: str) -> list[Device]:
    """The devices of one model, oldest first."""
    return [each for each in scene.state.devices.values() if each.driver == driver]


def _disk(scene: Scene, driver: str) -> Arguments:
    """A disk, mostly of a node that nothing uses."""
    node = scene.pick(scene.everything, idle)
    arguments: Arguments = {
        "driver": _called(scene, driver),
        "id": scene.fresh_id("d"),
        "drive": node.name if node else "missing",
    }
    if scene.choose.chance(50):
        words = _YES if scene.choose.chance(80) else _NO
        arguments["share-rw"] = scene.choose.one_of(words)
    return arguments


def _with_thread(scene: Scene, arguments: Arguments) -> Arguments:
    threads = scene.iothreads()
    if threads and scene.choose.chance(55):
        arguments["iothread"] = scene.choose.one_of(threads)
    return arguments

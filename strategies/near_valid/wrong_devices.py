# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the arguments of device_add or device_del.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from model.commands.plugging import CONTROLLER, PERIPHERAL
from strategies.builders.devices import devices_of
from strategies.builders.situation import idle

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Arguments, Fault

_NOTHING: Final[tuple[Any, ...]] = ({}, [], None)
"""What QEMU takes for a member of device_add that is not given."""


def _changed(key: str, *values: Any) -> Fault:
    def apply(scene: Scene, arguments: Arguments) -> bool:
        if key not in arguments:
            return False
        arguments[key] = scene.choose.one_of(values)
        return True

    apply.__doc__ = f"Another {key}: {', '.join(json.dumps(value) for value in values)}."
    return apply


def _left_out(key: str) -> Fault:
    def apply(_scene: Scene, arguments: Arguments) -> bool:
        return arguments.pop(key, None) is not None

    apply.__doc__ = f"No {key}."
    return apply


def _taken(scene: Scene, arguments: Arguments) -> bool:
    """The name of another device."""
    known = list(scene.state.devices)
    if known:
        arguments["id"] = scene.choose.one_of(known)
    return bool(known)


def _strange(_scene: Scene, arguments: Arguments) -> bool:
    """A property that there is not."""
    arguments["bootsector"] = 1
    return True


def _other_bus(scene: Scene, arguments: Arguments) -> bool:
    """A bus of the other kind, or of no kind."""
    others = [f"{each.id}.0" for each in devices_of(scene, CONTROLLER)]
    machine = ["pci.0", "ide.0", "main-system-bus", "virtio-bus"]
    arguments["bus"] = scene.choose.one_of([*machine, "missing.0", 1.5, *others])
    return True


def _wrong_thread(scene: Scene, arguments: Arguments) -> bool:
    """What is no iothread."""
    others = [*scene.groups(), *scene.state.devices]
    arguments["iothread"] = scene.choose.one_of(["missing", *others])
    return True


def _shared(scene: Scene, arguments: Arguments) -> bool:
    """A node that somebody else uses already."""
    used = [node.name for node in scene.everything if not idle(node)]
    if used and "drive" in arguments:
        arguments["drive"] = scene.choose.one_of(used)
        return True
    return False


def _nothing(scene: Scene, arguments: Arguments) -> bool:
    """A member that counts as not given; not the id, for what has none is outside the spec."""
    key = scene.choose.one_of(("driver", "bus", "drive", "iothread", "share-rw"))
    arguments[key] = scene.choose.one_of(_NOTHING)
    return True


DEVICE_FAULTS: Final[tuple[Fault, ...]] = (
    _changed("driver", "no-such-device", "scsi-device", "apic", "", 7, True),
    _left_out("driver"),
    _changed("id", "0d", "d 0", "", "type"),
    _taken,
    _left_out("drive"),
    _changed("drive", "missing", "", 7),
    _changed("share-rw", 1, "maybe"),
    _nothing,
    _shared,
    _shared,
    _shared,
    _strange,
    _other_bus,
    _wrong_thread,
)
DEVICE_DELETION_FAULTS: Final[tuple[Fault, ...]] = (
    _changed("id", "missing", PERIPHERAL + "missing", "", "/machine"),
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What device_add and device_del make of their arguments: strings, and names of what there is.

QEMU puts the arguments of device_add into an options list before it looks at them. So numbers and
booleans become text, null, lists and dictionaries are dropped without a word, and the id counts
only if it was a string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from model.commands.iothreads import find_iothread
from model.release.rules import guard, outside
from model.release.scope import Entry
from model.values.qdict import as_qemuopt_string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph.transition import Transition
    from model.release.catalogue import Catalogue
    from model.values.state import Device

NOT_FOUND: Final = "DeviceNotFound"
"""The error class of a device or an object that does not exist."""

NO_DRIVER = guard(
    "device.no-driver",
    "The driver of a device is given.",
    source="7.2 (emulator)",
    text="Parameter 'driver' is missing",
)
UNKNOWN_DRIVER = guard(
    "device.unknown-driver",
    "There is a device model of that name, or one that is also called so.",
    source="7.2 (emulator)",
    text="'{driver}' is not a valid device model name",
)
REFUSED_DRIVER = guard(
    "device.refused-driver",
    "A device model is one that clients may make: no family of models, and no part of a machine.",
    source="7.2 (emulator)",
    text="Parameter 'driver' expects {expected}",
)
UNKNOWN_BUS = guard(
    "device.unknown-bus",
    "The bus that a device is put on exists.",
    source="7.2 (emulator)",
    text="Bus '{bus}' not found",
)
BUS_FULL = guard(
    "device.bus-full",
    "The bus that a device is put on has room: that within a virtio device has none.",
    source="7.2 (emulator)",
    text="Bus '{bus}' is full",
)
WRONG_BUS = guard(
    "device.wrong-bus",
    "A device is put on a bus of its kind.",
    source="7.2 (emulator)",
    text="Device '{driver}' can't go on {kind} bus",
)
NO_BUS = guard(
    "device.no-bus",
    "There is a bus for a device that names none: the newest one of its kind.",
    source="7.2 (emulator)",
    text="No '{kind}' bus found for device '{driver}'",
)
NO_PROPERTY = guard(
    "device.no-property",
    "A device has the properties that it is given.",
    source="7.2 (emulator)",
    text="Property '{driver}.{key}' not found",
)
NO_SWITCH = guard(
    "device.no-switch",
    "A property that is a switch is on or off, true or false, yes or no, y or n.",
    source="7.2 (emulator)",
    text="Parameter '{key}' expects 'on' or 'off'",
)
UNKNOWN_THREAD = guard(
    "device.unknown-iothread",
    "The iothread that a device asks for exists.",
    source="7.2 (emulator)",
    text="Device '{path}' not found",
)
NO_THREAD = guard(
    "device.no-iothread",
    "What a device is given as its iothread is one.",
    source="7.2 (emulator)",
    text="Invalid parameter type for 'iothread', expected: iothread",
)
UNKNOWN = guard(
    "device.unknown",
    "The device to delete exists.",
    source="7.2 (emulator)",
    text="Device '{id}' not found",
)
NOT_PLUGGABLE = guard(
    "device.not-pluggable",
    "What is to be deleted is a device, and not what holds all devices.",
    source="7.2 (emulator)",
    text="{id} is not a hotpluggable device",
)

OTHER_DRIVER = outside(
    "device.other-driver",
    "Of the device models, SCSI disks, virtio disks and virtio SCSI controllers are modelled.",
    text="the device {driver} is not modelled",
)
OTHER_PROPERTY = outside(
    "device.other-property",
    "Of the properties of a device, those are modelled that say whom it uses a node with.",
    text="the property '{key}' of {driver} is not modelled",
)
UNNAMED = outside(
    "device.unnamed",
    "A device has a name: without one no client can delete it.",
    text="a device without an id is not modelled",
)
BUS_PATH = outside(
    "device.bus-path",
    "A bus is given by its name, and not by a path through devices and buses.",
    text="a path to a bus, or a long name not in ASCII, is not modelled: '{bus}'",
)
THREAD_PATH = outside(
    "device.iothread-path",
    "The iothread of a device is given by its name, or by its path among the objects.",
    text="'{path}' as the iothread of a device, a place in the machine itself, is not modelled",
)
DEVICE_PATH = outside(
    "device.path",
    "The device to delete is one that a client made, and not a part of one or of the machine.",
    text="device_del of '{path}', a path to what no client made, is not modelled",
)

PCI, SCSI = "PCI", "SCSI"
PERIPHERAL = "/machine/peripheral/"
"""Where the devices of clients are in QEMU's tree of objects."""

_ROOT_BUSES = ("main-system-bus", "pci.0")
_INNER_BUS = "virtio-bus"
_PARTS = ("virtio-backend", _INNER_BUS)
_LONGEST_BUS = 127
"""How many bytes of a bus's name QEMU reads."""
_MOST_BYTES = 4
"""Of a character in UTF-8."""
_SWITCH = dict.fromkeys(("on", "true", "yes", "y"), True) | dict.fromkeys(
    ("off", "false", "no", "n"), False
)


@attrs.frozen
class Driver:
    """``disk`` is the type of what has the node, if anything has, and ``bus`` what it hangs on."""

    bus: str
    disk: str
    properties: tuple[str, ...]

    def backend(self, name: str) -> str:
        """What the block backend of the device of that name is called."""
        return name if self.bus == SCSI else f"{PERIPHERAL}{name}/virtio-backend"


CONTROLLER: Final = "virtio-scsi-pci"
SCSI_DISK: Final = "scsi-hd"
VIRTIO_DISK: Final = "virtio-blk-pci"
DRIVERS: Final = {
    CONTROLLER: Driver(PCI, "", ("iothread",)),
    SCSI_DISK: Driver(SCSI, "scsi-hd", ("drive", "share-rw")),
    VIRTIO_DISK: Driver(PCI, "virtio-blk-device", ("drive", "share-rw", "iothread")),
}


def outside_devices(catalogue: Catalogue) -> Iterator[Entry]:
    """What of the devices of a machine is not modelled: a line of the table each."""
    for subject, sentence in _outside_devices(catalogue):
        yield Entry(subject, "outside", sentence)


def _outside_devices(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    for driver in sorted(catalogue.types - set(DRIVERS)):
        yield f"device_add/{driver}", "This device model."
    for driver, properties in sorted(catalogue.properties.items()):
        for key in sorted(set(properties) - set(DRIVERS[driver].properties)):
            yield f"device_add/{driver}.{key}", "This property of the device."
        if "iothread" in DRIVERS[driver].properties:
            said = "A path as the iothread that leads anywhere but to a client's object or device."
            yield f"device_add/{driver}.iothread", said
    if catalogue.types:
        yield "device_add.id", "A device without a name, if nothing else is wrong with it."
        yield "device_add.bus", "A path to a bus, or a long name of one that is not plain ASCII."
        yield "device_del.id", "A path to anything but a device that a client made."


def as_options(arguments: dict[str, Any]) -> dict[str, str]:
    """The arguments of device_add as QEMU keeps them: text."""
    found = {key: as_qemuopt_string(value) for key, value in arguments.items()}
    return {key: text for key, text in found.items() if text is not None}


def find_driver(t: Transition, given: str | None) -> str:
    """The device model of that name."""
    ev = t.ev
    ev.check(NO_DRIVER, given is not None)
    driver = ev.devices.aliases.get(str(given), str(given))
    expected = ev.devices.refused.get(driver)
    ev.check(REFUSED_DRIVER, expected is None, expected=expected)
    known = driver in DRIVERS
    ev.check(UNKNOWN_DRIVER, known or driver in ev.devices.types, driver=given)
    if not known:
        ev.leave(OTHER_DRIVER, f"device_add/{driver}", driver=driver)
    return driver


def find_bus(t: Transition, driver: str, bus: str | None) -> str:
    """The controller of the bus that a device goes to, "" for the root bus."""
    ev = t.ev
    wanted = DRIVERS[driver].bus
    controllers = _controllers(t)
    if bus is None:
        ev.check(NO_BUS, wanted == PCI or controllers, kind=wanted, driver=driver)
        return "" if wanted == PCI else controllers[0]
    first = _first_element(t, bus)
    kind = _kind_of_bus(t, first)
    ev.check(UNKNOWN_BUS, kind, bus=first)
    if first != bus:
        ev.leave(BUS_PATH, "device_add.bus", bus=bus)
    ev.check(BUS_FULL, first != _INNER_BUS, bus=bus)
    ev.check(WRONG_BUS, kind == wanted, driver=driver, kind=kind)
    return "" if wanted == PCI else bus.removesuffix(".0")


def _controllers(t: Transition) -> list[str]:
    """The names of the controllers, the newest first."""
    return [each.id for each in reversed(t.devices.values()) if each.driver == CONTROLLER]


def _first_element(t: Transition, bus: str) -> str:
    """What a path to a bus begins with, as far as QEMU reads it."""
    first = bus.partition("/")[0]
    bytewise = first.isascii() and "\0" not in first
    if bus.startswith("/") or (len(first) * _MOST_BYTES > _LONGEST_BUS and not bytewise):
        t.ev.leave(BUS_PATH, "device_add.bus", bus=bus)
    return first[:_LONGEST_BUS]


def _kind_of_bus(t: Transition, bus: str) -> str | None:
    """The type of the first bus of that name; those of newer devices come before older ones."""
    known = t.ev.devices.buses
    if bus in _ROOT_BUSES:
        return known.get(bus)
    if bus == _INNER_BUS:
        return bus if any(DRIVERS[each.driver].bus == PCI for each in t.devices.values()) else None
    if bus.endswith(".0") and bus[:-2] in _controllers(t):
        return SCSI
    return known.get(bus)


def switch(t: Transition, key: str, value: str) -> bool:
    """A property that is on or off."""
    t.ev.check(NO_SWITCH, value in _SWITCH, key=key)
    return _SWITCH.get(value, False)


def check_property(t: Transition, driver: str, key: str) -> None:
    """Refuse a property that the device does not have, and leave one that is not modelled."""
    ev = t.ev
    if key in DRIVERS[driver].properties:
        return
    ev.check(NO_PROPERTY, key in ev.devices.properties.get(driver, {}), driver=driver, key=key)
    ev.leave(OTHER_PROPERTY, f"device_add/{driver}.{key}", driver=driver, key=key)


def find_thread(t: Transition, device: Device, path: str) -> str:
    """The iothread of that name or path; the device itself can be found already."""
    found = find_iothread(t, path)
    if found is not None:
        return found
    exists = path in t.objects or path in t.devices or path == device.id
    if not exists and _is_in_machine(t, path):
        t.ev.leave(THREAD_PATH, f"device_add/{device.driver}.iothread", path=path)
    t.ev.check(UNKNOWN_THREAD, exists, cls=NOT_FOUND, path=path)
    t.ev.refuse(NO_THREAD)
    return ""


def _is_in_machine(t: Transition, path: str) -> bool:
    """Whether a path may lead to something that no client made."""
    buses = [f"{each}.0" for each in _controllers(t)]
    known = path in t.ev.devices.places or path in _PARTS or path in buses
    return known or "/" in path or "[" in path


def find_device(t: Transition, path: str) -> str:
    """The name of the device that device_del is given by its name or path."""
    ev = t.ev
    parts = [part for part in path.split("/") if part]
    if path.startswith("/"):
        root = [part for part in PERIPHERAL.split("/") if part]
        if parts != root[: len(parts)] and parts[: len(root)] != root:
            ev.leave(DEVICE_PATH, "device_del.id", path=path)
        parts = parts[len(root) :]
    ev.check(NOT_PLUGGABLE, parts, id=path)
    ev.check(UNKNOWN, parts[0] in t.devices, cls=NOT_FOUND, id=path)
    if len(parts) > 1:
        ev.leave(DEVICE_PATH, "device_del.id", path=path)
    return parts[0]

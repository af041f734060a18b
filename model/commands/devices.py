# SPDX-License-Identifier: GPL-2.0-or-later
"""device_add and device_del: disks of a machine that is stopped, as users of nodes.

There are SCSI disks, the virtio controllers that they hang on, and virtio disks. Nobody looks at
the arguments of device_add before the device itself does. What hangs on the PCI bus goes only
when the guest lets it go, and no guest runs.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from model import backends, blockers, contexts, guest, jobs
from model.commands.iothreads import find_iothread
from model.images import ImageError
from model.permissions import ALL
from model.qdict import in_order
from model.rules import Refusal, effect, guard, hazard, outside
from model.scope import takes
from model.state import Device, Perm, User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph import Transition

NOT_FOUND: Final = "DeviceNotFound"
"""The error class of a device or an object that does not exist."""

ID_FORM = guard(
    "device.id",
    "A device's name begins with a letter and has letters, digits, '-', '.' and '_'.",
    source="7.2 (emulator)",
    text="Parameter 'id' expects an identifier",
)
UNNAMED = guard(
    "device.unnamed",
    "A device has a name.",
    source="our own: without one it cannot be deleted",
    text="A device without a name is not modelled",
    unreachable="the generator names devices",
)
NESTED = outside(
    "device.nested",
    "The properties of a device are plain values.",
    text="the property '{key}' of a device that is a list or a dictionary is not modelled",
)
NO_DRIVER = guard(
    "device.no-driver",
    "The driver of a device is given.",
    source="7.2 (emulator)",
    text="Parameter 'driver' is missing",
)
UNKNOWN_DRIVER = guard(
    "device.unknown-driver",
    "There is a driver of that name; the spec knows of three.",
    source="7.2 (emulator)",
    text="'{driver}' is not a valid device model name",
)
UNKNOWN_BUS = guard(
    "device.unknown-bus",
    "The bus that a device is put on exists.",
    source="7.2 (emulator)",
    text="Bus '{bus}' not found",
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
ID_TAKEN = guard(
    "device.id-taken",
    "The names of devices are unique.",
    source="7.2 (emulator)",
    text="Duplicate device ID '{id}'",
)
NO_PROPERTY = guard(
    "device.no-property",
    "A device has the properties that it is given.",
    source="7.2 (emulator)",
    text="Property '{driver}.{key}' not found",
)
UNKNOWN_NODE = guard(
    "device.unknown-node",
    "The node of a disk exists.",
    source="7.2 (emulator)",
    text="Property '{type}.drive' can't find value '{node}'",
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
NO_DRIVE = guard(
    "device.no-drive",
    "A disk has a node.",
    source="7.2 (emulator)",
    text="drive property not set",
)
UNKNOWN = guard(
    "device.unknown",
    "The device to delete exists.",
    source="7.2 (emulator)",
    text="Device '{id}' not found",
)
UNPLUGGING = guard(
    "device.unplugging",
    "A guest is asked only once to let a device go.",
    source="7.2 (emulator)",
    text="Device {id} is already in the process of unplug",
)
WAITS = effect(
    "device.waits",
    "A device on the PCI bus stays until a guest lets it go, and no guest runs.",
    source="7.2 (emulator)",
)
LOOKS = effect(
    "device.looks",
    "A disk looks for partitions in its first sector, to find out about its geometry.",
    source="7.2 (emulator)",
)
JOINS_CONTROLLER = effect(
    "device.joins-controller",
    "The node of a SCSI disk moves to the thread of the controller, also back to the main loop.",
    source="7.2 (emulator)",
)
LEAVES_CONTROLLER = effect(
    "device.leaves-controller",
    "The node of a SCSI disk goes back to the main loop, if nobody minds, when the disk goes.",
    source="7.2 (emulator)",
)

DRAINED = hazard(
    "hazard.looks-at-drained",
    "A disk is plugged in whose node a job has drained, so that a client has to finalize it.",
    source="7.2 (emulator) waits for the first sector before it takes another command: for ever",
)

PERIPHERAL = "/machine/peripheral/"
"""Where the devices of clients are in QEMU's tree of objects."""
UNPLUGGED = "unplugged"
"""What is waited for after the reply to a device_del; see :mod:`model.commands.driving`."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_PCI, _SCSI = "PCI", "SCSI"
_ROOT_BUS = "pci.0"
_SECTOR = 512


@attrs.frozen
class _Driver:
    """``disk`` is the type of what has the node, if anything has, and ``bus`` what it hangs on."""

    bus: str
    disk: str
    properties: tuple[str, ...]

    def backend(self, name: str) -> str:
        """What the block backend of the device of that name is called."""
        return name if self.bus == _SCSI else f"{PERIPHERAL}{name}/virtio-backend"


CONTROLLER: Final = "virtio-scsi-pci"
SCSI_DISK: Final = "scsi-hd"
VIRTIO_DISK: Final = "virtio-blk-pci"
_DRIVERS = {
    CONTROLLER: _Driver(_PCI, "", ("iothread",)),
    SCSI_DISK: _Driver(_SCSI, "scsi-hd", ("drive", "share-rw")),
    VIRTIO_DISK: _Driver(_PCI, "virtio-blk-device", ("drive", "share-rw", "iothread")),
}


def device_add(t: Transition, arguments: dict[str, Any]) -> None:
    """Plug a device in.

    A refused command may leave the node in another context and a sector copied, as QEMU does.
    """
    ev = t.ev
    name = arguments.get("id")
    ev.check(UNNAMED, name is not None)
    ev.check(ID_FORM, _ID.match(str(name)))
    driver = arguments.get("driver")
    ev.check(NO_DRIVER, driver is not None)
    odd = [key for key, value in arguments.items() if isinstance(value, (dict, list))]
    if odd:
        ev.leave(NESTED, f"device_add.{odd[0]}", key=odd[0])
    ev.check(UNKNOWN_DRIVER, driver in _DRIVERS, driver=driver)
    known = _DRIVERS[str(driver)]
    bus = _find_bus(t, str(driver), known.bus, arguments.get("bus"))
    ev.check(ID_TAKEN, name not in t.devices, id=name)
    device = Device(str(name), str(driver), bus)
    properties = {k: v for k, v in arguments.items() if k not in {"id", "driver", "bus"}}
    try:
        device = _set_properties(t, device, properties)
        if known.disk:
            ev.check(NO_DRIVE, device.user is not None)
            _realize(t, device, shares_writes=bool(properties.get("share-rw", False)))
    except Refusal:
        _let_go(t, f"device:{name}")
        raise
    t.devices[device.id] = device


def _find_bus(t: Transition, driver: str, kind: str, bus: str | None) -> str:
    """The controller of the bus that a device goes to, "" for the root bus."""
    ev = t.ev
    controllers = [each.id for each in t.devices.values() if each.driver == CONTROLLER]
    if bus is None:
        ev.check(NO_BUS, kind == _PCI or controllers, kind=kind, driver=driver)
        return "" if kind == _PCI else controllers[-1]
    buses = {_ROOT_BUS: _PCI, **{f"{each}.0": _SCSI for each in controllers}}
    ev.check(UNKNOWN_BUS, bus in buses, bus=bus)
    ev.check(WRONG_BUS, buses[bus] == kind, driver=driver, kind=buses[bus])
    return "" if kind == _PCI else bus.removesuffix(".0")


def _set_properties(t: Transition, device: Device, properties: dict[str, Any]) -> Device:
    """The device with all that it is given, in the order of QEMU's dictionary."""
    driver = _DRIVERS[device.driver]
    for key in in_order(properties):
        known = key in driver.properties
        t.ev.check(NO_PROPERTY, known, driver=device.driver, key=key)
        if key == "drive" and properties[key]:
            device = attrs.evolve(device, user=_insert(t, device, properties[key]))
        elif key == "iothread" and properties[key]:
            device = attrs.evolve(device, iothread=_find_thread(t, properties[key]))
    return device


def _find_thread(t: Transition, path: str) -> str:
    found = find_iothread(t, path)
    if found is None:
        exists = path in t.objects or path in t.devices
        t.ev.check(UNKNOWN_THREAD, exists, cls=NOT_FOUND, path=path)
        t.ev.refuse(NO_THREAD)
    return str(found)


def _insert(t: Transition, device: Device, node: str) -> str:
    """Give a device a block backend on its node, which requires nothing yet; returns its key."""
    driver = _DRIVERS[device.driver]
    t.ev.check(UNKNOWN_NODE, node in t.nodes, type=driver.disk, node=node)
    # Of the disks only those on the SCSI bus cope with a node in a thread.
    context = t.nodes[node].context if driver.bus == _SCSI else contexts.MAIN
    key, name = f"device:{device.id}", driver.backend(device.id)
    t.add_user(User(key, "block-backend", name, context=context, follows=False))
    described = f"block device '{name}'"
    t.use(key, "root", node, (0, ALL), stays=False, description=described)
    return key


def _let_go(t: Transition, user: str) -> None:
    """Take the block backend of a device away, if it has one."""
    if user not in t.users:
        return
    if not t.users[user].links:
        del t.users[user]
        return
    with contexts.locked(t, _node(t, user)):
        t.remove_user(user)


def _node(t: Transition, user: str) -> str:
    return t.used(user, "root")[0]


# Getting ready for use


def _realize(t: Transition, device: Device, *, shares_writes: bool) -> None:
    user = str(device.user)
    node = _node(t, user)
    perm = Perm.CONSISTENT_READ | (0 if t.nodes[node].read_only else Perm.WRITE)
    shared = ALL if shares_writes else ALL & ~Perm.WRITE
    if device.driver == VIRTIO_DISK:
        backends.share(t, user, node, (perm, shared))
        _look(t, user, node)
        if device.iothread:
            _check_free(t, node, "cannot start virtio-blk dataplane: ")
        return
    with contexts.locked(t, node):
        _look(t, user, node)
        backends.share(t, user, node, (perm, shared))
    _check_free(t, node)
    if t.ev.holds(JOINS_CONTROLLER):
        with contexts.locked(t, node), _following(t, user):
            contexts.change(t, node, t.devices[device.controller].iothread)


def _look(t: Transition, user: str, node: str) -> None:
    """Read the first sector, if there is one; whether that succeeds makes no difference."""
    if t.length(node) >= _SECTOR and t.ev.holds(LOOKS):
        if user in jobs.waiting(t):
            t.ev.meet(DRAINED)
        try:
            guest.read(t, node, 0, _SECTOR)
        except ImageError as error:
            t.ev.refuse(guest.NO_GUEST, text=str(error))


def _check_free(t: Transition, node: str, prefix: str = "") -> None:
    try:
        blockers.check_free(t, node, "dataplane")
    except Refusal as refusal:
        raise refusal.prefixed(prefix) from None


@contextmanager
def _following(t: Transition, user: str) -> Iterator[None]:
    """Let a device move with its node: it is the device that moves it."""
    t.users[user] = attrs.evolve(t.users[user], follows=True)
    try:
        yield
    finally:
        t.users[user] = attrs.evolve(t.users[user], follows=False)


# Unplugging


@takes("id")
def device_del(t: Transition, arguments: dict[str, Any]) -> None:
    """Take a device away, or ask the guest to let it go.

    A SCSI disk goes at once, but its node is free only some time after the reply.
    """
    ev = t.ev
    name = arguments["id"].removeprefix(PERIPHERAL)
    ev.check(UNKNOWN, name in t.devices, cls=NOT_FOUND, id=arguments["id"])
    device = t.devices[name]
    ev.check(UNPLUGGING, not device.unplugging, id=arguments["id"])
    if _DRIVERS[device.driver].bus == _PCI and ev.holds(WAITS):
        t.devices[name] = attrs.evolve(device, unplugging=True)
        return
    _unplug(t, device)


def _unplug(t: Transition, device: Device) -> None:
    user = device.user
    if user is not None:
        node = _node(t, user)
        if t.nodes[node].context != contexts.MAIN and t.ev.holds(LEAVES_CONTROLLER):
            with contexts.locked(t, node), _following(t, user):
                contexts.try_change(t, node, contexts.MAIN)
        _let_go(t, user)
    del t.devices[device.id]
    path = PERIPHERAL + device.id
    t.events.append({"event": "DEVICE_DELETED", "data": {"device": device.id, "path": path}})
    t.settling[path] = (UNPLUGGED, None)

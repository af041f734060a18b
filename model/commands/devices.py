# SPDX-License-Identifier: GPL-2.0-or-later
"""device_add and device_del: disks of a machine that is stopped, as users of nodes.

There are SCSI disks, the virtio controllers that they hang on, and virtio disks. Nobody looks at
the arguments of device_add before the device itself does; :mod:`model.commands.plugging` says what
becomes of them. What hangs on the PCI bus goes only when the guest lets it go, and no guest runs.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from model.commands import guest
from model.commands.plugging import (
    DRIVERS,
    PCI,
    PERIPHERAL,
    SCSI,
    UNNAMED,
    VIRTIO_DISK,
    as_options,
    check_property,
    find_bus,
    find_device,
    find_driver,
    find_thread,
    outside_devices,
    switch,
)
from model.data import requests
from model.edits import block_backends
from model.edits.users import add_use, remove_user
from model.graph import aio_contexts, op_blockers
from model.graph.traversal import length_of
from model.jobs import lifecycle
from model.release.rules import Refusal, effect, guard, hazard
from model.release.scope import listed, takes
from model.values.image_layout import ImageError
from model.values.qdict import in_order
from model.values.state import Device, Perm, User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph.transition import Transition

ID_FORM = guard(
    "device.id",
    "A device's name begins with a letter and has letters, digits, '-', '.' and '_'.",
    source="7.2 (emulator)",
    text="Parameter 'id' expects an identifier",
)
ID_TAKEN = guard(
    "device.id-taken",
    "The names of devices are unique.",
    source="7.2 (emulator)",
    text="Duplicate device ID '{id}'",
)
NO_SLOT = guard(
    "device.no-slot",
    "The root bus has a free slot for a device.",
    source="7.2 (emulator): there are 30, and nothing leaves its slot while no guest runs",
    text="PCI: no slot/function available for {driver}, all in use or reserved",
    unreachable="it takes more devices than the generator makes",
)
NO_TARGET = guard(
    "device.no-target",
    "A controller has a free address for a SCSI disk.",
    source="7.2 (emulator): there are 256",
    text="no free target",
    unreachable="it takes more disks than the generator makes",
)
UNKNOWN_NODE = guard(
    "device.unknown-node",
    "The node of a disk exists.",
    source="7.2 (emulator)",
    text="Property '{type}.drive' can't find value '{node}'",
)
NO_DRIVE = guard(
    "device.no-drive",
    "A disk has a node.",
    source="7.2 (emulator)",
    text="drive property not set",
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
    "The node of a SCSI disk goes back to the main loop, if it can, when the disk goes.",
    source="7.2 (emulator)",
)

DRAINED = hazard(
    "hazard.looks-at-drained",
    "A disk is plugged in whose node a job has drained, so that a client has to finalize it.",
    source="7.2 (emulator) waits for the first sector before it takes another command: for ever",
)

__all__ = ["PERIPHERAL", "UNPLUGGED", "device_add", "device_del"]

UNPLUGGED = "unplugged"
"""What is waited for after the reply to a device_del; see :mod:`model.commands.harness`."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_RESERVED = "type"
"""What no device can be called: the container of all devices has a property of that name."""
_SLOTS = 30
_TARGETS = 256
_SECTOR = 512


@listed(outside_devices)
def device_add(t: Transition, arguments: dict[str, Any]) -> None:
    """Plug a device in.

    A refused command may leave the node in another context and a sector copied, as QEMU does.
    """
    ev = t.ev
    options = as_options(arguments)
    given = options.pop("id", None)
    name = given if isinstance(arguments.get("id"), str) else None
    ev.check(ID_FORM, name is None or _ID.match(name))
    driver = find_driver(t, options.pop("driver", None))
    bus = find_bus(t, driver, options.pop("bus", None))
    ev.check(ID_TAKEN, name not in t.devices and name != _RESERVED, id=name)
    device = Device(name or "", driver, bus)
    try:
        device = _set_properties(t, device, options)
        _check_place(t, device)
        if DRIVERS[driver].disk:
            ev.check(NO_DRIVE, device.user is not None)
        if name is None:
            ev.leave(UNNAMED, "device_add.id")
        if device.user is not None:
            _realize(t, device, shares_writes=switch(t, "share-rw", options.get("share-rw", "off")))
    except Refusal:
        _let_go(t, f"device:{device.id}")
        raise
    t.devices[device.id] = device


def _set_properties(t: Transition, device: Device, options: dict[str, str]) -> Device:
    """The device with all that it is given, in the order of QEMU's dictionary."""
    for key in in_order(options):
        value = options[key]
        check_property(t, device.driver, key)
        if key == "share-rw":
            switch(t, key, value)
        elif key == "drive" and value:
            device = attrs.evolve(device, user=_insert(t, device, value))
        elif key == "iothread" and value:
            device = attrs.evolve(device, iothread=find_thread(t, device, value))
    return device


def _check_place(t: Transition, device: Device) -> None:
    """A device takes a place on its bus, before it looks whether it has a node."""
    others = list(t.devices.values())
    if DRIVERS[device.driver].bus == PCI:
        taken = sum(DRIVERS[each.driver].bus == PCI for each in others)
        t.ev.check(NO_SLOT, taken < _SLOTS, driver=device.driver)
    else:
        taken = sum(each.controller == device.controller for each in others)
        t.ev.check(NO_TARGET, taken < _TARGETS)


def _insert(t: Transition, device: Device, node: str) -> str:
    """Give a device a block backend on its node, which requires nothing yet; returns its key."""
    driver = DRIVERS[device.driver]
    t.ev.check(UNKNOWN_NODE, node in t.nodes, type=driver.disk, node=node)
    # Of the disks only those on the SCSI bus cope with a node in a thread.
    context = t.nodes[node].context if driver.bus == SCSI else aio_contexts.MAIN
    key, name = f"device:{device.id}", driver.backend(device.id)
    t.add_user(User(key, "block-backend", name, context=context, follows=False))
    described = f"block device '{name}'"
    add_use(t, key, "root", node, (0, Perm.ALL), stays=False, description=described)
    return key


def _let_go(t: Transition, user: str) -> None:
    """Take the block backend of a device away, if it has one."""
    if user not in t.users:
        return
    if not t.users[user].links:
        del t.users[user]
        return
    with aio_contexts.locked(t, _node(t, user)):
        remove_user(t, user)


def _node(t: Transition, user: str) -> str:
    return t.used(user, "root")[0]


# Getting ready for use


def _realize(t: Transition, device: Device, *, shares_writes: bool) -> None:
    user = str(device.user)
    node = _node(t, user)
    perm = Perm.CONSISTENT_READ | (0 if t.nodes[node].read_only else Perm.WRITE)
    shared = Perm.ALL if shares_writes else Perm.ALL & ~Perm.WRITE
    if device.driver == VIRTIO_DISK:
        block_backends.share(t, user, node, (perm, shared))
        _look(t, user, node)
        if device.iothread:
            _check_free(t, node, "cannot start virtio-blk dataplane: ")
        return
    with aio_contexts.locked(t, node):
        _look(t, user, node)
        block_backends.share(t, user, node, (perm, shared))
    _check_free(t, node)
    if t.ev.holds(JOINS_CONTROLLER):
        with aio_contexts.locked(t, node), _following(t, user):
            aio_contexts.change(t, node, t.devices[device.controller].iothread)


def _look(t: Transition, user: str, node: str) -> None:
    """Read the first sector, if there is one; whether that succeeds makes no difference."""
    if length_of(t, node) >= _SECTOR and t.ev.holds(LOOKS):
        if user in lifecycle.waiting(t):
            t.ev.meet(DRAINED)
        try:
            guest.read(t, node, 0, _SECTOR)
        except ImageError as error:
            t.ev.refuse(requests.NO_GUEST, text=str(error))


def _check_free(t: Transition, node: str, prefix: str = "") -> None:
    try:
        op_blockers.check_free(t, node, "dataplane")
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
    device = t.devices[find_device(t, arguments["id"])]
    ev.check(UNPLUGGING, not device.unplugging, id=arguments["id"])
    if DRIVERS[device.driver].bus == PCI and ev.holds(WAITS):
        t.devices[device.id] = attrs.evolve(device, unplugging=True)
        return
    _unplug(t, device)


def _unplug(t: Transition, device: Device) -> None:
    user = device.user
    if user is not None:
        node = _node(t, user)
        if t.nodes[node].context != aio_contexts.MAIN and t.ev.holds(LEAVES_CONTROLLER):
            with aio_contexts.locked(t, node), _following(t, user):
                aio_contexts.try_change(t, node, aio_contexts.MAIN)
        _let_go(t, user)
    del t.devices[device.id]
    path = PERIPHERAL + device.id
    t.events.append({"event": "DEVICE_DELETED", "data": {"device": device.id, "path": path}})
    t.settling[path] = (UNPLUGGED, None)

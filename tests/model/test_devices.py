# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices of a machine as users of nodes; the texts are those of the emulator of 7.2."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor

NULL = {"driver": "null-co", "read-zeroes": True, "size": 1 << 20}
FIXED = "Cannot change iothread of active block backend"
SCSI, DISK, VIRTIO = "virtio-scsi-pci", "scsi-hd", "virtio-blk-pci"


@pytest.fixture
def monitor() -> Monitor:
    monitor = Monitor("qemu-system-7.2")
    for name in ("n0", "n1"):
        run(monitor, "blockdev-add", **{"node-name": name, **NULL})
    for name in ("t0", "t1"):
        run(monitor, "object-add", **{"qom-type": "iothread", "id": name})
    return monitor


def run(monitor: Monitor, command: str, **arguments: Any) -> Any:
    reply = monitor.execute({"execute": command, "arguments": arguments})
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def plug(monitor: Monitor, driver: str, name: str, **properties: Any) -> Any:
    named = {key.replace("_", "-"): value for key, value in properties.items()}
    return run(monitor, "device_add", driver=driver, id=name, **named)


def unplug(monitor: Monitor, name: str) -> Any:
    return run(monitor, "device_del", id=name)


def move(monitor: Monitor, node: str, thread: str | None) -> Any:
    arguments = {"node-name": node, "iothread": thread, "force": True}
    return run(monitor, "x-blockdev-set-iothread", **arguments)


def edges(monitor: Monitor) -> list[tuple[str, set[str], set[str]]]:
    graph = run(monitor, "x-debug-query-block-graph")
    names = {each["id"]: each["name"] for each in graph["nodes"]}
    return [
        (names[each["parent"]], set(each["perm"]), set(each["shared-perm"]))
        for each in graph["edges"]
    ]


def test_a_storage_daemon_has_none() -> None:
    reply = Monitor("qemu-7.2").execute({"execute": "device_add", "arguments": {}})
    assert reply["error"]["class"] == "CommandNotFound"


def test_what_a_disk_requires_and_shares(monitor: Monitor) -> None:
    assert plug(monitor, VIRTIO, "d0", drive="n0") == {}
    name = "/machine/peripheral/d0/virtio-backend"
    shared = {"consistent-read", "write-unchanged", "resize"}
    assert edges(monitor) == [(name, {"consistent-read", "write"}, shared)]
    said = plug(monitor, VIRTIO, "d1", drive="n0", share_rw=True)
    assert said.startswith("Permission conflict on node 'n0': permissions 'write' are both")
    assert f"unshared by block device '{name}'" in said
    assert len(edges(monitor)) == 1
    assert run(monitor, "blockdev-del", **{"node-name": "n0"}) == "Node n0 is in use"
    options = [{"node-name": "n0", "read-only": True, **NULL}]
    read_only = "Read-only block node 'n0' cannot support read-write users"
    assert run(monitor, "blockdev-reopen", options=options) == read_only


def test_disks_that_share_their_node(monitor: Monitor) -> None:
    assert plug(monitor, VIRTIO, "d0", drive="n0", share_rw=True) == {}
    assert plug(monitor, VIRTIO, "d1", drive="n0", share_rw=True) == {}
    assert all("write" in shared for _, _, shared in edges(monitor))


def test_a_disk_of_a_read_only_node_only_reads(monitor: Monitor) -> None:
    options = [{"node-name": "n0", "read-only": True, **NULL}]
    assert run(monitor, "blockdev-reopen", options=options) == {}
    assert plug(monitor, VIRTIO, "d0", drive="n0") == {}
    assert [perm for _, perm, _ in edges(monitor)] == [{"consistent-read"}]


def test_a_scsi_disk_takes_its_node_along(monitor: Monitor) -> None:
    assert plug(monitor, SCSI, "c0", iothread="t0") == {}
    assert plug(monitor, SCSI, "c1") == {}
    assert plug(monitor, DISK, "d0", drive="n0", bus="c0.0", share_rw=True) == {}
    assert monitor.state.nodes["n0"].context == "t0"
    assert move(monitor, "n0", None) == FIXED
    assert plug(monitor, DISK, "d1", drive="n0", bus="c1.0", share_rw=True) == FIXED
    assert monitor.state.nodes["n0"].context == "t0"
    assert unplug(monitor, "d0") == {}
    assert monitor.events()[-1] == {
        "event": "DEVICE_DELETED",
        "data": {"device": "d0", "path": "/machine/peripheral/d0"},
    }
    assert monitor.state.nodes["n0"].context == ""
    assert plug(monitor, DISK, "d0", drive="n0") == {}, "on the newest controller"
    assert move(monitor, "n0", "t0") == FIXED


def test_a_node_in_a_thread_comes_back_for_a_controller_without(monitor: Monitor) -> None:
    assert move(monitor, "n0", "t1") == {}
    assert plug(monitor, SCSI, "c0") == {}
    assert plug(monitor, DISK, "d0", drive="n0") == {}
    assert monitor.state.nodes["n0"].context == ""


def test_a_virtio_disk_cannot_fetch_its_node(monitor: Monitor) -> None:
    assert move(monitor, "n0", "t0") == {}
    plug(monitor, VIRTIO, "d0", drive="n0", iothread="t0")
    assert monitor.outcome is not None
    assert monitor.outcome.hazards == {"hazard.unlocked-iothread"}


def test_what_is_on_the_pci_bus_stays(monitor: Monitor) -> None:
    assert plug(monitor, VIRTIO, "d0", drive="n0") == {}
    assert unplug(monitor, "d0") == {}
    assert unplug(monitor, "d0") == "Device d0 is already in the process of unplug"
    assert run(monitor, "blockdev-del", **{"node-name": "n0"}) == "Node n0 is in use"
    assert plug(monitor, VIRTIO, "d0", drive="n1") == "Duplicate device ID 'd0'"


def test_what_is_waited_for(monitor: Monitor) -> None:
    plug(monitor, SCSI, "c0")
    plug(monitor, DISK, "d0", drive="n0")
    assert unplug(monitor, "/machine/peripheral/d0") == {}
    assert monitor.outcome is not None
    assert monitor.outcome.settling == {"/machine/peripheral/d0": ("unplugged", None)}
    assert unplug(monitor, "d0") == "Device 'd0' not found"


def test_a_thread_that_a_device_keeps(monitor: Monitor) -> None:
    plug(monitor, SCSI, "c0", iothread="t0")
    plug(monitor, DISK, "d0", drive="n0", share_rw=True)
    assert run(monitor, "object-del", id="t0") == {}
    assert run(monitor, "object-add", **{"qom-type": "iothread", "id": "t0"}) == {}
    assert move(monitor, "n0", "t0") == FIXED
    assert plug(monitor, SCSI, "c1", iothread="t0") == {}
    said = plug(monitor, DISK, "d1", drive="n0", bus="c1.0", share_rw=True)
    assert said == FIXED
    assert plug(monitor, DISK, "d2", drive="n1", bus="c0.0") == {}


def test_a_job_is_in_the_way_of_a_thread(monitor: Monitor) -> None:
    arguments = {"job-id": "j0", "device": "n0", "target": "n1", "sync": "full"}
    assert run(monitor, "blockdev-mirror", **arguments) == {}
    busy = "Node 'n0' is busy: block device is in use by block job: mirror"
    said = plug(monitor, VIRTIO, "d0", drive="n0", iothread="t0", share_rw=True)
    assert said == f"cannot start virtio-blk dataplane: {busy}"
    plug(monitor, SCSI, "c0")
    assert plug(monitor, DISK, "d0", drive="n0", share_rw=True) == busy
    assert plug(monitor, VIRTIO, "d0", drive="n0", share_rw=True) == {}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "A device without a name is not modelled"),
        ({"id": "0d"}, "Parameter 'id' expects an identifier"),
        ({"id": "d"}, "Parameter 'driver' is missing"),
        ({"id": "d", "driver": "zz"}, "'zz' is not a valid device model name"),
        ({"id": "d", "driver": DISK}, "No 'SCSI' bus found for device 'scsi-hd'"),
        ({"id": "d", "driver": VIRTIO, "bus": "c9.0"}, "Bus 'c9.0' not found"),
        (
            {"id": "d", "driver": DISK, "bus": "pci.0"},
            "Device 'scsi-hd' can't go on PCI bus",
        ),
        ({"id": "d", "driver": VIRTIO}, "drive property not set"),
        ({"id": "d", "driver": VIRTIO, "drive": ""}, "drive property not set"),
        (
            {"id": "d", "driver": VIRTIO, "drive": "zz"},
            "Property 'virtio-blk-device.drive' can't find value 'zz'",
        ),
        (
            {"id": "d", "driver": SCSI, "drive": "n0"},
            "Property 'virtio-scsi-pci.drive' not found",
        ),
        ({"id": "d", "driver": SCSI, "iothread": "zz"}, "Device 'zz' not found"),
        (
            {"id": "d", "driver": SCSI, "iothread": "g0"},
            "Invalid parameter type for 'iothread', expected: iothread",
        ),
    ],
)
def test_what_is_refused(monitor: Monitor, arguments: dict[str, Any], text: str) -> None:
    run(monitor, "object-add", **{"qom-type": "throttle-group", "id": "g0"})
    before = monitor.state
    assert run(monitor, "device_add", **arguments) == text
    assert monitor.state == before

# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices of a machine as users of nodes; the texts are those of the emulator of 7.2."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.commands.plugging import DRIVERS, outside_devices
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_system_7_2 import QEMU_SYSTEM_7_2
from model.release.rules import NOT_MODELLED

NULL = {"driver": "null-co", "read-zeroes": True, "size": 1 << 20}
FIXED = "Cannot change iothread of active block backend"
MACHINE_AS_THREAD = (
    "reopencheck: 'machine' as the iothread of a device, a place in the machine itself, "
    "is not modelled"
)
NOTHING: tuple[Any, ...] = ({}, [], [[1]], None, {"a": {}})
SCSI, DISK, VIRTIO = "virtio-scsi-pci", "scsi-hd", "virtio-blk-pci"


def repr_of(value: Any) -> str:
    """A short name of a value for a test's identifier."""
    return ascii(value)[:20] if not isinstance(value, int) else f"{value.bit_length()} bits"


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
        ({}, "Parameter 'driver' is missing"),
        ({"id": "", "driver": DISK}, "Parameter 'id' expects an identifier"),
        ({"id": "0d"}, "Parameter 'id' expects an identifier"),
        ({"id": "d"}, "Parameter 'driver' is missing"),
        ({"id": "d", "driver": "zz"}, "'zz' is not a valid device model name"),
        ({"id": "d", "driver": "iothread"}, "'iothread' is not a valid device model name"),
        ({"driver": True}, "'on' is not a valid device model name"),
        ({"driver": 10**400}, "'inf' is not a valid device model name"),
        ({"driver": -(10**30)}, "'-1e+30' is not a valid device model name"),
        ({"driver": ""}, "'' is not a valid device model name"),
        ({"driver": {}}, "Parameter 'driver' is missing"),
        ({"driver": [SCSI]}, "Parameter 'driver' is missing"),
        ({"driver": None}, "Parameter 'driver' is missing"),
        ({"driver": "scsi-device"}, "Parameter 'driver' expects a non-abstract device type"),
        ({"driver": "apic"}, "Parameter 'driver' expects a pluggable device type"),
        ({"driver": "scsi-cd"}, "reopencheck: the device scsi-cd is not modelled"),
        ({"driver": "virtio-net"}, "reopencheck: the device virtio-net-pci is not modelled"),
        ({"id": "type", "driver": VIRTIO}, "Duplicate device ID 'type'"),
        ({"driver": SCSI}, "reopencheck: a device without an id is not modelled"),
        ({"driver": SCSI, "id": 7}, "reopencheck: a device without an id is not modelled"),
        ({"driver": VIRTIO, "id": {}}, "drive property not set"),
        ({"id": "d", "driver": DISK}, "No 'SCSI' bus found for device 'scsi-hd'"),
        ({"id": "d", "driver": VIRTIO, "bus": "c9.0"}, "Bus 'c9.0' not found"),
        ({"id": "d", "driver": VIRTIO, "bus": "c9.0/zz"}, "Bus 'c9.0' not found"),
        ({"id": "d", "driver": VIRTIO, "bus": "x" * 200}, f"Bus '{'x' * 127}' not found"),
        ({"id": "d", "driver": VIRTIO, "bus": 1.5}, "Bus '1.5' not found"),
        ({"id": "d", "driver": VIRTIO, "bus": {}}, "drive property not set"),
        ({"id": "d", "driver": DISK, "bus": "ide.0"}, "Device 'scsi-hd' can't go on IDE bus"),
        (
            {"id": "d", "driver": VIRTIO, "bus": "/x"},
            "reopencheck: a path to a bus, or a long name not in ASCII, is not modelled: '/x'",
        ),
        (
            {"id": "d", "driver": DISK, "bus": "pci.0"},
            "Device 'scsi-hd' can't go on PCI bus",
        ),
        ({"id": "d", "driver": VIRTIO}, "drive property not set"),
        ({"id": "d", "driver": VIRTIO, "drive": ""}, "drive property not set"),
        ({"id": "d", "driver": VIRTIO, "drive": [["n0"]]}, "drive property not set"),
        (
            {"id": "d", "driver": "virtio-blk", "drive": 7},
            "Property 'virtio-blk-device.drive' can't find value '7'",
        ),
        (
            {"id": "d", "driver": VIRTIO, "drive": "n0", "share-rw": 1},
            "Parameter 'share-rw' expects 'on' or 'off'",
        ),
        (
            {"id": "d", "driver": "virtio-blk", "drive": "n0", "bootsector": 1},
            "Property 'virtio-blk-pci.bootsector' not found",
        ),
        (
            {"id": "d", "driver": VIRTIO, "drive": "n0", "serial": "x"},
            "reopencheck: the property 'serial' of virtio-blk-pci is not modelled",
        ),
        (
            {"id": "d", "driver": VIRTIO, "drive": "zz"},
            "Property 'virtio-blk-device.drive' can't find value 'zz'",
        ),
        (
            {"id": "d", "driver": SCSI, "drive": "n0"},
            "Property 'virtio-scsi-pci.drive' not found",
        ),
        ({"id": "d", "driver": SCSI, "iothread": "zz"}, "Device 'zz' not found"),
        ({"id": "d", "driver": SCSI, "iothread": False}, "Device 'off' not found"),
        (
            {"id": "d", "driver": SCSI, "iothread": "d"},
            "Invalid parameter type for 'iothread', expected: iothread",
        ),
        (
            {"id": "d", "driver": SCSI, "iothread": "machine"},
            MACHINE_AS_THREAD,
        ),
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


LONG = "x" * 10**6
MEMBERS = ("driver", "bus", "id", "drive", "iothread", "share-rw", "zz", "serial")


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize(
    "value",
    [
        *("\ud800", "a\udfff", "\uffff", "\0" * 200, "é" * 200, LONG, "{0} %s"),
        *(10**400, -(10**5000), float("inf"), float("nan"), 1e-320, True, nested(90), [[[]]]),
    ],
    ids=repr_of,
)
def test_there_is_an_answer_to_whatever_is_given(monitor: Monitor, member: str, value: Any) -> None:
    assert plug(monitor, SCSI, "c0") == {}
    given = {"driver": "virtio-blk", "id": "d0", "drive": "n0", member: value}
    for arguments in (given, {**given, "driver": DISK}, {**given, repr_of(value): 1}):
        reply = monitor.execute({"execute": "device_add", "arguments": arguments})
        assert ("return" in reply) != ("error" in reply)
    reply = monitor.execute({"execute": "device_del", "arguments": {"id": value}})
    assert ("return" in reply) == (member == "id" and value == LONG), "the only name among them"


def test_what_counts_as_not_given(monitor: Monitor) -> None:
    for number, nothing in enumerate(NOTHING):
        arguments = {"driver": "virtio-scsi", "id": f"c{number}"}
        assert run(monitor, "device_add", **arguments, bus=nothing, iothread=nothing) == {}


@pytest.mark.parametrize("word", [True, "on", "yes", "true", "y"])
def test_words_of_a_switch(monitor: Monitor, word: Any) -> None:
    assert plug(monitor, VIRTIO, "d0", drive="n0", share_rw=word) == {}
    assert plug(monitor, "virtio-blk", "d1", drive="n0", share_rw="on") == {}
    assert plug(monitor, VIRTIO, "d2", drive="n0", share_rw="n").startswith("Permission conflict")


def test_a_bus_of_a_newer_device_comes_before_the_machines_own(monitor: Monitor) -> None:
    on_disks = "Device 'scsi-hd' can't go on IDE bus"
    assert plug(monitor, DISK, "d0", drive="n0", bus="ide.0") == on_disks
    for name in ("ide", "pci"):
        assert plug(monitor, SCSI, name) == {}
    on_pci = "Device 'scsi-hd' can't go on PCI bus"
    assert plug(monitor, DISK, "d0", drive="n0", bus="pci.0") == on_pci
    assert plug(monitor, DISK, "d0", drive="n0", bus="ide.0") == {}
    assert plug(monitor, DISK, "d1", drive="n1", bus="virtio-bus") == "Bus 'virtio-bus' is full"


def test_places_on_a_bus_run_out(monitor: Monitor) -> None:
    for number in range(30):
        assert plug(monitor, SCSI, f"c{number}") == {}
    full = "PCI: no slot/function available for virtio-blk-pci, all in use or reserved"
    assert plug(monitor, VIRTIO, "d0") == full
    assert plug(monitor, VIRTIO, "d0", drive="n0") == full
    for number in range(256):
        assert plug(monitor, DISK, f"d{number}", drive="n0", share_rw=True, bus="c3.0") == {}
    assert plug(monitor, DISK, "e0", bus="c3.0") == "no free target"
    assert plug(monitor, DISK, "e0", drive="n1") == {}
    assert run(monitor, "blockdev-del", **{"node-name": "n1"}) == "Node n1 is in use"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", " is not a hotpluggable device"),
        ("/", "/ is not a hotpluggable device"),
        ("/machine", "/machine is not a hotpluggable device"),
        ("/machine//peripheral", "/machine//peripheral is not a hotpluggable device"),
        ("type", "Device 'type' not found"),
        ("zz/c0", "Device 'zz/c0' not found"),
        ("/machine/peripheral/zz", "Device '/machine/peripheral/zz' not found"),
        ("c0/", {}),
        ("//machine/peripheral//c0", {}),
    ],
)
def test_paths_of_a_device(monitor: Monitor, path: str, text: Any) -> None:
    assert plug(monitor, SCSI, "c0") == {}
    assert unplug(monitor, path) == text


@pytest.mark.parametrize("path", ["c0/virtio-backend", "/objects/t0", "/machine/unattached"])
def test_paths_to_what_no_client_made(monitor: Monitor, path: str) -> None:
    assert plug(monitor, SCSI, "c0") == {}
    assert unplug(monitor, path).startswith("reopencheck: device_del of")


def test_the_way_to_an_iothread_through_a_device(monitor: Monitor) -> None:
    assert move(monitor, "n0", "c0/iothread") == "Cannot find iothread c0/iothread"
    assert plug(monitor, SCSI, "c0", iothread="t0") == {}
    assert move(monitor, "n0", "c0/iothread").startswith("reopencheck: 'c0/iothread' as the way")
    assert monitor.outcome is not None
    assert monitor.outcome.unmodelled == {"set-iothread.through-device"}


# What is outside the spec

CATALOGUE = QEMU_SYSTEM_7_2.schema.devices
OUTSIDE = {each.subject: each.reason for each in outside_devices(CATALOGUE)}


def test_every_property_is_modelled_or_left(monitor: Monitor) -> None:
    assert CATALOGUE.properties.keys() == DRIVERS.keys()
    assert plug(monitor, SCSI, "c0") == {}
    before = monitor.state
    asked = 0
    for driver, known in DRIVERS.items():
        assert set(known.properties) < set(CATALOGUE.properties[driver])
        for key in set(CATALOGUE.properties[driver]) - set(known.properties):
            given = {"driver": driver, "id": "d0", key: "off"}
            reply = monitor.execute({"execute": "device_add", "arguments": given})
            assert reply["error"]["class"] == NOT_MODELLED
            assert monitor.outcome is not None
            assert monitor.outcome.unmodelled == {f"device_add/{driver}.{key}"}
            assert monitor.outcome.unmodelled < OUTSIDE.keys()
            assert monitor.state == before
            asked += 1
    assert asked > 150


def test_every_device_model_is_modelled_refused_or_left(monitor: Monitor) -> None:
    names = [*CATALOGUE.types, *CATALOGUE.refused, *CATALOGUE.aliases]
    for name in names:
        reply = monitor.execute({"execute": "device_add", "arguments": {"driver": name, "zz": 1}})
        assert monitor.outcome is not None
        left = monitor.outcome.unmodelled
        driver = CATALOGUE.aliases.get(name, name)
        assert left == (
            set() if driver in {*DRIVERS, *CATALOGUE.refused} else {f"device_add/{driver}"}
        )
        assert left <= OUTSIDE.keys()
        assert (reply["error"]["class"] == NOT_MODELLED) == bool(left)
    assert set(CATALOGUE.aliases.values()) <= CATALOGUE.types
    assert not CATALOGUE.aliases.keys() & (CATALOGUE.types | CATALOGUE.refused.keys())


def test_a_storage_daemon_has_nothing_outside_for_devices() -> None:
    assert not list(outside_devices(QEMU_7_2.schema.devices))
    assert "device_add/scsi-hd.serial" in OUTSIDE
    assert "device_add/ide-hd" in OUTSIDE


# What disks show


def shown(monitor: Monitor) -> list[tuple[str, str]]:
    return [(each["qdev"], each["inserted"]["node-name"]) for each in run(monitor, "query-block")]


def test_disks_are_shown_in_the_order_in_which_they_came(monitor: Monitor) -> None:
    assert shown(monitor) == []
    assert plug(monitor, VIRTIO, "d1", drive="n1") == {}
    assert plug(monitor, SCSI, "c0") == {}
    assert plug(monitor, DISK, "d0", drive="n0", share_rw=True) == {}
    assert plug(monitor, DISK, "d2", drive="zz").startswith("Property")
    backend = "/machine/peripheral/d1/virtio-backend"
    assert shown(monitor) == [(backend, "n1"), ("d0", "n0")]
    (first, _) = run(monitor, "query-block")
    assert {key: first[key] for key in first if key not in {"qdev", "inserted"}} == {
        "device": "",
        "type": "unknown",
        "locked": False,
        "removable": False,
        "io-status": "ok",
    }
    (node,) = [
        each for each in run(monitor, "query-named-block-nodes") if each["node-name"] == "n1"
    ]
    assert first["inserted"] == node
    assert unplug(monitor, "d1") == unplug(monitor, "d0") == {}
    assert shown(monitor) == [(backend, "n1")]


@pytest.mark.parametrize("named", [False, True])
def test_filters_that_nobody_asked_for_are_left_out(monitor: Monitor, *, named: bool) -> None:
    for name, backing in (("b0", None), ("b1", "b0"), ("b2", "b1")):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size="1M")
        file = {"driver": "file", "filename": f"{name}.qcow2"}
        options = {"driver": "qcow2", "node-name": name, "file": file, "backing": backing}
        assert run(monitor, "blockdev-add", **options) == {}
    assert plug(monitor, VIRTIO, "d0", drive="b2") == {}
    job = {"job-id": "j0", "auto-finalize": False}
    asked = {"filter-node-name": "f0"} if named else {}
    assert run(monitor, "block-stream", device="b1", **job, **asked) == {}
    assert (
        run(
            monitor,
            "blockdev-mirror",
            **job | {"job-id": "j1"},
            device="b2",
            target="n1",
            sync="full",
        )
        == {}
    )
    ((_, node),) = shown(monitor)
    assert node == "b2", "the filter of the mirror is above it"
    (shows,) = run(monitor, "query-block")
    formats = []
    image = shows["inserted"]["image"]
    while image is not None:
        formats.append(image["format"])
        image = image.get("backing-image")
    assert formats == ["qcow2", *(["copy-on-read"] if named else []), "qcow2", "qcow2"]
    assert shows["inserted"]["backing_file_depth"] == len(formats) - 1

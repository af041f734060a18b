# SPDX-License-Identifier: GPL-2.0-or-later
"""The system emulator as a target: the same traces, and the same answers where nothing differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.doctor import dialect_for
from checker.judge import Example, judge
from checker.oracle import oracle
from checker.settling import settled
from model.release.dialects.qemu_system_7_2 import QEMU_SYSTEM_7_2
from model.values.programs import EMULATOR
from model.values.trace import ImageSpec, Trace
from targets.binaries import Build, find_driven
from targets.daemon import Daemon
from targets.errors import TargetError
from targets.pool import Target
from targets.replay import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NULL = {"driver": "null-co", "node-name": "n0"}
STATUS = {"execute": "query-status"}


def command(execute: str, **arguments: Any) -> dict[str, Any]:
    return {"execute": execute, "arguments": arguments}


@pytest.fixture(scope="module")
def emulator() -> Build:
    return find_driven(EMULATOR.binary)


@pytest.fixture
def machine(emulator: Build, tmp_path: Path) -> Iterator[Target]:
    with Target(emulator, parent=tmp_path) as ready:
        yield ready


def test_it_is_known_for_what_it_is(emulator: Build) -> None:
    assert emulator.program is EMULATOR
    assert dialect_for(emulator) == (QEMU_SYSTEM_7_2, "")


def test_its_machine_is_stopped(machine: Target) -> None:
    (seen,) = machine.run(Trace((), (STATUS,))).observations
    assert seen.reply["return"]["status"] == "prelaunch"


def test_it_answers_as_the_storage_daemon_does(machine: Target, target: Target) -> None:
    images = (ImageSpec("hd0.qcow2", "qcow2", 1 << 20),)
    file = {"driver": "file", "filename": "hd0.qcow2", "node-name": "f0"}
    disk = {"driver": "qcow2", "file": "f0", "node-name": "n1"}
    changed = {**disk, "read-only": True}
    commands = (
        command("blockdev-add", **file),
        command("blockdev-add", **disk),
        command("blockdev-reopen", options=[changed]),
        command("block_resize", **{"node-name": "n1", "size": 0}),
        command("blockdev-del", **{"node-name": "f0"}),
        command("blockdev-del", **{"node-name": "n1"}),
    )
    trace = Trace(images, commands)
    replies = [seen.reply for seen in target.run(trace).observations]
    assert ["return" in reply for reply in replies] == [True, True, True, False, False, True]
    assert machine.run(trace) == target.run(trace)


def test_it_is_kept_between_traces(machine: Target) -> None:
    for _ in range(3):
        assert machine.run(Trace((), (command("blockdev-add", **NULL),))).death is None
    assert machine.starts == 1


def device(driver: str, name: str, **properties: Any) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in properties.items()}
    return command("device_add", driver=driver, id=name, **named)


def move(node: str, thread: str | None) -> dict[str, Any]:
    arguments = {"node-name": node, "iothread": thread, "force": True}
    return command("x-blockdev-set-iothread", **arguments)


DISKS = (
    command("blockdev-add", **NULL),
    command("blockdev-add", **{**NULL, "node-name": "n1"}),
    command("object-add", **{"qom-type": "iothread", "id": "t0"}),
    device("scsi-hd", "d0", drive="n0"),
    device("virtio-scsi-pci", "c0", iothread="t0"),
    device("virtio-scsi-pci", "c1"),
    device("scsi-hd", "d0", drive="n0", bus="c0.0", share_rw=True),
    device("scsi-hd", "d1", drive="n0", bus="c1.0", share_rw=True),
    device("scsi-hd", "d1", drive="n1"),
    device("virtio-blk-pci", "d2", drive="n1", iothread="t0"),
    move("n0", None),
    move("n1", "t0"),
    command("blockdev-del", **{"node-name": "n0"}),
    command("device_del", id="d0"),
    command("device_del", id="d0"),
    move("n0", "t0"),
    move("n0", None),
    device("virtio-blk-pci", "d3", drive="n0", share_rw=True),
    command("device_del", id="d3"),
    command("device_del", id="d3"),
    command("object-del", id="t0"),
    device("scsi-hd", "d4", drive="n0", bus="c0.0"),
    command("device_del", id="d1"),
    command("blockdev-del", **{"node-name": "n1"}),
)


def test_disks_are_users_of_nodes(machine: Target) -> None:
    """Each step of it, and nothing of it is left for the next trace."""
    trace = settled(Trace((), DISKS), QEMU_SYSTEM_7_2)
    example = Example(trace, oracle(QEMU_SYSTEM_7_2)(trace))
    answers = {"return" in each.observation.reply for each in example.expectations}
    assert answers == {True, False}
    assert not any(each.hazards for each in example.expectations)
    for _ in range(2):
        replay = machine.run(trace)
        assert judge(example, replay) is None
        assert len(replay.observations) == len(trace.commands)
    assert machine.starts == 2


def test_a_disk_that_does_not_go_is_told(emulator: Build, tmp_path: Path) -> None:
    path = "/machine/peripheral/d0"
    wait = command("reopencheck-wait", id=path, status="unplugged")
    disk = device("virtio-blk-pci", "d0", drive="n0")
    commands = (command("blockdev-add", **NULL), disk, command("device_del", id="d0"), wait)
    with Daemon(emulator, tmp_path) as running:
        exchange = Exchange(running, commands, observed=0, patience=0.2)
        assert exchange.finish(5.0) is None
        (*_, last) = exchange.replies()
    assert (
        last["error"]["desc"]
        == f"Job '{path}' does not come to the status 'unplugged' but to 'plugged'"
    )


def test_a_machine_that_there_is_not(emulator: Build, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not start: Use -machine help"):
        Daemon(emulator, tmp_path, ("-machine", "no-such-machine"))
    odd = attrs.evolve(emulator, argv=(*emulator.argv, "--no-such-option"))
    with pytest.raises(TargetError, match=r"does not start: .*no-such-option"):
        Daemon(odd, tmp_path)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The system emulator as a target: the same traces, and the same answers where nothing differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.doctor import dialect_for
from model.dialects import QEMU_SYSTEM_7_2
from model.programs import EMULATOR
from model.trace import ImageSpec, Trace
from targets.binaries import Build, find_driven
from targets.daemon import Daemon
from targets.errors import TargetError
from targets.pool import Target

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


def test_a_machine_that_there_is_not(emulator: Build, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not start: Use -machine help"):
        Daemon(emulator, tmp_path, ("-machine", "no-such-machine"))
    odd = attrs.evolve(emulator, argv=(*emulator.argv, "--no-such-option"))
    with pytest.raises(TargetError, match=r"does not start: .*no-such-option"):
        Daemon(odd, tmp_path)

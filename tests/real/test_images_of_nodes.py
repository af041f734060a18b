# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files that nodes have open, have had open, and have open in one process after another.

A storage daemon does the very commands that a monitor does, and ends by ``quit`` where that is
closed; ``qemu-img`` then looks at the files.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, ImageError, Monitor, find_dialect
from model.values.state import EMPTY
from tests.real.image_twins import Twins, programs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from model import Dialect
    from targets.builds.binaries import Build
    from tests.real.image_twins import Operation

RELEASES = ("5.2", "7.2", "10.0", "11.1")
MIB = 1 << 20


class Process:
    """A storage daemon with a monitor on its standard streams; ``quit`` ends it."""

    def __init__(self, build: Build, directory: Path) -> None:
        self._popen = subprocess.Popen(
            [*build.argv, "--chardev", "stdio,id=m", "--monitor", "chardev=m"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()
        assert self.execute("qmp_capabilities") == {}

    def _line(self) -> dict[str, Any]:
        assert self._popen.stdout is not None
        found: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return found

    def execute(self, command: str, **arguments: Any) -> Any:
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._popen.stdin.flush()
        while "event" in (line := self._line()):
            pass
        return line.get("return", line)

    def wait_for_job(self, job: str, status: str) -> None:
        """Ask for a job until it has come to its status."""
        while not any(each["id"] == job and each["status"] == status for each in self.jobs()):
            assert self._popen.poll() is None

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.execute("query-jobs")
        return found

    def end(self) -> None:
        if self._popen.poll() is None:
            self.execute("quit")
        self._popen.communicate(timeout=60)


@contextmanager
def process(build: Build, directory: Path) -> Iterator[Process]:
    running = Process(build, directory)
    try:
        yield running
    finally:
        running.end()


class Both:
    """A monitor and a daemon, beside the same image files as the twins have."""

    def __init__(self, twins: Twins, dialect: Dialect, daemon: Process) -> None:
        self.monitor = Monitor(dialect, images=twins.images)
        self.daemon = daemon

    def do(self, command: str, **arguments: Any) -> None:
        mine = self.monitor.execute({"execute": command, "arguments": arguments})
        assert self.monitor.outcome is not None
        assert not self.monitor.outcome.unmodelled
        real = self.daemon.execute(command, **arguments)
        assert real == mine.get("return", mine)

    def wait(self, job: str, status: str) -> None:
        self.daemon.wait_for_job(job, status)
        assert self.monitor.state.jobs[job].status == status


@pytest.fixture(params=RELEASES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return find_dialect(f"qemu-{request.param}")


@pytest.fixture
def real(dialect: Dialect, build_of: Callable[[Dialect], Build]) -> Build:
    return build_of(dialect)


@pytest.fixture
def twins(dialect: Dialect, real: Build, tmp_path: Path) -> Twins:
    made = Twins(dialect, programs_of(real), tmp_path)
    begin: tuple[Operation, ...] = (
        ("create", {"name": "base", "format": "raw", "size": MIB}),
        ("write", {"name": "base", "offset": 0, "length": MIB, "pattern": 5}),
        (
            "create",
            {"name": "top", "format": "qcow2", "backing": "base", "backing_format": "raw"},
        ),
        ("write", {"name": "top", "offset": 65_536, "length": 100_000, "pattern": 6}),
        ("create", {"name": "other", "format": "qcow2", "size": MIB}),
    )
    for operation in begin:
        assert made.do(operation) == "ok"
    return made


def file(name: str) -> dict[str, Any]:
    return {"driver": "file", "filename": name}


def add(both: Both, name: str, **more: Any) -> None:
    kind = "raw" if name == "base" else "qcow2"
    both.do("blockdev-add", **{"driver": kind, "node-name": name, "file": file(name), **more})


def resized(both: Both) -> None:
    add(both, "top")
    both.do("block_resize", **{"node-name": "top", "size": 3 * MIB})


def lengthened(both: Both) -> None:
    add(both, "other")
    both.do("block_resize", **{"node-name": "other", "size": 3 * MIB})


def mirrored(both: Both) -> None:
    add(both, "top")
    add(both, "other")
    job = {"job-id": "j", "device": "top", "target": "other", "sync": "full"}
    both.do("blockdev-mirror", **job)
    both.wait("j", "ready")


def backed_up(both: Both) -> None:
    add(both, "top")
    add(both, "other")
    job = {"job-id": "j", "device": "top", "target": "other", "sync": "full"}
    both.do("blockdev-backup", **job, **{"auto-dismiss": False})
    both.wait("j", "concluded")


def pending(both: Both) -> None:
    add(both, "top")
    both.do("block-stream", **{"job-id": "j", "device": "top", "auto-finalize": False})
    both.wait("j", "pending")


def lazy(both: Both) -> None:
    add(both, "top")
    add(both, "other", **{"lazy-refcounts": True})
    job = {"job-id": "j", "device": "top", "target": "other", "sync": "top"}
    both.do("blockdev-mirror", **job)
    both.wait("j", "ready")


def exported(both: Both) -> None:
    add(both, "top")
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    both.do("nbd-server-start", addr=address)
    both.do("block-export-add", **{"type": "nbd", "id": "e", "node-name": "top"})


UNFLUSHED = [backed_up, pending]
"""Where something is in a cache at the end, which the storage daemon of 5.2 does not write."""
ENDS = [resized, mirrored, backed_up, pending, lazy, exported]


@pytest.mark.parametrize("scenario", ENDS, ids=lambda scenario: scenario.__name__)
def test_files_are_as_a_process_leaves_them(
    scenario: Callable[[Both], None], twins: Twins, dialect: Dialect, real: Build, tmp_path: Path
) -> None:
    with process(real, tmp_path) as daemon:
        both = Both(twins, dialect, daemon)
        scenario(both)
    both.monitor.close()
    assert both.monitor.outcome is not None
    assert not both.monitor.outcome.hazards
    assert attrs.evolve(both.monitor.state, images=EMPTY) == BlockState()
    assert all(not twins.images[name].dirty for name in twins.images)
    if scenario in UNFLUSHED and dialect.release < (6, 0):
        assert both.monitor.outcome.unmodelled == {"process.unflushed"}
        with pytest.raises(AssertionError, match="is not"):
            twins.look()
    else:
        assert both.monitor.outcome.ok or dialect.release < (6, 0)
        twins.look()


def test_a_disk_goes_from_one_process_to_the_next(
    twins: Twins, dialect: Dialect, real: Build, tmp_path: Path
) -> None:
    flushed = (mirrored, exported, mirrored)
    scenarios = (mirrored, resized, lengthened, mirrored)
    for scenario in scenarios if dialect.release >= (6, 0) else flushed:
        with process(real, tmp_path) as daemon:
            both = Both(twins, dialect, daemon)
            scenario(both)
        both.monitor.close()
        assert both.monitor.outcome is not None
        assert both.monitor.outcome.ok
        twins.look()


LOOKS: tuple[Operation, ...] = (
    ("info", {"name": "top"}),
    ("map", {"name": "top"}),
    ("compare", {"first": "other", "second": "top"}),
    ("resize", {"name": "top", "size": 2 * MIB}),
    ("rebase", {"name": "top", "backing": None, "unsafe": True}),
    ("info", {"name": "base", "format": "raw"}),
    ("info", {"name": "top", "force_share": True}),
    (
        "create",
        {"name": "new", "format": "qcow2", "backing": "top", "backing_format": "qcow2"},
    ),
)


@pytest.mark.parametrize(
    ("how", "outcomes"),
    [
        ({}, {"error", "ok", "unmodelled"}),
        ({"read-only": True}, {"error", "ok"}),
        ({"read-only": True, "force-share": True}, {"ok", "unmodelled"}),
    ],
)
def test_what_a_node_has_open(
    how: dict[str, Any],
    outcomes: set[str],
    twins: Twins,
    dialect: Dialect,
    real: Build,
    tmp_path: Path,
) -> None:
    with process(real, tmp_path) as daemon:
        both = Both(twins, dialect, daemon)
        add(both, "top", **how)
        assert {twins.do(operation) for operation in LOOKS} == outcomes
    both.monitor.close()
    twins.look()


def test_a_file_in_use_elsewhere_is_not_modelled(twins: Twins, dialect: Dialect) -> None:
    first, second = (Monitor(dialect, images=twins.images) for _ in range(2))
    command = {
        "execute": "blockdev-add",
        "arguments": {"driver": "qcow2", "node-name": "t", "file": file("top")},
    }
    assert first.execute(command) == {"return": {}}
    before = second.state
    assert second.execute(command)["error"]["class"] == "ReopencheckNotModelled"
    assert second.state is before
    with pytest.raises(ImageError, match="lock"):
        second.images.info("top")
    first.close()
    assert second.execute(command) == {"return": {}}

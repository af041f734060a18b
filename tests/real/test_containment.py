# SPDX-License-Identifier: GPL-2.0-or-later
"""The dangers are real: without the gate, each of these traces touches what lies outside.

A program is started by hand here, with nothing between it and the trace. It may reach a temporary
directory of the test, and no more. The same traces are then refused where they are run.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import attrs
import pytest

from model.values.trace import ImageSpec, Trace
from targets.binaries import Build, find_driven
from targets.errors import ContainmentError
from targets.pool import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from model.values.trace import Command
    from targets.images import ImageStore

MIB = 1 << 20
WITHIN = 15.0
"""Seconds after which what a trace is to do outside has not been done."""


def qmp(execute: str, **arguments: Any) -> Command:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return {"execute": execute, "arguments": named}


class Bare:
    """A program with a monitor on its standard input and output, in a directory of its own."""

    def __init__(self, build: Build, directory: Path) -> None:
        self.process = subprocess.Popen(
            [*build.argv, *build.program.arguments("stdio")],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ask({"execute": "qmp_capabilities"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, command: Command) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command))
        self.process.stdin.flush()
        while True:
            message: dict[str, Any] = json.loads(self.process.stdout.readline())
            if "return" in message or "error" in message:
                return message


@attrs.frozen
class Danger:
    """Commands that do something in the directory ``outside``, and how one sees that they did."""

    program: str
    images: tuple[ImageSpec, ...]
    commands: Callable[[Path, Path], list[Command]]
    done: Callable[[Path], bool]


DISK = ImageSpec("hd0.raw", "raw", MIB, data=((0, MIB, 7),))
ADD = qmp("blockdev-add", driver="file", node_name="n", filename="hd0.raw")


def _exec(outside: Path, _scratch: Path) -> list[Command]:
    return [qmp("migrate", uri=f"exec:touch {outside}/mark")]


def _hmp(outside: Path, _scratch: Path) -> list[Command]:
    line = f'pmemsave 0 16 "{outside}/mark"'
    return [qmp("human-monitor-command", command_line=line)]


def _single_quotes(outside: Path, _scratch: Path) -> list[Command]:
    target = f"json:{{'driver':'raw','file':{{'driver':'file','filename':'{outside}/victim'}}}}"
    backup = qmp(
        "drive-backup", job_id="j", device="n", target=target, sync="full", mode="existing"
    )
    return [ADD, backup]


def _character_device(outside: Path, _scratch: Path) -> list[Command]:
    backend = {"type": "file", "data": {"out": f"{outside}/mark"}}
    return [qmp("chardev-add", id="c", backend=backend)]


def _written(start: int, name: str) -> Iterator[Command]:
    for place, letter in enumerate(name):
        if letter == "/":
            arguments = {"node": "n", "offset": start + place, "length": 1, "pattern": ord("/")}
            yield {"execute": "reopencheck-write", "arguments": arguments}


def _made(outside: Path) -> bool:
    return (outside / "mark").exists()


def _overwritten(outside: Path) -> bool:
    return (outside / "victim").read_bytes()[:512] == b"\7" * 512


STORAGE, MACHINE = "qemu-storage-daemon", "qemu-system-x86_64"
DANGERS = {
    "a shell command by migrate": Danger(MACHINE, (), _exec, _made),
    "memory written by HMP": Danger(MACHINE, (), _hmp, _made),
    "a file overwritten by a name in single quotes": Danger(
        STORAGE, (DISK,), _single_quotes, _overwritten
    ),
    "a file made by a character device": Danger(STORAGE, (), _character_device, _made),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "victim").write_bytes(bytes(MIB))
    return directory


@pytest.mark.parametrize("name", DANGERS)
def test_without_the_gate_it_is_done(
    name: str, tmp_path: Path, outside: Path, images: ImageStore
) -> None:
    danger = DANGERS[name]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    images.create(scratch, danger.images)
    with Bare(find_driven(danger.program), scratch) as program:
        for command in danger.commands(outside, scratch):
            assert "return" in program.ask(command)
        give_up = time.monotonic() + WITHIN
        while not danger.done(outside) and time.monotonic() < give_up:
            program.ask({"execute": "query-status" if danger.program == MACHINE else "query-jobs"})
    assert danger.done(outside)


@pytest.mark.parametrize("name", DANGERS)
def test_with_the_gate_nothing_is_touched(name: str, tmp_path: Path, outside: Path) -> None:
    danger = DANGERS[name]
    commands = danger.commands(outside, tmp_path)
    with Target(find_driven(danger.program), parent=tmp_path) as target:
        with pytest.raises(ContainmentError, match=r"^step \d: "):
            target.begin(Trace(danger.images, tuple(commands)))
        assert target.starts == 0
    assert not danger.done(outside)
    assert [each.name for each in outside.iterdir()] == ["victim"]


def test_a_header_that_is_put_together_opens_a_file_outside(
    tmp_path: Path, outside: Path, images: ImageStore, build: Build
) -> None:
    """What a guest could write to the file below a disk, byte by byte, is written here at once."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    name = f"{outside}/victim"
    plain = ImageSpec("hd1.qcow2", "qcow2", MIB, name.replace("/", "x"), "raw")
    images.create(scratch, (plain,))
    below = qmp("blockdev-add", driver="file", node_name="n", filename="hd1.qcow2")
    image = scratch / "hd1.qcow2"
    start = image.read_bytes().index(name.replace("/", "x").encode())
    writes = list(_written(start, name))
    with image.open("r+b") as file:
        for write in writes:
            file.seek(write["arguments"]["offset"])
            file.write(b"/")
    disk = {"driver": "file", "filename": "hd1.qcow2"}
    with Bare(build, scratch) as program:
        added = program.ask(qmp("blockdev-add", driver="qcow2", node_name="d", file=disk))
        nodes = program.ask(qmp("query-named-block-nodes", flat=True))
    assert added == {"return": {}}
    assert name in {node["file"] for node in nodes["return"]}
    with (
        Target(build, parent=tmp_path) as target,
        pytest.raises(ContainmentError, match="within sectors"),
    ):
        target.begin(Trace((plain,), (below, *writes)))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the command line, what kills their daemons, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from targets.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

MARK: Final = "REOPENCHECK_BENCHMARK"
"""The environment variable by which everything that a run has started is known."""
DAEMONS: Final = ("qemu-storage-da", "qemu-system-x86", "ld-linux-x86-64", "ld.so")
"""What the kernel calls the processes that are daemons (15 letters)."""
SIGNALS: Final = (
    *(signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT) * 3,
    signal.SIGSTOP,
)
"""What daemons are killed with; one that is stopped costs ten seconds."""
GRACE: Final = 8.0
"""Seconds in which what cleans up after a dead run may do so."""


@attrs.frozen
class Ended:
    """How a run has ended: its status (negative: the signal), what it printed, what it reported."""

    status: int
    document: dict[str, Any] | None
    error: str

    def signatures(self) -> set[str]:
        """The findings that it printed."""
        found = self.document or {}
        return {each["signature"] for each in found.get("findings", found.get("differences", ()))}


class Place(Closing):
    """A directory in which runs work, and from which nothing of theirs is to be left but results.

    A context manager; it ends what was left, and removes everything.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="benchmark-")
        self.path = Path(self._directory.name)
        self.scratch = self.path / "scratch"
        self.scratch.mkdir()
        self._mark = secrets.token_hex(8)

    def close(self) -> None:
        """End what still runs, and remove everything."""
        for pid in self._processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._directory.cleanup()

    def start(
        self, arguments: Sequence[str], results: str, *, cases: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start the command line; its output, and cases if it writes any, go below `results`."""
        directory = self.path / results
        directory.mkdir(exist_ok=True)
        program = str(Path(sys.executable).with_name("reopencheck"))
        environment = {**os.environ, MARK: self._mark, "TMPDIR": str(self.scratch)}
        into = ["--cases", str(directory / "cases")] if cases else []
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            return subprocess.Popen(
                [program, *arguments, "--json", *into],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def end(self, process: subprocess.Popen[bytes], results: str) -> Ended:
        """Wait for a run and read what it printed."""
        status = process.wait(timeout=900)
        directory = self.path / results
        document = None
        with contextlib.suppress(ValueError):
            document = json.loads((directory / "out").read_bytes())
        error = (directory / "err").read_text(encoding="utf-8", errors="replace")
        return Ended(status, document, error)

    def cases(self, results: str) -> set[str]:
        """The signatures of the cases that were written; one that cannot be read has none."""
        found = set()
        for path in (self.path / results / "cases").glob("*.json"):
            try:
                found.add(str(json.loads(path.read_bytes())["signature"]))
            except (ValueError, KeyError):
                found.add(f"{path.name} cannot be read")
        return found

    def leftovers(self) -> list[str]:
        """What is left of all runs, after a moment of grace: a line each."""
        end = time.monotonic() + GRACE
        while (found := list(self._left())) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def _left(self) -> Iterator[str]:
        for pid in self._processes():
            yield f"process {pid}: {_read(pid, 'comm').strip()}"
        for path in sorted(self.scratch.iterdir()):
            yield f"scratch: {path.name}"
        mine = str(self.path)
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            if mine in line:
                yield f"mount: {line}"
        for line in Path("/proc/net/unix").read_text(encoding="utf-8").splitlines():
            if mine in line:
                yield f"socket: {line.split()[-1]}"

    def _processes(self) -> list[int]:
        """Those that a run has started: they inherit its environment, or work below the place."""
        found = []
        for pid in _pids():
            inside = False
            with contextlib.suppress(OSError):
                inside = Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.path)
            if (inside or self._mark in _read(pid, "environ")) and _state(pid) != "Z":
                found.append(pid)
        return found


class Killer(threading.Thread):
    """Kills daemons of one run, and of nobody else, at random moments until it is told to stop."""

    def __init__(self, root: int, random: Random, most: int) -> None:
        """Only what descends from the process `root` is killed, `most` of it."""
        super().__init__(daemon=True)
        self.killed: list[str] = []
        self._root = root
        self._random = random
        self._most = most
        self._over = threading.Event()

    def stop(self) -> int:
        """Stop, and return how many were killed."""
        self._over.set()
        self.join()
        return len(self.killed)

    def run(self) -> None:
        """Kill, wait, kill."""
        while len(self.killed) < self._most:
            if self._over.wait(self._random.uniform(0.02, 0.5)):
                return
            daemons = [p for p in descendants(self._root) if _read(p, "comm").strip() in DAEMONS]
            if daemons:
                pid, number = self._random.choice(daemons), self._random.choice(SIGNALS)
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
                    self.killed.append(number.name)


def descendants(root: int) -> list[int]:
    """The processes below one, oldest first."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _read(pid, "stat").rpartition(")")[2].split()
        if len(fields) > 1:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _state(pid: int) -> str:
    return (_read(pid, "stat").rpartition(")")[2].split() or ["Z"])[0]

# SPDX-License-Identifier: GPL-2.0-or-later
"""One running storage daemon, or system emulator, in a scratch directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import attrs
import msgspec

from targets.connection import Connection, ConnectionLostError, SilenceError
from targets.deaths import Death, ended, hung, was_held
from targets.errors import TargetError
from targets.messages import Message, ProtocolError, TooMuchError, capabilities, greeting, read

if TYPE_CHECKING:
    from types import TracebackType

    from targets.binaries import Build

__all__ = ["TIMEOUT", "Daemon", "Death", "OwnServer", "StartError"]

TIMEOUT = 10.0
"""Seconds without a reply after which a daemon counts as hung."""

_START_WITHIN = 30.0
_EXIT_WITHIN = 5.0
_TAIL_BYTES = 8192
_TAIL_LINES = 20

# Runs beside the daemon and outlives us: when our end of its standard input closes, however
# we died, it ends the daemon and removes the scratch directory.
_GUARD = 'read -r _; kill -KILL "$1" 2>/dev/null; rm -rf -- "$2"'


class StartError(TargetError):
    """A daemon did not come up. ``death`` says how it was lost."""

    def __init__(self, message: str, death: Death) -> None:
        super().__init__(message)
        self.death = death


@attrs.define
class OwnServer:
    """An NBD server that a daemon runs for us: its address (abstract), and whether it runs."""

    address: str
    running: bool = False


class Daemon:
    """A process of QEMU with a QMP connection; a context manager that leaves nothing behind.

    It is a storage daemon or a system emulator: to us, either is a daemon.
    """

    _process: subprocess.Popen[bytes] | None = None
    _held = False

    def __init__(
        self,
        build: Build,
        parent: str | os.PathLike[str] | None = None,
        arguments: tuple[str, ...] = (),
        *,
        out_of_band: bool = True,
    ) -> None:
        """Start a daemon whose current directory is a new one below `parent`.

        `parent` is the system's place for temporary files by default; `arguments` are added
        to the command line. `out_of_band` enables the QMP capability of that name, with which
        the daemon reads the next request while it works on this one. Raises TargetError if
        the daemon does not come up.
        """
        self.build = build
        self.greeting: dict[str, object] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._stderr_mark = 0
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours)
        self.directory = Path()
        try:
            with theirs:
                self.directory = _scratch(parent)
                self._start(theirs, arguments)
            self.nbd = OwnServer(f"reopencheck-{self.pid}")
            self._negotiate(out_of_band=out_of_band)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        if self._process is None:
            raise TargetError(f"the {self.build.program.name} is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (or hangs, but exists)."""
        return self._process is not None and self._process.poll() is None

    def mark(self) -> None:
        """Begin a new trace: earlier error output no longer belongs to a death."""
        self._stderr_mark = os.fstat(self._stderr.fileno()).st_size
        self.was_held()
        self._held = False

    def stderr_tail(self) -> tuple[str, ...]:
        """Return the last lines of error output since `mark`, at most twenty."""
        # pread: the daemon shares this file's offset.
        descriptor = self._stderr.fileno()
        start = max(self._stderr_mark, os.fstat(descriptor).st_size - _TAIL_BYTES)
        text = os.pread(descriptor, _TAIL_BYTES, start).decode(errors="replace")
        return tuple(text.splitlines()[-_TAIL_LINES:])

    def autopsy(self, step: int, *, silent: bool) -> Death:
        """Say how the daemon was lost at a step, and make sure that it is dead.

        `silent` says that it stopped answering; otherwise it closed the connection, which
        counts as a hang too if it does not end by itself then.
        """
        process = self._process
        if process is None:
            return Death("exit", step)
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout=0 if silent else _EXIT_WITHIN)
        held = status is None and self.was_held()
        tail = self.stderr_tail()
        self.kill()
        return hung(step, tail, held=held) if status is None else ended(step, status, tail)

    def was_held(self) -> bool:
        """Whether somebody has stopped the process since `mark`, even if it goes on by now."""
        if not self._held and self._process is not None:
            self._held = was_held(self._process.pid)
        return self._held

    def kill(self) -> None:
        """End the process at once; the scratch directory stays until `close`."""
        if self._process is not None:
            _end(self._process)

    def close(self) -> None:
        """End the process and remove the scratch directory; may be called again."""
        self.kill()
        self.connection.close()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)
        if self._guard is not None:
            # Last, so that there is no moment in which nobody would clean up.
            _end(self._guard)
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
        self._stderr.close()

    def clear_directory(self) -> None:
        """Remove everything from the scratch directory."""
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink()

    def _start(self, theirs: socket.socket, arguments: tuple[str, ...]) -> None:
        # A connected socket is handed over instead of a path: nothing to poll for, no limit
        # of 108 bytes, and no file among the images. All releases since 5.2 take it.
        started = self.build.program.arguments(f"socket,fd={theirs.fileno()}")
        try:
            self._process = subprocess.Popen(
                [*self.build.argv, *started, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
                # Not in our group: Ctrl-C is for us, who then end it in order.
                process_group=0,
            )
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", str(self._process.pid), str(self.directory)],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise TargetError(
                f"cannot start {self.build.argv[0]}: {error.strerror or error}"
            ) from error

    def _negotiate(self, *, out_of_band: bool) -> None:
        said = ""
        try:
            self.greeting = greeting(self._next())
            offered = self.greeting.get("capabilities")
            wanted = (
                ["oob"] if out_of_band and isinstance(offered, list) and "oob" in offered else []
            )
            request = {"execute": "qmp_capabilities", "arguments": {"enable": wanted}}
            self.connection.send(msgspec.json.encode(request))
            capabilities(self._next())
        except (ConnectionLostError, SilenceError) as error:
            death = self.autopsy(0, silent=isinstance(error, SilenceError))
        except (ProtocolError, TooMuchError) as error:
            lost = self.autopsy(0, silent=True)
            said = f"it says {error}"
            death = attrs.evolve(lost, kind="protocol", detail=str(error))
        else:
            return
        said = said or death.last_words or death.detail or death.kind
        raise StartError(f"{self.build.argv[-1]} does not start: {said}", death)

    def _next(self) -> Message:
        (line, *_) = self.connection.receive(_START_WITHIN)
        return read(line)


def _scratch(parent: str | os.PathLike[str] | None) -> Path:
    """Make a new directory below `parent`. Raises TargetError."""
    try:
        return Path(tempfile.mkdtemp(prefix="reopencheck-", dir=parent))
    except OSError as error:
        raise TargetError(
            f"cannot make a scratch directory in {parent or tempfile.gettempdir()}: "
            f"{error.strerror or error}"
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap a process that we started, if it still runs."""
    if process.poll() is None:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_EXIT_WITHIN)

# SPDX-License-Identifier: GPL-2.0-or-later
"""One running storage daemon, or system emulator, in a scratch directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Self

import attrs
import msgspec

from targets import disturbances, scratch
from targets.connection import Connection, ConnectionLostError, SilenceError
from targets.errors import TargetError
from targets.launching import NOT_BUILT
from targets.process import Process, descriptor_to_pass, last_line
from targets.walls import DISK

if TYPE_CHECKING:
    from types import TracebackType

    from targets.binaries import Build

TIMEOUT = 10.0
"""Seconds without a reply after which a daemon counts as hung."""

_START_WITHIN = 30.0
_EXIT_WITHIN = 15.0
_TAIL_BYTES = 8192
_TAIL_LINES = 20
_LOOK_EVERY = 0.25
_MOST_STDERR = 1 << 22
"""Bytes of error output after which all but its end is forgotten."""
_ATTEMPTS = 3


@attrs.frozen
class Death:
    """How and where a daemon was lost.

    ``kind`` is "crash" (ended by ``signal``, a name such as "SIGABRT"), "exit" (ended by
    itself with ``status``), "hang" (no reply in time; it was killed) or "disturbed": what ended
    it was not its own doing but, as ``cause`` says in a line, somebody's signal, or a limit of
    ours or of the machine (it has ``signal`` or ``status`` then, too). ``step`` is the
    index of the first command that was not completely answered; the number of commands
    in the trace if all were and the nodes' removal afterwards was fatal. ``stderr`` holds
    the last lines that it wrote since the trace began.
    """

    kind: Literal["crash", "exit", "hang", "disturbed"]
    step: int
    signal: str | None = None
    status: int | None = None
    stderr: tuple[str, ...] = ()
    cause: str | None = None


class _DisturbedStartError(TargetError):
    """A daemon was lost at its start by no fault of its own."""


@attrs.define
class OwnServer:
    """An NBD server that a daemon runs for us: its address (a path), and whether it runs.

    The socket is neither among the images nor in the abstract namespace, which a daemon without
    a network has for itself.
    """

    address: str
    running: bool = False


class Daemon:
    """A process of QEMU with a QMP connection; a context manager that leaves nothing behind.

    It is a storage daemon or a system emulator: to us, either is a daemon.
    """

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
        self._parent = parent
        self._arguments = arguments
        self._out_of_band = out_of_band
        self.connection: Connection
        self._watch: threading.Thread | None
        for attempt in range(_ATTEMPTS):
            try:
                self._open()
            except BaseException as error:
                self.close()
                if isinstance(error, _DisturbedStartError) and attempt + 1 < _ATTEMPTS:
                    continue
                raise
            return

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
        """The process id of QEMU itself, not of what stands between it and us."""
        if self._process is None:
            raise TargetError(f"the {self.build.program.name} is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (or hangs, but exists)."""
        return self._process is not None and self._process.alive

    def mark(self) -> None:
        """Begin a new trace: earlier error output no longer belongs to a death."""
        self._stderr_mark = os.fstat(self._stderr.fileno()).st_size

    def stderr_tail(self) -> tuple[str, ...]:
        """Return the last lines of error output since `mark`, at most twenty."""
        # pread: the daemon shares this file's offset.
        descriptor = self._stderr.fileno()
        size = os.fstat(descriptor).st_size
        # What was forgotten in between made it shorter.
        start = max(min(self._stderr_mark, size), size - _TAIL_BYTES)
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
        end = process.wait(0 if silent else _EXIT_WITHIN)
        tail = self.stderr_tail()
        self.kill()
        if self._overflow is not None:
            return Death("disturbed", step, stderr=tail, cause=self._overflow)
        if end is None:
            return Death("hang", step, stderr=tail)
        cause = disturbances.cause(end, tail, told_to_quit=self.may_quit)
        kind: Literal["crash", "exit", "disturbed"] = "exit" if end.signal is None else "crash"
        return Death(
            kind if cause is None else "disturbed",
            step,
            signal=end.signal_name,
            status=end.status,
            stderr=tail,
            cause=cause,
        )

    def kill(self) -> None:
        """End the process at once; the scratch directory stays until `close`."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process and remove the scratch directory; may be called again."""
        self._closing.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        self.kill()
        self.connection.close()
        for each in (self._scratch, self._sockets):
            if each is not None:
                each.close()
        if self._process is not None:
            # Last, so that there is no moment in which nobody would clean up.
            self._process.close()
        self._stderr.close()

    def clear_directory(self) -> None:
        """Remove everything from the scratch directory."""
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink()

    def _open(self) -> None:
        """Start the process and greet it; what was made when this fails is left to `close`."""
        self.greeting: dict[str, object] = {}
        self.may_quit = True
        """Whether the commands that were sent may make it end with status 0."""
        self.directory = Path()
        self._process: Process | None = None
        self._scratch: scratch.Scratch | None = None
        self._sockets: scratch.Scratch | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed in close()
        self._stderr_mark = 0
        self._overflow: str | None = None
        self._closing = threading.Event()
        self._watch = None
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours)
        with theirs:
            self._scratch = scratch.Scratch(self._parent)
            self._sockets = scratch.for_sockets()
            self.directory = self._scratch.path
            self.nbd = OwnServer(str(self._sockets.path / "nbd"))
            self._start(theirs, self._sockets.path)
        self._watch = threading.Thread(target=self._look_after, daemon=True)
        self._watch.start()
        self._negotiate(out_of_band=self._out_of_band)

    def _start(self, theirs: socket.socket, sockets: Path) -> None:
        # A connected socket is handed over instead of a path: nothing to poll for, no limit
        # of 108 bytes, and no file among the images. All releases since 5.2 take it.
        passed = descriptor_to_pass(theirs.fileno())
        try:
            started = self.build.program.arguments(f"socket,fd={passed}")
            self._process = Process(
                (*self.build.argv, *started, *self._arguments),
                self.build.walls,
                self.directory,
                writable=(sockets,),
                stderr=self._stderr,
                pass_fds=(passed,),
            )
        finally:
            os.close(passed)

    def _look_after(self) -> None:
        """Keep what the daemon writes within bounds, until it is closed: a thread of its own."""
        bounded = "disk" in self.build.walls.up
        while not self._closing.wait(_LOOK_EVERY):
            if os.fstat(self._stderr.fileno()).st_size > _MOST_STDERR:
                os.ftruncate(self._stderr.fileno(), 0)
            if bounded and scratch.occupied(self.directory) > DISK:
                self._overflow = f"its scratch directory grew beyond {DISK} bytes"
                self.kill()
                return

    def _negotiate(self, *, out_of_band: bool) -> None:
        try:
            self.greeting = self._next()["QMP"]
            offered = self.greeting.get("capabilities", [])
            wanted = (
                ["oob"] if out_of_band and isinstance(offered, list) and "oob" in offered else []
            )
            request = {"execute": "qmp_capabilities", "arguments": {"enable": wanted}}
            self.connection.send(msgspec.json.encode(request))
            answer = self._next()
        except (ConnectionLostError, SilenceError, KeyError, msgspec.DecodeError) as error:
            death = self.autopsy(0, silent=isinstance(error, SilenceError))
            raise self._not_started(death) from error
        if "return" not in answer:
            raise TargetError(f"{self.build.argv[-1]} refuses the QMP capabilities: {answer}")

    def _not_started(self, death: Death) -> TargetError:
        name = self.build.argv[-1]
        said = last_line("\n".join(death.stderr)) or death.cause or death.kind
        if death.status == NOT_BUILT and self.build.walls.up:
            return TargetError(
                f"the walls cannot be put up for {name}: {said} "
                "(--trust takes single ones down; see reopencheck doctor)"
            )
        if death.kind == "disturbed":
            return _DisturbedStartError(f"{name} does not start: {said} ({death.cause})")
        return TargetError(f"{name} does not start: {said}")

    def _next(self) -> dict[str, dict[str, object]]:
        (line, *_) = self.connection.receive(_START_WITHIN)
        message: dict[str, dict[str, object]] = msgspec.json.decode(line)
        return message

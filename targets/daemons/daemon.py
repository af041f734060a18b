# SPDX-License-Identifier: GPL-2.0-or-later
"""One running storage daemon, or system emulator, in a scratch directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

import attrs
import msgspec

from targets.closing import Closing
from targets.daemons.deaths import Death, ended, hung, unasked, was_held
from targets.errors import TargetError
from targets.walls import scratch
from targets.walls.launching import NOT_BUILT
from targets.walls.process import Process, descriptor_to_pass, in_use
from targets.walls.standing import DISK, IN_USE
from targets.wire.connection import Connection, ConnectionLostError, SilenceError
from targets.wire.messages import Message, ProtocolError, TooMuchError, capabilities, greeting, read

if TYPE_CHECKING:
    from targets.builds.binaries import Build

TIMEOUT = 10.0
"""Seconds without a reply after which a daemon counts as hung."""

_START_WITHIN = 30.0
_EXIT_WITHIN = 15.0
_TAIL_BYTES = 8192
_TAIL_LINES = 20
_LOOK_EVERY = 0.25
_LOOKS_PER_WALK = 4
_MOST_STDERR = 1 << 22
"""Bytes of error output after which all but its end is forgotten."""


class StartError(TargetError):
    """A daemon did not come up. ``death`` says how it was lost."""

    def __init__(self, message: str, death: Death) -> None:
        super().__init__(message)
        self.death = death


@attrs.define
class OwnServer:
    """An NBD server that a daemon runs for us: its address (a path), and whether it runs.

    The socket is neither among the images nor in the abstract namespace, which a daemon without
    a network has for itself.
    """

    address: str
    running: bool = False


_SAID = {"hang": "it does not answer"}
"""What is told of a daemon that left no words of its own."""


class Daemon(Closing):
    """A process of QEMU with a QMP connection; a context manager that leaves nothing behind.

    It is a storage daemon or a system emulator: to us, either is a daemon.
    """

    _process: Process | None = None
    _scratch: scratch.Scratch | None = None
    _sockets: scratch.Scratch | None = None
    _watch: threading.Thread | None = None
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
        self.directory = Path()
        self._overflow = ""
        self._closing = threading.Event()
        self._stderr: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed in close()
        self._stderr_mark = 0
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours)
        try:
            with theirs:
                self._scratch = scratch.Scratch(parent)
                self._sockets = scratch.for_sockets()
                self.directory = self._scratch.path
                self.nbd = OwnServer(str(self._sockets.path / "nbd"))
                self._start(theirs, self._sockets.path, arguments)
            watch = threading.Thread(target=self._look_after, daemon=True)
            try:
                watch.start()
            except RuntimeError as error:
                raise TargetError(f"{error}: allow more (ulimit -u, ulimit -v)") from error
            self._watch = watch
            self._negotiate(out_of_band=out_of_band)
        except BaseException:
            self.close()
            raise

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
        self.was_held()
        self._held = False

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
        held = end is None and self.was_held()
        tail = self.stderr_tail()
        self.kill()
        if self._overflow:
            return Death("disturbed", step, stderr=tail, detail=self._overflow, limit=True)
        return hung(step, tail, held=held) if end is None else ended(step, end, tail)

    def was_held(self) -> bool:
        """Whether somebody has stopped the process since `mark`, even if it goes on by now."""
        if not self._held and self._process is not None:
            self._held = was_held(self._process.popen.pid)
        return self._held

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

    def _start(self, theirs: socket.socket, sockets: Path, arguments: tuple[str, ...]) -> None:
        # A connected socket is handed over instead of a path: nothing to poll for, no limit
        # of 108 bytes, and no file among the images. All releases since 5.2 take it.
        passed = descriptor_to_pass(theirs.fileno())
        try:
            started = self.build.program.arguments(f"socket,fd={passed}")
            self._process = Process(
                (*self.build.argv, *started, *arguments),
                self.build.walls,
                self.directory,
                writable=(sockets,),
                stderr=self._stderr,
                pass_fds=(passed,),
            )
        finally:
            os.close(passed)

    def _look_after(self) -> None:
        """Keep what the daemon writes and uses within bounds, until it is closed: a thread."""
        bounded = "disk" in self.build.walls.up
        looks = 0
        while not self._closing.wait(_LOOK_EVERY):
            looks += 1
            if os.fstat(self._stderr.fileno()).st_size > _MOST_STDERR:
                os.ftruncate(self._stderr.fileno(), 0)
            # Not each time: to look through a directory takes longer.
            if bounded and looks % _LOOKS_PER_WALK == 0 and scratch.occupied(self.directory) > DISK:
                self._overflow = f"its scratch directory grew beyond {DISK} bytes"
            elif "memory" in self.build.walls.up and in_use(self.pid) > IN_USE:
                self._overflow = f"it uses more than {IN_USE} bytes of memory"
            if self._overflow:
                self.kill()
                return

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
            death = unasked(self.autopsy(0, silent=isinstance(error, SilenceError)))
        except (ProtocolError, TooMuchError) as error:
            lost = self.autopsy(0, silent=True)
            said = f"it says {error}"
            death = attrs.evolve(lost, kind="protocol", detail=str(error))
        else:
            return
        name = self.build.name
        said = said or death.last_words or death.detail or _SAID.get(death.kind, death.kind)
        if death.status == NOT_BUILT and self.build.walls.up:
            said += " (--trust takes single walls down; see reopencheck doctor)"
            raise StartError(f"the walls cannot be set up for {name}: {said}", death)
        raise StartError(f"{name} does not start: {said}", death)

    def _next(self) -> Message:
        (line, *_) = self.connection.receive(_START_WITHIN)
        return read(line)

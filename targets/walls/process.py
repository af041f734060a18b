# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that runs behind walls: it ends with all that it has started, whatever ends us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import attrs

from targets.errors import TargetError
from targets.walls.launching import NOT_BUILT, runnable, tool
from targets.walls.outputs import read_all
from targets.walls.standing import IN_USE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from targets.walls.standing import Walls

_EXIT_WITHIN = 5.0
_SHELL_SIGNALS = 128
_CANNOT_RUN = (126, 127)
_NOT_EXECUTED = re.compile(r"exec: |failed to execute ")
_LOWEST_PASSED = 20
"""The shells in between use the descriptors below ten."""
_LEAST_DESCRIPTORS = 64
"""What one daemon takes, with pipes, sockets and files of ours; each further one takes ten."""

# Runs beside the program and outlives us: when our end of its standard input closes, however we
# died, it ends the program's process group and removes the scratch directories.
_GUARD = 'read -r _; kill -KILL "-$1" "$1" 2>/dev/null; shift; rm -rf -- "$@"'


@attrs.frozen
class End:
    """How a program ended: by itself with ``status``, or by a signal of this number."""

    status: int | None = None
    signal: int | None = None

    @property
    def signal_name(self) -> str | None:
        """The signal's name, such as "SIGABRT"."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"


def ended(returncode: int) -> End:
    """What a return code says, directly or as a shell tells it of what it ran (128 and more)."""
    number = -returncode if returncode < 0 else returncode - _SHELL_SIGNALS
    if 0 < number < signal.NSIG:
        return End(signal=number)
    return End(status=returncode)


class Process:
    """A program in a directory of its own, the leader of a process group behind walls."""

    def __init__(
        self,
        argv: Sequence[str],
        walls: Walls,
        directory: Path,
        *,
        writable: Sequence[Path] = (),
        needed: Sequence[str] = (),
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it in `directory`; it may write there and to the directories `writable`.

        Those are removed when we are gone. `needed` are words of command lines that it will run:
        it sees what they name. Descriptors that are passed must be 20 or more. Raises
        TargetError if it cannot be started.
        """
        self._guard: subprocess.Popen[bytes] | None = None
        self._own_processes = "pid" in walls.up
        directories = (directory, *writable)
        why = runnable(argv[0])
        if why:
            raise TargetError(f"cannot start {argv[0]}: {why}")
        try:
            self.popen = subprocess.Popen(
                walls.behind(
                    argv, str(directory), writable=tuple(map(str, directories)), needed=needed
                ),
                cwd=directory,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                # Not in our group: Ctrl-C is for us, who then end it in order.
                process_group=0,
            )
            try:
                self._guard = _guard(self.popen.pid, directories)
            except BaseException:
                self.kill()
                raise
        except OSError as error:
            raise TargetError(f"cannot start {argv[0]}: {error.strerror or error}") from error

    @property
    def pid(self) -> int:
        """The process that was started last, each by the one before: the program itself.

        Behind walls, or behind a wrapper that does not `exec`, it is not the process that we
        started, but that one ends with it, in the same way.
        """
        pid = self.popen.pid
        while children := _children(pid):
            pid = children[0]
        return pid

    @property
    def alive(self) -> bool:
        """Whether it runs (or hangs, but exists)."""
        return self.popen.returncode is None and self._peek() is None

    def write(self, data: bytes) -> None:
        """Write to its standard input, if that is a pipe. Raises BrokenPipeError if it is gone."""
        if self.popen.stdin is not None:
            self.popen.stdin.write(data)
            self.popen.stdin.flush()

    def wait(self, timeout: float) -> End | None:
        """How it ended, if it does within so many seconds."""
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while (end := self._peek()) is None and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return end

    def kill(self) -> None:
        """End it, and all that it has started, at once."""
        if self.popen.returncode is not None:
            return
        # The first process of a pid namespace is not dead before all others in it are, and what has
        # started it waits for that.
        first = _children(self.popen.pid) if self._own_processes else []
        for child in first:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        if first and self.wait(_EXIT_WITHIN) is not None:
            self.popen.wait()
            return
        # Not reaped yet: the number of the group is still that of nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=_EXIT_WITHIN)

    def close(self) -> None:
        """End it for good; may be called again. Its directories are no longer looked after."""
        self.kill()
        for file in (self.popen.stdin, *pipes(self.popen)):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        if self._guard is not None:
            self._guard.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(timeout=_EXIT_WITHIN)
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None

    def _peek(self) -> End | None:
        """How it ended, without letting its number go to another process."""
        if self.popen.returncode is not None:
            return ended(self.popen.returncode)
        found = os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        if found.si_code == os.CLD_EXITED:
            return ended(found.si_status)
        return End(signal=found.si_status)


def _children(pid: int) -> list[int]:
    """The processes that a process has started itself, the first one first."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def in_use(pid: int) -> int:
    """How many bytes of memory a process and all that it has started really use; 0 if none is."""
    found, left = 0, [pid]
    while left:
        here = left.pop()
        found += _resident(here)
        left += _children(here)
    return found


def look_at_memory(pid: int, program: str, walls: Walls) -> None:
    """Raise TargetError if a short-lived program uses more memory than is granted to it."""
    if "memory" in walls.up and (size := in_use(pid)) > IN_USE:
        raise TargetError(
            f"{program} uses {size} bytes of memory and more, and no more than {IN_USE} are "
            "granted (--trust memory grants more)"
        )


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def pipes(popen: subprocess.Popen[bytes]) -> list[IO[bytes]]:
    """The outputs of a process that we read: the standard one, then that of errors."""
    return [file for file in (popen.stdout, popen.stderr) if file is not None]


def _guard(pid: int, directories: Sequence[Path]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [tool("sh"), "-c", _GUARD, "sh", str(pid), *map(str, directories)],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


@attrs.frozen
class Done:
    """What a short run of a program gave: how it ended, and the beginning of what it printed.

    ``end`` is None when it was ended by us: for printing too much (``flooded``), or for its time.
    """

    end: End | None
    stdout: str = ""
    stderr: str = ""
    flooded: bool = False

    @property
    def said(self) -> str:
        """The first line of its errors, else of its output."""
        return (self.stderr.strip() or self.stdout.strip()).partition("\n")[0].strip()


def run(argv: Sequence[str], walls: Walls, within: float) -> Done:
    """Run a program behind walls that reads no files of ours, such as for its version.

    At most `within` seconds, and so much output as anybody reads: then it is ended. Raises
    TargetError when it cannot be run.
    """
    check_descriptors()
    shown = argv[0]
    why = runnable(shown)
    if why:
        raise TargetError(f"cannot run {shown}: {why}")
    try:
        popen = subprocess.Popen(
            walls.behind(argv, "/"),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise TargetError(f"cannot run {shown}: {error.strerror or error}") from error
    with popen:
        try:
            printed = read_all(
                pipes(popen), within, look=lambda: look_at_memory(popen.pid, shown, walls)
            )
            end = None
            if printed.why == "closed":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    end = ended(popen.wait(_EXIT_WITHIN))
        finally:
            if popen.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(popen.pid, signal.SIGKILL)
    stdout, stderr = (text.decode(errors="replace") for text in printed.texts)
    done = Done(end, stdout, stderr, flooded=printed.why == "flooded")
    complain(done, argv[0], walls)
    return done


def complain(done: Done, program: str, walls: Walls) -> None:
    """Raise TargetError where not the program ended so, but what should have started it."""
    if done.end is None:
        return
    if done.end.status == NOT_BUILT and walls.up:
        raise TargetError(
            f"the walls cannot be set up for {program}: {last_line(done.stderr)} "
            "(--trust takes single ones down; see reopencheck doctor)"
        )
    if done.end.status in _CANNOT_RUN and _NOT_EXECUTED.search(done.stderr):
        raise TargetError(f"cannot run {program}: {last_line(done.stderr).rpartition(': ')[2]}")


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def check_descriptors() -> None:
    """Raise TargetError if so few files may be open that no program can be driven."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < _LEAST_DESCRIPTORS:
        raise TargetError(
            f"only {allowed} files may be open at once (ulimit -n): allow "
            f"{_LEAST_DESCRIPTORS} or more"
        )


def descriptor_to_pass(descriptor: int) -> int:
    """A duplicate of a descriptor whose number the shells in between do not use."""
    check_descriptors()
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST_PASSED)

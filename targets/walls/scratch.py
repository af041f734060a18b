# SPDX-License-Identifier: GPL-2.0-or-later
"""Scratch directories that know their owner, so that what a killed run left can be removed.

The name has the owner's process id and start, and the owner keeps the directory locked for as long
as it lives: both are gone with it, however it ended. The next run removes what has no owner.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from targets.closing import Closing
from targets.errors import TargetError

PREFIX = "reopencheck-"

_NAME = re.compile(rf"{PREFIX}(?P<pid>\d+)-(?P<start>\d+)-\w+")
_START_FIELD = 19
"""Where /proc/PID/stat has the start of the process, counted behind its name."""
_ENDED = frozenset("ZXx")
"""States of a process that has ended, though nobody may have asked how."""
_BLOCK = 512
"""Bytes in what the system counts as a block."""
_LONGEST_SOCKET = 80
"""What the path of a directory may be long, for a socket in it to have an address."""


class Scratch(Closing):
    """A new directory that is ours until `close`. A context manager."""

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        """Make it below `parent`, by default the system's place for such.

        What runs before have left there is removed first. Raises TargetError.
        """
        place = Path(parent) if parent else temporary()
        sweep_once(str(place))
        prefix = f"{PREFIX}{os.getpid()}-{_started(os.getpid())}-"
        try:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TargetError(
                f"cannot make a scratch directory in {place}: {error.strerror or error}"
            ) from error
        self._closed = False

    def close(self) -> None:
        """Remove it with all that is in it; may be called again."""
        if not self._closed:
            self._closed = True
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)


def temporary() -> Path:
    """The system's place for temporary files, as TMPDIR says where that can be used.

    It is absolute: programs run in other directories. Raises TargetError if there is none.
    """
    try:
        place = Path(tempfile.gettempdir()).absolute()
    except OSError as error:
        raise TargetError(
            "there is no place for temporary files: set TMPDIR to a directory that can be "
            f"written to ({error.strerror or error})"
        ) from error
    if "\n" in str(place):
        raise TargetError(
            f"the place for temporary files, {str(place)!a}, has a line break in its name: "
            "set TMPDIR to another directory"
        )
    return place


def home() -> Path:
    """The user's home; the root directory where HOME is not set and nobody knows the user."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def for_sockets() -> Scratch:
    """A scratch directory whose path is short enough for the address of a socket in it."""
    for place in (str(temporary()), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - see below
        # Nothing is put there but a directory of a new name that nobody else can enter.
        if len(os.fsencode(place)) <= _LONGEST_SOCKET and os.access(place, os.W_OK | os.X_OK):
            return Scratch(place)
    raise TargetError("there is no place for a socket: set TMPDIR to a directory with a short path")


@cache
def sweep_once(place: str) -> None:
    """Remove what is left in a place, the first time that it is asked for in this process."""
    sweep(place)


def sweep(place: str | os.PathLike[str] | None = None) -> int:
    """Remove the scratch directories whose owner is gone, and end what still runs in them.

    Only what is ours by name and by user, and is locked by nobody. Returns how many there were.
    """
    left = []
    with suppress(OSError, TargetError), os.scandir(place or temporary()) as entries:
        left = [entry.path for entry in entries if _may_be_left(entry)]
    return sum(_remove(path) for path in left)


def _may_be_left(entry: os.DirEntry[str]) -> bool:
    match = _NAME.fullmatch(entry.name)
    if match is None:
        return False
    try:
        ours = entry.is_dir(follow_symlinks=False) and (
            entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        )
    except OSError:
        return False
    # Between its making and its locking a directory has nothing but its name.
    return ours and _started(int(match["pid"])) != match["start"]


def _remove(path: str) -> bool:
    """Remove a directory that nobody has locked; whether it was one."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # An owner whom we cannot see (in another pid namespace) holds it all the same.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end_all_in(os.fstat(held))
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def _end_all_in(directory: os.stat_result) -> None:
    """End the processes whose current directory is this one: daemons of the run that was killed."""
    for path in Path("/proc").iterdir():
        name = path.name
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            # By a descriptor: the number may be another process's by the time of the signal.
            process = os.pidfd_open(int(name))
            try:
                if os.path.samestat((path / "cwd").stat(), directory):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def _started(pid: int) -> str:
    """When a process was started, in the kernel's count; empty if it does not run (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in _ENDED else fields[_START_FIELD - 1]


def occupied(directory: str | os.PathLike[str]) -> int:
    """How many bytes of the disk the files in a directory take, and in those below it."""
    size = 0
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    size += occupied(entry.path)
    return size

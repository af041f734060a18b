# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line that starts a program behind walls.

It is made of what every Linux has: ``unshare`` for the namespaces, a shell that puts the new root
together, sets the limits and stays as the first process of the pid namespace, and ``setpriv`` for
the privileges. That one cannot be the program itself: the kernel keeps a first
process from dying by most signals, and an abort would look like something else.

The whole ends with the status of the program; where a shell stands in between, one that was ended
by a signal shows as 128 and the signal's number.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from targets.walls import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

NAMESPACES = {
    "user": ("--user", "--map-root-user"),
    "mount": ("--mount",),
    "network": ("--net",),
    "pid": ("--pid", "--fork", "--kill-child=KILL"),
    "ipc": ("--ipc",),
}

NOT_BUILT = 125
"""The exit status when a wall could not be put up; what failed says so on standard error."""

GIB = 1 << 30
MEMORY = 16 * GIB
"""Bytes of address space. The emulator of 7.2 takes 1.5 GB at its start, and each thread 50 MB."""
PROCESSES = 1024
"""Processes and threads."""
DESCRIPTORS = 4096
CPU_SECONDS = 3600
"""Of one process, in all of its life."""

PID_MAX_SINCE, COUNTED_SINCE = (6, 14), (5, 14)
"""The releases of Linux from which process ids are bounded in each pid namespace, and from which
processes are counted in each user namespace (though never root's)."""

_ELF_HEADER = 52
"""Bytes at the beginning of every binary."""

_PLACES = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"

_BUILD_ROOT = """
mounts=$1 directory=$2
shift 2
{mount} -t tmpfs -o size=64m,mode=755,nosuid,nodev tmpfs {root} || exit {failed}
{mkdir} -p {directories} || exit {failed}
for file in {files}; do : > "$file" || exit {failed}; done
printf %s "$mounts" > {root}/.mounts
{mount} -a -T {root}/.mounts || exit {failed}
{bound}cd {root} && {pivot_root} . . && {umount} -l . {own_proc} && cd "$directory" || exit {failed}
"""

# Its own messages are dropped, above all that the program was "Aborted".
_AS_FIRST_PROCESS = """
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-)
exit $?
"""


def tool(name: str) -> str:
    """The path of one of the system's programs, whatever PATH says; its name if it is not there."""
    return shutil.which(name, path=_PLACES) or name


def behind(
    argv: Sequence[str],
    up: AbstractSet[str],
    *,
    directory: str,
    writable: Sequence[str] = (),
    needed: Sequence[str] = (),
    processes: int = PROCESSES,
) -> list[str]:
    """The command line that runs `argv` in a directory behind the walls that are `up`.

    `directory` is one of those that exist there: a member of `writable`, or "/". What the words
    `needed` name is seen, too. Descriptors from 20 up are passed on.
    """
    words, script = list(argv), _limits(up, processes)
    script += _AS_FIRST_PROCESS if "pid" in up else 'exec "$@"\n'
    if "privileges" in up:
        words = [*_without_privileges(up), *words]
    if "mount" in up:
        seen = (*argv, *needed)
        script = _build_root(seen, up, processes) + script
        lines = visible.mounts(seen, writable, own_processes="pid" in up)
        words = [lines, directory, *words]
    inner = [tool("sh"), "-c", script, "sh", *words]
    spaces = [word for name, words in NAMESPACES.items() if name in up for word in words]
    return [tool("unshare"), *spaces, "--", *inner] if spaces else inner


def _build_root(argv: Sequence[str], up: AbstractSet[str], processes: int) -> str:
    place = f"{visible.ROOT}{visible.PROC}/sys/kernel/pid_max"
    root = visible.ROOT
    files = [root + path for path in (*visible.single_files(argv), *visible.device_files())]
    directories = [root + path for path in visible.EMPTY] + [str(Path(f).parent) for f in files]
    return _BUILD_ROOT.format(
        root=root,
        bound=f"echo {processes} > {place} || exit {NOT_BUILT}\n" if bounds_ids(up) else "",
        own_proc=visible.PROC if "pid" in up else "",
        failed=NOT_BUILT,
        directories=shlex.join(directories),
        files=shlex.join(files),
        **{name: tool(name) for name in ("mount", "umount", "mkdir", "pivot_root")},
    )


def _without_privileges(up: AbstractSet[str]) -> list[str]:
    words = [tool("setpriv"), "--no-new-privs"]
    if "user" in up or os.geteuid() == 0:
        words += ["--inh-caps=-all", "--bounding-set=-all"]
    return [*words, "--"]


def _limits(up: AbstractSet[str], processes: int) -> str:
    """What sets the limits, in the words of every shell; never above those that we have."""
    lines = []
    if "memory" in up:
        lines.append(f"ulimit -v {_at_most(MEMORY, resource.RLIMIT_AS) // 1024}")
    if "descriptors" in up:
        # The hard limit is what counts: more than the soft one does no harm.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lines.append(f"ulimit -n {min(DESCRIPTORS, _infinite(hard))}")
    if "cpu" in up:
        lines.append(f"ulimit -t {_at_most(CPU_SECONDS, resource.RLIMIT_CPU)}")
    if "core" in up:
        lines.append("ulimit -c 0")
    if counts_processes(up):
        count = _at_most(processes, resource.RLIMIT_NPROC)
        lines.append(f"(ulimit -u {count}) 2>/dev/null && ulimit -u {count} || ulimit -p {count}")
    return "".join(f"{line}\n" for line in lines)


def _at_most(wanted: int, which: int) -> int:
    return min(wanted, *map(_infinite, resource.getrlimit(which)))


def _infinite(limit: int) -> int:
    return 1 << 62 if limit == resource.RLIM_INFINITY else limit


def bounds_ids(up: AbstractSet[str]) -> bool:
    """Whether processes are bounded by their ids, in a pid namespace that has a /proc."""
    # Before that release it would be the bound of the whole machine.
    return {"pid", "mount", "processes"} <= up and linux() >= PID_MAX_SINCE


def counts_processes(up: AbstractSet[str]) -> bool:
    """Whether processes are bounded by their number, in a user namespace."""
    return {"user", "processes"} <= up and linux() >= COUNTED_SINCE and os.geteuid() != 0


def linux() -> tuple[int, ...]:
    """The release of Linux, as (major, minor)."""
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def runnable(program: str) -> str:
    """Why a program cannot be run, in the system's words; empty if it can."""
    path = Path(program if os.sep in program else shutil.which(program) or program)
    if not path.exists():
        return "No such file or directory"
    if not path.is_file():
        return "Not a regular file"
    if "\n" in program:
        return "A line break in its name"
    if not os.access(path, os.X_OK):
        return "Permission denied"
    # What stands in between would take it for a script otherwise.
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_ELF_HEADER)
        if head.startswith(b"\x7fELF") and len(head) < _ELF_HEADER:
            return "Exec format error"
    return ""

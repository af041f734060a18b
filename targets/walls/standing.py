# SPDX-License-Identifier: GPL-2.0-or-later
"""The walls between the processes that we start and the rest of the machine.

What may be asked of QEMU is decided before it is sent. The walls stand behind that: should
something slip through, it meets a process that sees little, reaches nothing and may not grow.
Each stands where the system lets it, and each can be taken down by its name.
"""

from __future__ import annotations

import os
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from targets.errors import TargetError
from targets.walls.launching import (
    CPU_SECONDS,
    DESCRIPTORS,
    GIB,
    MEMORY,
    NAMESPACES,
    PROCESSES,
    behind,
    bounds_ids,
    counts_processes,
    tool,
)
from targets.walls.unwalled import run_unwalled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

DISK = 2 * GIB
"""Bytes that the files of one scratch directory may occupy."""

IN_USE = 4 * GIB
"""Bytes of memory that a program may really use: much address space is only reserved."""

EVERYTHING = "all"
"""The name that stands for all walls where they are taken down."""

_WITHIN = 20.0


@attrs.frozen
class Wall:
    """``keeps`` says what a process behind it can do no more."""

    name: str
    keeps: str


WALLS = (
    Wall("user", "it has no rights outside of its own user namespace"),
    Wall(
        "mount",
        "it sees the system's programs and its build, and writes to its scratch directory only",
    ),
    Wall("network", "no network, no abstract sockets"),
    Wall("pid", "it sees no other process, and all that it starts ends with it"),
    Wall("ipc", "no shared memory or message queues of others"),
    Wall("privileges", "no capabilities, and none to be had from programs that give them"),
    Wall(
        "memory",
        f"at most {MEMORY // GIB} GiB of address space, and {IN_USE // GIB} GiB in use, looked at "
        "four times a second",
    ),
    Wall("processes", f"at most {PROCESSES} processes and threads"),
    Wall("descriptors", f"at most {DESCRIPTORS} open files"),
    Wall("cpu", f"at most {CPU_SECONDS} s of processor time"),
    Wall("core", "no core dumps"),
    Wall("disk", f"at most {DISK // GIB} GiB on the disk, looked at once a second"),
)

NAMES = tuple(wall.name for wall in WALLS)


@attrs.frozen
class Standing:
    """Whether a wall can stand here; ``why`` not, and ``hint`` what would help."""

    stands: bool
    why: str = ""
    hint: str = ""


@attrs.frozen
class Walls:
    """The walls that a run has: all that can stand here but those that are ``trusted`` away."""

    trusted: frozenset[str] = frozenset()

    @property
    def up(self) -> frozenset[str]:
        """The names of those that stand."""
        return with_what_they_need(
            {name for name, each in probe().items() if each.stands} - self.trusted
        )

    def behind(
        self,
        argv: Sequence[str],
        directory: str,
        *,
        writable: Sequence[str] = (),
        needed: Sequence[str] = (),
    ) -> list[str]:
        """The command line that runs `argv` behind these walls, as `launching.behind` has it."""
        return behind(argv, self.up, directory=directory, writable=writable, needed=needed)


def trusting(names: tuple[str, ...]) -> Walls:
    """All walls but those named; "all" names each. Raises TargetError for a name there is not."""
    for name in names:
        if name not in (*NAMES, EVERYTHING):
            known = ", ".join((*NAMES, EVERYTHING))
            raise TargetError(f"there is no wall {name!r}; there are: {known}")
    return Walls(frozenset(NAMES if EVERYTHING in names else names))


def with_what_they_need(names: AbstractSet[str], *, root: bool | None = None) -> frozenset[str]:
    """Those of some walls that can stand without the others.

    Only root can have namespaces without a user namespace, and processes are bounded in one.
    """
    kept = set(names)
    root = os.geteuid() == 0 if root is None else root
    if "user" not in kept and not root:
        kept -= NAMESPACES.keys()
    if not bounds_ids(kept) and not counts_processes(kept):
        kept.discard("processes")
    return frozenset(kept)


@cache
def probe() -> Mapping[str, Standing]:
    """Which walls can stand here, by trying. It is done once in a process, in some 10 ms."""
    tried = (*NAMESPACES, "privileges")
    found = dict.fromkeys(NAMES, Standing(stands=True))
    if _trial(frozenset(tried)):
        found |= _one_by_one(tried)
    standing = {name for name, each in found.items() if each.stands}
    if "processes" not in with_what_they_need(standing):
        found["processes"] = Standing(
            stands=False,
            why="processes cannot be counted by themselves here",
            hint="Linux 6.14 and the walls pid and mount, or Linux 5.14 and not to be root",
        )
    return MappingProxyType(found)


def _one_by_one(tried: tuple[str, ...]) -> dict[str, Standing]:
    """Put up one wall after the other, each beside those that stand already."""
    found, up = {}, frozenset[str]()
    for name in tried:
        wanted = with_what_they_need(up | {name})
        why = _trial(wanted) if name in wanted else "it needs the wall user"
        found[name] = Standing(stands=not why, why=why, hint=_hint() if why else "")
        if not why:
            up = wanted
    return found


def _trial(up: frozenset[str]) -> str:
    """What goes wrong with these walls, in the system's words; empty if nothing does."""
    if not up:
        return ""
    argv = behind((tool("sh"), "-c", ":"), up, directory="/")
    try:
        done = run_unwalled(argv, _WITHIN)
    except TargetError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"status {done.returncode}"


def _hint() -> str:
    """What most often is missing where a wall does not stand."""
    if tool("unshare") == "unshare" or tool("setpriv") == "setpriv":
        return "install util-linux (unshare, setpriv, mount)"
    return "allow user namespaces (sysctl, or the container's seccomp profile), or run as root"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process sees of the file system behind the wall "mount": what it needs to run, read-only.

That is the system's programs and libraries, a few files of /etc, and the directories of the
build itself; the scratch directories are the only ones that it can write to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from targets.walls.scratch import home, temporary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
)
"""Where programs and libraries are; what is in them is no secret of the user's."""

SETTINGS = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/qemu"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
EMPTY = tuple(f"/{each}" for each in ("dev/shm", "etc", "run", "tmp", "var/tmp"))
"""Directories of its own that a process finds, on a file system in memory."""

ROOT = "/sys"
"""Where the new root is put together: a directory that every Linux has and no process needs."""

PROC = "/.proc"
"""Where the new /proc can be written to while the root is put together, and not any more then:
root may set much of the machine there without any privilege."""

_PATHS_IN_ENVIRONMENT = ("LD_LIBRARY_PATH", "LD_PRELOAD", "QEMU_MODULE_DIR")
_MARKS = (".unpacked", ".git")
"""What is in the topmost directory of a release that was fetched, and of a source tree."""
_SHARED = tuple(
    Path(f"/{each}")
    for each in ("home", "opt", "srv", "mnt", "media", "tmp", "var/tmp", "var", "root", "run")
)
_NEVER = ("/proc", "/sys", "/dev", "/etc")
_LONGEST_SCRIPT = 1 << 16
_WORDS = re.compile(r"[:=,]")
_PATHS_IN_SCRIPT = re.compile(rb"/[\w./+@-]+")
_KEPT_FLAGS = (
    (os.ST_NOEXEC, "noexec"),
    (os.ST_NOATIME, "noatime"),
    (os.ST_NODIRATIME, "nodiratime"),
)


def mounts(argv: Sequence[str], writable: Iterable[str], *, own_processes: bool) -> str:
    """The lines of an fstab that puts the new root together below `ROOT`.

    `argv` is what will be run, `writable` are directories, and `own_processes` says whether /proc
    is that of a new pid namespace.
    """
    shown = [path for path in (*SYSTEM, *SETTINGS, *trees(argv)) if Path(path).is_dir()]
    lines = [_bind(path) for path in shown]
    if own_processes:
        lines.append(_line("proc", PROC, "proc", "nosuid,nodev,noexec,X-mount.mkdir"))
        lines.append(
            _line(ROOT + PROC, "/proc", "none", "bind,ro,nosuid,nodev,noexec,X-mount.mkdir")
        )
    else:
        lines.append(_line("/proc", "/proc", "none", "rbind,ro,nosuid,nodev,noexec,X-mount.mkdir"))
        shown.append("/proc")
    lines += [
        _line(path, path, "none", "bind,ro,nosuid,nodev" + _kept(path))
        for path in single_files(argv)
    ]
    # Not `nodev`: they are what that would forbid.
    lines += [_line(path, path, "none", "bind") for path in device_files()]
    lines += [_line(path, path, "none", "bind,nosuid,nodev,X-mount.mkdir") for path in writable]
    # Each is put over itself: what is mounted below a directory stays writable otherwise.
    lines += [_line(each, each, "none", "bind,ro,nosuid,nodev") for each in _below(shown)]
    return "".join(lines)


def single_files(argv: Sequence[str]) -> tuple[str, ...]:
    """The files that are shown by themselves, and exist here: of /etc, and of the build's."""
    return tuple(path for path in (*SETTINGS, *trees(argv)) if Path(path).is_file())


def device_files() -> tuple[str, ...]:
    """The devices that are shown and exist here."""
    return tuple(path for path in DEVICES if Path(path).exists())


def trees(argv: Sequence[str]) -> tuple[str, ...]:
    """The directories outside of the system's own that a command line needs, outermost first.

    Of each path among its words, of each path in a script that it runs and of those in the
    environment that say where libraries are: the source tree or the release that it is in, or
    else the topmost directory below the user's home or another place that is shared; a program that
    lies in such a place itself is shown alone.
    """
    words = [part for word in argv for part in _WORDS.split(word)]
    for name in _PATHS_IN_ENVIRONMENT:
        words += re.split(r"[:\s]", os.environ.get(name, ""))
    found: set[str] = set()
    seen: set[str] = set()
    while words:
        word = words.pop()
        if not word.startswith("/") or word in seen or not os.path.lexists(word):
            continue
        seen.add(word)
        path = Path(word)
        for each in {Path(os.path.normpath(word)), path.resolve()}:
            tree = _tree(each)
            if tree is not None:
                found.add(str(tree))
        words += _mentioned(path)
    return tuple(
        path for path in sorted(found) if not any(str(up) in found for up in Path(path).parents)
    )


def _tree(path: Path) -> Path | None:
    """What must be seen for a path to be of use, or None for what is seen anyway."""
    directory = path if path.is_dir() else path.parent
    places = {Path("/"), home(), home().parent, temporary(), *_SHARED}
    line = (directory, *directory.parents)
    if any(str(each) in (*SYSTEM, *_NEVER) for each in line):
        return None
    top = None if path == directory else path
    for each in line:
        if each in places:
            break
        top = each
        if any((each / mark).exists() for mark in _MARKS):
            break
    return top


def _mentioned(path: Path) -> list[str]:
    """The absolute paths that the text of a script names."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_SCRIPT:
            return []
        text = path.read_bytes()
    except OSError:
        return []
    if not text.startswith(b"#!"):
        return []
    return [os.fsdecode(each) for each in _PATHS_IN_SCRIPT.findall(text)]


def _bind(path: str) -> str:
    options = "rbind,ro,nosuid,nodev,X-mount.mkdir" + _kept(path)
    return _line(path, path, "none", options)


def _kept(path: str) -> str:
    """The flags of a mount that nobody in a user namespace may take away."""
    flags = os.statvfs(path).f_flag
    return "".join(f",{name}" for flag, name in _KEPT_FLAGS if flags & flag)


def _below(directories: Iterable[str]) -> list[str]:
    """What is mounted somewhere below some directories, as it is seen through them."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    points = [_unescaped(line.split(" ")[4]) for line in lines]
    found = []
    for directory in directories:
        top = os.path.realpath(directory)
        found += [directory + each[len(top) :] for each in points if each.startswith(f"{top}/")]
    return found


def _line(source: str, place: str, kind: str, options: str) -> str:
    return f"{_escaped(source)} {_escaped(ROOT + place)} {kind} {options} 0 0\n"


def _escaped(text: str) -> str:
    """A path as fstab has it."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

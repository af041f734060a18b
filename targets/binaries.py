# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding and describing builds of what is driven, of ``qemu-img`` and of ``qemu-io``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import attrs
from model.values.programs import EMULATOR as SYSTEM_EMULATOR
from model.values.programs import PROGRAMS, STORAGE_DAEMON, Program

from targets.errors import TargetError
from targets.process import run
from targets.walls import Walls

DAEMON = STORAGE_DAEMON.binary
EMULATOR = SYSTEM_EMULATOR.binary
QEMU_IMG = "qemu-img"
QEMU_IO = "qemu-io"

_ANSWER_WITHIN = 20.0
"""Seconds that a binary may take to print its version, from a cold disk on a busy machine."""

ALL = Walls()
"""All the walls that can stand."""

_VERSION = re.compile(r"^(?P<tool>\S+(?: \S+)?) version (?P<version>(?P<release>\d+\.\d+)[^\s,]*)")


@attrs.frozen
class Build:
    """One binary that was found and asked for its version.

    ``argv`` starts it (more than one word where a foreign release runs through its
    own loader), ``version`` is complete ("7.2.22"), ``release`` is major.minor
    ("7.2"), ``text`` is the first line of its ``--version``. ``program`` says how it
    is driven, if it is, and ``walls`` are those behind which it runs.
    """

    argv: tuple[str, ...]
    version: str
    release: str
    text: str
    program: Program = STORAGE_DAEMON
    walls: Walls = ALL

    @property
    def name(self) -> str:
        """The path of the program: a loader has it behind it, a wrapper may have other words."""
        paths = [word for word in self.argv[1:] if os.sep in word and Path(word).is_file()]
        return paths[-1] if paths else self.argv[0]


def find_daemon(name_or_path: str = DAEMON, walls: Walls = ALL) -> Build:
    """Return the storage daemon that a name, a path or a whole command line stands for.

    A command line (``ld.so --library-path DIR BINARY``) is split as a shell would.
    Raises TargetError when there is no such program, when it may not be executed, or
    when it does not call itself a qemu-storage-daemon.
    """
    return _driven(_split(name_or_path), walls, (STORAGE_DAEMON,))


def find_driven(name_or_path: str = DAEMON, walls: Walls = ALL) -> Build:
    """Return the storage daemon or the system emulator that a name, path or command line is.

    Raises TargetError as `find_daemon` does.
    """
    return _driven(_split(name_or_path), walls, PROGRAMS)


def find_qemu_img(name_or_path: str = QEMU_IMG, walls: Walls = ALL) -> Build:
    """Return the ``qemu-img`` that a name, a path or a command line stands for.

    Raises TargetError as `find_daemon` does.
    """
    return _describe(_split(name_or_path), walls, (QEMU_IMG,), "qemu-img")[0]


def find_qemu_io(name_or_path: str = QEMU_IO, walls: Walls = ALL) -> Build:
    """Return the ``qemu-io`` that a name, a path or a command line stands for.

    Raises TargetError as `find_daemon` does.
    """
    return _describe(_split(name_or_path), walls, (QEMU_IO,), "qemu-io")[0]


def _split(name_or_path: str) -> tuple[str, ...]:
    """Return the words of a command line; an existing path is one word, spaces or not."""
    if name_or_path and Path(name_or_path).exists():
        return (name_or_path,)
    try:
        words = tuple(shlex.split(name_or_path))
    except ValueError as error:
        raise TargetError(f"cannot read the command line {name_or_path!r}: {error}") from error
    if not words:
        raise TargetError("the name of the binary is empty")
    return words


def _resolve(word: str) -> str:
    """Return the absolute path of a program named by path or found through PATH."""
    found = shutil.which(word)
    if found is not None:
        # The daemon starts in another directory, so a relative path must not stay one.
        return str(Path(found).absolute())
    if os.sep not in word:
        raise TargetError(f"no such binary in PATH: {word}")
    path = Path(word)
    if path.is_dir():
        raise TargetError(f"a directory, not a binary: {word}")
    if path.exists():
        raise TargetError(f"not executable: {word}")
    raise TargetError(f"no such binary: {word}")


def _driven(words: tuple[str, ...], walls: Walls, programs: tuple[Program, ...]) -> Build:
    """Return a build of one of some programs. Raises TargetError."""
    by_tool = {program.tool: program for program in programs}
    what = " or ".join(f"a {program.name}" for program in programs)
    build, tool = _describe(words, walls, tuple(by_tool), what)
    return attrs.evolve(build, program=by_tool[tool])


def _describe(
    words: tuple[str, ...], walls: Walls, tools: tuple[str, ...], what: str
) -> tuple[Build, str]:
    """Return a build and what it calls itself, one of `tools`. Raises TargetError."""
    argv = (_resolve(words[0]), *words[1:])
    shown = shlex.join(words)
    done = run((*argv, "--version"), walls, _ANSWER_WITHIN)
    if done.flooded:
        raise TargetError(f"not {what}: {shown} --version prints without end")
    if done.end is None:
        raise TargetError(
            f"not {what}: {shown} does not answer --version within {_ANSWER_WITHIN:.0f} s"
        )
    first = (done.stdout or done.stderr).strip().partition("\n")[0].strip()
    match = _VERSION.match(first)
    if done.end.status != 0 or match is None or match["tool"] not in tools:
        raise TargetError(f"not {what}: {shown} --version says {first[:200]!r}")
    build = Build(
        argv=argv, version=match["version"], release=match["release"], text=first, walls=walls
    )
    return build, match["tool"]

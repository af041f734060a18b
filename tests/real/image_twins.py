# SPDX-License-Identifier: GPL-2.0-or-later
"""The same image operations on the model and by the programs of a release, compared one by one."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from model import ImageError, Monitor
from targets.builds.binaries import Build, find_qemu_img, find_qemu_io

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model import Dialect

Operation = tuple[str, dict[str, Any]]
"""What is done, and its arguments as a method of ``Monitor.images`` takes them."""

VOICE = "reopencheck: "
_WITHIN = 20.0
_MOST_READ = 8 << 20
"""How many bytes of an image are compared."""


class Programs(NamedTuple):
    """The command lines that start ``qemu-img`` and ``qemu-io``."""

    img: tuple[str, ...]
    io: tuple[str, ...]


def programs_of(build: Build) -> Programs:
    """Those beside a storage daemon, or the system's own beside that of the system."""
    *loader, daemon = build.argv
    if not loader:
        return Programs(find_qemu_img().argv, find_qemu_io().argv)
    beside = Path(daemon).parent
    return Programs(
        (*loader, str(beside / "qemu-img")),
        (*loader, str(beside / "qemu-io")),
    )


class Real:
    """Image files in a directory, and the programs that work on them."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self._programs = programs
        self._directory = directory

    def do(self, operation: Operation, format_: str) -> Any:
        """What came of it: a value, or an ``ImageError`` with what was said."""
        verb, arguments = operation
        if verb in ("read", "write"):
            return self._guest(verb, arguments, format_)
        done = self._run(self._programs.img, _words(verb, arguments))
        if verb == "compare" and done.returncode in (0, 1):
            return done.returncode, done.stdout.strip()
        if done.returncode:
            lines = [
                line.removeprefix("qemu-img: ")
                for line in done.stderr.splitlines()
                if line.startswith("qemu-img: ") and not line.startswith("qemu-img: warning: ")
            ]
            return ImageError(lines[0])
        if verb in ("info", "info_chain", "map"):
            return json.loads(done.stdout)
        return None

    def _guest(self, verb: str, arguments: dict[str, Any], format_: str) -> Any:
        name = arguments["name"]
        if verb == "read":
            out = self._directory / "read.out"
            words = ["convert", "-f", format_, "-O", "raw", name, out.name]
            done = self._run(self._programs.img, words)
            assert done.returncode == 0, done.stderr
            return out.read_bytes()[: arguments["length"]]
        command = "write -q -P {pattern} {offset} {length}".format(**arguments)
        done = self._run(self._programs.io, ["-f", format_, "-c", command, name])
        if done.returncode:
            said = done.stderr.splitlines()[0]
            return ImageError(said.replace(f"qemu-io: can't open device {name}: ", f"{name!r}: "))
        return None

    def _run(
        self, program: Sequence[str], words: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *words],
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
            stdin=subprocess.DEVNULL,
        )


_SHARED = {"info", "info_chain", "map", "compare"}


def _words(verb: str, arguments: dict[str, Any]) -> list[str]:
    """The command line of ``qemu-img`` for a call of a method."""
    given = dict(arguments)
    words = ["info", "--backing-chain"] if verb == "info_chain" else [verb]
    if verb in ("info", "info_chain", "map"):
        words.append("--output=json")
    if verb in ("create", "resize", "rebase"):
        words.append("-q")
    names = [given.pop(key) for key in ("name", "first", "second") if key in given]
    flags = {"unsafe": "-u", "shrink": "--shrink", "strict": "-s", "force_share": "-U"}
    words += [flag for key, flag in flags.items() if given.pop(key, False)]
    size = given.pop("size", None)
    for key, option in (
        ("format", "-f"),
        ("second_format", "-F"),
        ("backing", "-b"),
        ("backing_format", "-F"),
        ("start_offset", "--start-offset"),
        ("max_length", "--max-length"),
    ):
        value = given.pop(key, None)
        if value is not None:
            words += [option, str(value)]
        elif key == "backing" and verb == "rebase":
            words += [option, ""]
    words += [word for key, value in given.items() for word in ("-o", f"{key}={_text(value)}")]
    return [*words, "--", *names, *([] if size is None else [str(size)])]


def _text(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


class Twins:
    """A monitor's images and real files, on which the same is done."""

    def __init__(self, dialect: Dialect, programs: Programs, directory: Path) -> None:
        self.images = Monitor(dialect).images
        self._real = Real(programs, directory)

    def do(self, operation: Operation) -> str:
        """Do it on both sides and compare. Returns what came of it, in a word."""
        verb, arguments = operation
        name = arguments.get("name") or arguments["first"]
        format_ = self.format_of(name)
        try:
            mine = getattr(self.images, verb)(**arguments)
        except ImageError as error:
            mine = error
        if isinstance(mine, ImageError) and str(mine).startswith(VOICE):
            return "unmodelled"
        real = self._real.do(operation, format_)
        assert plain(mine) == plain(real), f"{operation}: {plain(mine)} is not {plain(real)}"
        return "error" if isinstance(mine, ImageError) else "ok"

    def _opens(self, name: str) -> bool:
        """Whether an image can be read at all."""
        try:
            self.images.read(name, 0, 0)
        except ImageError:
            return False
        return True

    def format_of(self, name: str) -> str:
        """The format of an image, that of any file where there is none."""
        return self.images[name].format if name in self.images else "raw"

    def look(self) -> None:
        """Compare all that can be seen of every image, and what a guest reads."""
        for name in self.images:
            self.do(("info_chain", {"name": name}))
            self.do(("map", {"name": name}))
            size = self.images[name].size
            if size <= _MOST_READ and self._opens(name):
                self.do(("read", {"name": name, "offset": 0, "length": size}))


def plain(value: Any) -> Any:
    """What is compared: not what the host allocated, nor what only one side adds to a text."""
    if isinstance(value, ImageError):
        return re.sub(": (the size of|a qcow2 image has at most) .*", "", str(value))
    if hasattr(value, "status"):
        return value.status, value.text
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {
            key: isinstance(each, int) if key == "actual-size" else plain(each)
            for key, each in value.items()
        }
    return value

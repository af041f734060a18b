# SPDX-License-Identifier: GPL-2.0-or-later
"""A shell that stays behind walls and runs short programs there, one after the other.

Putting up the walls takes as long as ``qemu-img`` itself, and hundreds of images are made in a run:
so that is done once.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

from targets.errors import TargetError
from targets.walls.disturbances import FAULTS
from targets.walls.launching import runnable, tool
from targets.walls.outputs import read_all
from targets.walls.process import Done, Process, complain, ended, look_at_memory, pipes
from targets.walls.scratch import Scratch, occupied
from targets.walls.standing import DISK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from targets.builds.binaries import Build

_ATTEMPTS = 3
# What the shell itself says of a program that crashed is not the program's word.
_LOOP = 'exec 4>&2 2>/dev/null; while IFS= read -r line; do eval "$line"; done'
_EXIT_WITHIN = 5.0


class Room:
    """Runs the program of one build, in directories of its own. Threads may share it."""

    def __init__(self, build: Build) -> None:
        """Describe it; the walls are put up with the first run."""
        self._build = build
        self.program = build.name
        """What it is called in what is told of it."""
        self._lock = threading.RLock()
        self._scratch: Scratch | None = None
        self._shell: Process | None = None
        self._made = 0

    def close(self) -> None:
        """Leave nothing running and nothing on the disk; may be called again."""
        self._end_shell()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """A new directory in which the program can work, for as long as it is needed."""
        with self._lock:
            if self._scratch is None or not self._scratch.path.is_dir():
                self.close()
                self._scratch = Scratch()
            self._made += 1
            path = self._scratch.path / str(self._made)
            path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def run(self, words: Sequence[str], directory: Path, within: float) -> Done:
        """Run the program with some words in one of our directories, for `within` seconds at most.

        If a signal that is not its own fault ends it, it is tried again, three times in all. Raises
        TargetError when it cannot be started, or fills the disk.
        """
        why = runnable(self._build.argv[0])
        if why:
            raise TargetError(f"cannot run {self._build.argv[0]}: {why}")
        with self._lock:
            for _ in range(_ATTEMPTS):
                done = self._run(words, directory, within)
                if done.end is None or done.end.signal in {None, *FAULTS}:
                    break
        complain(done, self._build.name, self._build.walls)
        return done

    def _run(self, words: Sequence[str], directory: Path, within: float) -> Done:
        shell = self._shell
        if shell is None or not shell.alive:
            self._end_shell()
            shell = self._shell = self._open(directory.parent)
        token = secrets.token_hex(16)
        program = shlex.join([*self._build.argv, *words])
        place = shlex.quote(str(directory))
        line = f"(cd {place} && exec {program} 2>&4) </dev/null; printf '\\n{token} %s\\n' $?\n"
        with contextlib.suppress(BrokenPipeError):
            # If the shell is gone, its output ends: how is seen there.
            shell.write(line.encode(errors="surrogateescape"))
        answered = re.compile(rb"\n%s (\d+)\n\Z" % token.encode())
        try:
            printed = read_all(pipes(shell.popen), within, until=answered, look=self._look)
        except BaseException:
            self._end_shell()
            raise
        out, errors = printed.texts
        match = answered.search(out)
        end = ended(int(match[1])) if match else None
        if match is None:
            if printed.why == "closed":
                end = shell.wait(_EXIT_WITHIN)
            self._end_shell()
        text = answered.sub(b"", out).decode(errors="replace")
        return Done(end, text, errors.decode(errors="replace"), printed.why == "flooded")

    def _open(self, place: Path) -> Process:
        return Process(
            (tool("sh"), "-c", _LOOP),
            self._build.walls,
            place,
            needed=self._build.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _end_shell(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def _look(self) -> None:
        if self._shell is not None:
            look_at_memory(self._shell.popen.pid, self.program, self._build.walls)
        if "disk" in self._build.walls.up and self._scratch is not None:
            size = occupied(self._scratch.path)
            if size > DISK:
                raise TargetError(
                    f"{self._build.name} fills the disk: {size} bytes and more, "
                    f"and no more than {DISK} are granted (--trust disk grants more)"
                )

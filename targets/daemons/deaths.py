# SPDX-License-Identifier: GPL-2.0-or-later
"""How a daemon was lost, and whether that was its own doing.

A death that was made from outside (somebody's signal, a limit of ours) says nothing about QEMU:
it is called *disturbed*, and what was asked of the daemon has to be asked again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from targets.walls.disturbances import cause

if TYPE_CHECKING:
    from targets.walls.process import End

DeathKind: TypeAlias = Literal["crash", "exit", "hang", "protocol", "disturbed"]


@attrs.frozen
class Death:
    """How and where a daemon was lost.

    ``kind`` is "crash" (ended by ``signal``, a name such as "SIGABRT"), "exit" (ended by
    itself with ``status``), "hang" (no reply in time; it was killed), "protocol" (it sent what is
    no QMP; it was killed) or "disturbed" (ended or stopped from outside). ``step`` is the
    index of the first command that was not completely answered; the number of commands
    in the trace if all were and the nodes' removal afterwards was fatal. ``stderr`` holds
    the last lines that it wrote since the trace began. ``detail`` says more in a few words: what
    is no QMP, or what disturbed it. ``limit`` says that the trace met a limit of ours on what it
    may take: it would do so again.
    """

    kind: DeathKind
    step: int
    signal: str | None = None
    status: int | None = None
    stderr: tuple[str, ...] = ()
    detail: str = ""
    limit: bool = False

    @property
    def disturbed(self) -> bool:
        """Whether it says nothing about the daemon."""
        return self.kind == "disturbed"

    def is_like(self, other: Death) -> bool:
        """Whether another death is of the same kind, with the same last words or at the same step.

        A job may die a command earlier or later, and then it is the words that tell.
        """
        words = self.last_words
        told = bool(words) and words == other.last_words
        same = (self.kind, self.signal, self.status) == (other.kind, other.signal, other.status)
        return same and (told or self.step == other.step)

    @property
    def last_words(self) -> str:
        """The last line that the daemon wrote, empty if there is none."""
        return next((line for line in reversed(self.stderr) if line.strip()), "")


def ended(step: int, end: End, stderr: tuple[str, ...]) -> Death:
    """The death of a process that ended: by itself, or by somebody else's doing."""
    foreign = cause(end, stderr)
    kind: DeathKind = "exit" if end.signal is None else "crash"
    if foreign is not None:
        kind = "disturbed"
    return Death(kind, step, end.signal_name, end.status, stderr, foreign or "")


def hung(step: int, stderr: tuple[str, ...], *, held: bool) -> Death:
    """The death of a process that did not answer; ``held`` says that somebody had stopped it."""
    if held:
        return Death("disturbed", step, stderr=stderr, detail="it was stopped from outside")
    return Death("hang", step, stderr=stderr)


def unasked(death: Death) -> Death:
    """The death of a daemon that nobody told to quit: only signals end one with status 0.

    The storage daemon ends itself like that after SIGTERM, SIGINT and SIGHUP.
    """
    if death.kind == "exit" and death.status == 0:
        return attrs.evolve(death, kind="disturbed", detail="it was told to end from outside")
    return death


def was_held(pid: int) -> bool:
    """Whether a child of ours is stopped by a signal, or was since this was last asked."""
    with contextlib.suppress(OSError):
        news = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if news is not None:
            return True
    return any(_state(each) in {"T", "t"} for each in _family(pid))


def _family(pid: int, depth: int = 8) -> list[int]:
    """A process and those that it has started: a wrapper's daemon is the wrapper's child."""
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += _family(int(child), depth - 1) if depth else []
    return found


def _state(pid: int) -> str:
    """The state of a process as the kernel calls it ("T": stopped), empty if there is none."""
    with contextlib.suppress(OSError):
        # The name stands in parentheses and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""

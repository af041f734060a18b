# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a process ended by itself, or by somebody else's doing: another's signal, or a limit.

QEMU crashes by the signals of a fault or of `abort`, and never sends itself any other. Such a
signal from outside cannot be told from a crash: that takes another process, which does not die.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from targets.walls.process import End

FAULTS = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)
"""The signals by which a process dies of its own faults."""

_LIMITS = {
    signal.SIGXCPU: "its limit of processor time",
    signal.SIGXFSZ: "a limit of the size of files",
}
_TERMINATED = re.compile(r"terminating on signal (\d+)")
_SHORTAGES = (
    (
        re.compile(r"cannot allocate memory|out of memory", re.IGNORECASE),
        "there was no memory left",
    ),
    (re.compile(r"failed to (?:allocate|mmap)", re.IGNORECASE), "there was no memory left"),
    (re.compile(r"resource temporarily unavailable", re.IGNORECASE), "no more threads or memory"),
    (re.compile(r"too many open files", re.IGNORECASE), "too many files were open"),
    (re.compile(r"no space left on device|disk quota", re.IGNORECASE), "there was no space left"),
)


def cause(end: End, stderr: Iterable[str]) -> str | None:
    """Why an end is not the process's own, in a few words, or None if it is.

    `stderr` are the last lines that it printed. An end with status 0 says nothing of itself: see
    :func:`targets.daemons.deaths.unasked`.
    """
    if end.signal is not None and end.signal not in FAULTS:
        limit = _LIMITS.get(signal.Signals(end.signal)) if end.signal in _LIMITS else None
        return f"it met {limit}" if limit else f"{end.signal_name} from outside"
    lines = list(stderr)
    for line in lines:
        if match := _TERMINATED.search(line):
            return f"signal {match[1]} from outside"
    return None if end.status == 0 else shortage(lines)


def shortage(lines: Iterable[str]) -> str | None:
    """What the machine, or a limit, did not give, if one of these lines complains of it."""
    for line in lines:
        for pattern, words in _SHORTAGES:
            if pattern.search(line):
                return words
    return None

# SPDX-License-Identifier: GPL-2.0-or-later
"""An end that is not the process's own doing is told from one that is."""

from __future__ import annotations

import signal

import pytest

from targets.walls.disturbances import FAULTS, cause, shortage
from targets.walls.process import End, ended

OUTSIDE = sorted(set(signal.Signals) - FAULTS)


@pytest.mark.parametrize("number", OUTSIDE)
def test_a_signal_that_no_process_sends_itself_comes_from_outside(number: signal.Signals) -> None:
    assert cause(End(signal=number), ()) is not None


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_a_fault_is_the_process_s_own(number: signal.Signals) -> None:
    end = End(signal=number)
    assert cause(end, ("qsd: block.c:1: f: Assertion `x' failed.",)) is None


def test_limits_have_names() -> None:
    told = cause(End(signal=signal.SIGXCPU), ())
    assert told == "it met its limit of processor time"
    told = cause(End(signal=signal.SIGXFSZ), ())
    assert told == "it met a limit of the size of files"


@pytest.mark.parametrize(
    "line",
    [
        "qemu: qemu_thread_create: Resource temporarily unavailable",
        "qemu-system-x86_64: allocate 1073741824 bytes for jit buffer: Cannot allocate memory",
        "GLib-ERROR **: ../glib/gmem.c:136: failed to allocate 4294967304 bytes",
        "Failed to mmap: Cannot allocate memory",
        "qemu: Failed to create event notifier: Too many open files",
        "write failed: No space left on device",
    ],
)
def test_what_the_machine_did_not_give(line: str) -> None:
    for end in (End(signal=signal.SIGABRT), End(signal=signal.SIGTRAP), End(status=1)):
        assert cause(end, ("earlier", line, "after")) == shortage([line])
    assert shortage([line]) is not None


def test_a_status_says_nothing_of_others() -> None:
    assert cause(End(status=0), ()) is None
    assert cause(End(status=1), ("qsd: no such option",)) is None


def test_the_emulator_says_so_itself() -> None:
    line = "qemu-system-x86_64: terminating on signal 15 from pid 11411 (kill)"
    assert cause(End(status=0), (line,)) == "signal 15 from outside"


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (0, End(status=0)),
        (1, End(status=1)),
        (127, End(status=127)),
        (128, End(status=128)),
        (134, End(signal=signal.SIGABRT)),
        (137, End(signal=signal.SIGKILL)),
        (255, End(status=255)),
        (-11, End(signal=signal.SIGSEGV)),
    ],
)
def test_a_shell_in_between_says_which_signal_it_was(code: int, end: End) -> None:
    assert ended(code) == end


def test_signals_have_their_names() -> None:
    assert End(signal=signal.SIGABRT).signal_name == "SIGABRT"
    assert End(signal=40).signal_name == "signal 40"
    assert End(status=3).signal_name is None

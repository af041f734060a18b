# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose doing a death is, and how long a silence lasts."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from targets.daemons.deaths import Death, ended, hung, unasked, was_held
from targets.walls import process
from targets.wire.listening import SilenceError, listen


@pytest.mark.parametrize(
    ("returncode", "kind", "name", "status"),
    [
        (-signal.SIGSEGV, "crash", "SIGSEGV", None),
        (-signal.SIGABRT, "crash", "SIGABRT", None),
        (-signal.SIGBUS, "crash", "SIGBUS", None),
        (128 + signal.SIGABRT, "crash", "SIGABRT", None),
        (-signal.SIGKILL, "disturbed", "SIGKILL", None),
        (-signal.SIGTERM, "disturbed", "SIGTERM", None),
        (-signal.SIGXFSZ, "disturbed", "SIGXFSZ", None),
        (128 + signal.SIGKILL, "disturbed", "SIGKILL", None),
        (-63, "disturbed", "signal 63", None),
        (0, "exit", None, 0),
        (1, "exit", None, 1),
        (128, "exit", None, 128),
        (255, "exit", None, 255),
    ],
)
def test_an_end_is_the_daemons_own_or_somebody_elses(
    returncode: int, kind: str, name: str | None, status: int | None
) -> None:
    death = ended(3, process.ended(returncode), ("words",))
    assert (death.kind, death.step, death.signal, death.status) == (kind, 3, name, status)
    assert death.disturbed is (kind == "disturbed")
    assert bool(death.detail) is death.disturbed


def test_only_one_that_was_told_to_ends_with_status_0() -> None:
    assert unasked(Death("exit", 1, status=0)).disturbed
    for death in (Death("exit", 1, status=1), Death("crash", 0, "SIGABRT"), Death("exit", 1)):
        assert unasked(death) == death


def test_silence_of_one_that_was_stopped_is_no_hang() -> None:
    assert hung(1, (), held=False) == Death("hang", 1)
    assert hung(1, (), held=True).disturbed


def test_deaths_are_alike_at_the_same_step_or_with_the_same_words() -> None:
    death = Death("crash", 1, "SIGABRT", stderr=("a", "failed", " "))
    assert death.last_words == "failed"
    assert death.is_like(attrs.evolve(death, step=5))
    assert death.is_like(attrs.evolve(death, stderr=()))
    assert not death.is_like(attrs.evolve(death, stderr=(), step=5))
    assert not death.is_like(attrs.evolve(death, signal="SIGSEGV"))
    assert not Death("crash", 1, "SIGSEGV").is_like(Death("crash", 2, "SIGSEGV"))


def test_being_stopped_is_noticed_and_so_is_having_been() -> None:
    waits = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE) as child:
        assert not was_held(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert was_held(child.pid)
        assert was_held(child.pid), "it still is"
        os.kill(child.pid, signal.SIGCONT)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED | os.WNOWAIT)
        assert was_held(child.pid)
        assert not was_held(child.pid)
        child.kill()
    assert not was_held(child.pid)


def test_a_wrapper_s_daemon_is_looked_at_too() -> None:
    wrapped = "import subprocess, sys; subprocess.run(['sh', '-c', 'kill -STOP $$; read x'])"
    with subprocess.Popen([sys.executable, "-c", wrapped], stdin=subprocess.PIPE) as child:
        while not was_held(child.pid):
            assert child.poll() is None
        (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGCONT)
        assert child.stdin is not None
        child.stdin.close()


def test_a_leap_of_time_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped for an hour has not listened for an hour."""
    now, polls = 0.0, []

    class Poll:
        def register(self, *_: int) -> None:
            pass

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            nonlocal now
            now += 3600
            polls.append(milliseconds)
            return []

    monkeypatch.setattr("targets.wire.listening.select.poll", Poll)
    monkeypatch.setattr("targets.wire.listening.time.monotonic", lambda: now)
    with pytest.raises(SilenceError):
        listen(0, select.POLLIN, 1.0)
    assert polls == [250.0] * 4


def test_what_is_there_already_is_heard_without_any_patience() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    assert listen(reading, select.POLLIN, 0.0) == 0.0
    os.read(reading, 1)
    with pytest.raises(SilenceError):
        listen(reading, select.POLLIN, 0.0)
    os.close(reading)
    os.close(writing)

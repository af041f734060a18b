# SPDX-License-Identifier: GPL-2.0-or-later
"""A storage daemon starts, dies and is cleaned up after, whatever happens to us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from model.values.trace import Trace
from targets.binaries import Build, find_daemon
from targets.connection import Connection
from targets.daemon import Daemon
from targets.errors import TargetError
from targets.replay import Exchange, replay
from targets.walls import trusting

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = Trace((), ({"execute": "query-version"},))

STARTS_AND_WAITS = """
import sys, time
from targets.binaries import find_daemon
from targets.daemon import Daemon
daemon = Daemon(find_daemon(), sys.argv[1])
print(daemon.pid, daemon.directory, flush=True)
time.sleep(60)
"""


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually_gone(pid: int, directory: Path) -> bool:
    for _ in range(3000):
        if not exists(pid) and not directory.exists():
            return True
        time.sleep(0.01)
    return False


def test_a_name_a_path_and_a_command_line_find_the_same_build(build: Build) -> None:
    path = shutil.which("qemu-storage-daemon")
    assert path is not None
    assert find_daemon(path) == build
    assert build.version.startswith(build.release + ".")
    wrapped = find_daemon(f"{shutil.which('env')} {path}")
    assert wrapped.argv[1:] == (path,)
    assert wrapped.release == build.release


def test_it_starts_in_a_directory_of_its_own_and_leaves_nothing(
    build: Build, tmp_path: Path
) -> None:
    with Daemon(build, tmp_path) as daemon:
        assert daemon.alive
        assert list(tmp_path.iterdir()) == [daemon.directory]
        assert Path(f"/proc/{daemon.pid}/cwd").resolve() == daemon.directory.resolve()
        assert list(daemon.directory.iterdir()) == []
        pid = daemon.pid
    assert not exists(pid)
    assert list(tmp_path.iterdir()) == []
    daemon.close()


def test_an_exception_or_ctrl_c_cleans_up(build: Build, tmp_path: Path) -> None:
    def interrupted() -> None:
        with Daemon(build, tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split(maxsplit=1)
        assert exists(int(pid))
        parent.kill()
    assert eventually_gone(int(pid), Path(directory.strip()))


def test_a_daemon_that_does_not_start_says_why(build: Build, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"does not start: .*no-such-option"):
        Daemon(build, tmp_path, ("--no-such-option",))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_directory_is_one_clear_line(build: Build, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot make a scratch directory"):
        Daemon(build, tmp_path / "missing")


def test_a_binary_that_vanishes_is_one_clear_line(build: Build, tmp_path: Path) -> None:
    gone = attrs.evolve(build, argv=(str(tmp_path / "gone"),))
    with pytest.raises(TargetError, match=r"cannot start .*gone"):
        Daemon(gone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_daemons_at_once_do_not_meet(build: Build, tmp_path: Path) -> None:
    add = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n"}}
    with Daemon(build, tmp_path) as one, Daemon(build, tmp_path) as other:
        assert one.directory != other.directory
        seen = replay(one, Trace((), (add,)))
        assert seen.observations[0].nodes
        assert replay(other, NOTHING).observations[0].nodes == []


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (signal.SIGSEGV, "crash", "SIGSEGV"),
        (signal.SIGABRT, "crash", "SIGABRT"),
        (signal.SIGKILL, "disturbed", "SIGKILL"),
        (signal.SIGTERM, "disturbed", None),
        (signal.SIGHUP, "disturbed", None),
        (signal.SIGXCPU, "disturbed", "SIGXCPU"),
    ],
)
def test_an_end_between_traces_is_a_value(
    daemon: Daemon, number: signal.Signals, kind: str, told: str | None
) -> None:
    assert replay(daemon, NOTHING).death is None
    os.kill(daemon.pid, number)
    # One that is asked while it leaves on SIGTERM may hang, which is another matter.
    wait_until(lambda: not daemon.alive)
    seen = replay(daemon, NOTHING)
    assert seen.observations == ()
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step, seen.death.signal) == (kind, 0, told)
    assert not daemon.alive


def test_a_daemon_that_leaves_is_quoted(daemon: Daemon) -> None:
    errors = Path(f"/proc/{daemon.pid}/fd/2")
    with errors.open("ab") as file:
        file.write(b"from an earlier trace\n")
    daemon.mark()
    with errors.open("ab") as file:
        file.write(b"line\n" * 5000 + b"Assertion `\xff' failed.\n")
    exchange = Exchange(daemon, ({"execute": "quit"}, *NOTHING.commands), observed=0)
    death = exchange.finish()
    assert death is not None
    assert (death.kind, death.status, len(death.stderr)) == ("exit", 0, 20)
    assert death.stderr[-2:] == ("line", "Assertion `\ufffd' failed.")


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it has not happened in 30 seconds")


def test_a_daemon_that_goes_on_after_a_stop_is_asked_again(build: Build, tmp_path: Path) -> None:
    # Only a process of our own tells us of a stop that is over by now: not one behind walls.
    bare = attrs.evolve(build, walls=trusting(("all",)))
    with Daemon(bare, tmp_path) as daemon:
        daemon.mark()
        exchange = Exchange(daemon, NOTHING.commands, observed=0)
        os.kill(daemon.pid, signal.SIGSTOP)
        # SIGCONT takes back a SIGSTOP that has not stopped anything yet.
        wait_until(lambda: " (stopped)" in Path(f"/proc/{daemon.pid}/status").read_text())
        os.kill(daemon.pid, signal.SIGCONT)
        death = exchange.finish()
    assert death is not None
    assert (death.kind, death.detail) == ("disturbed", "it was stopped from outside")


def test_silence_of_a_daemon_that_somebody_stopped_ends_the_process(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def receive(connection: Connection, timeout: float) -> list[bytes]:
        waited.append(timeout)
        return really_receive(connection, timeout)

    really_receive = Connection.receive
    monkeypatch.setattr(Connection, "receive", receive)
    os.kill(daemon.pid, signal.SIGSTOP)
    death = replay(daemon, NOTHING, timeout=0.3).death
    assert death is not None
    assert (death.kind, death.step, death.signal) == ("disturbed", 0, None)
    assert waited
    assert max(waited) <= 0.3
    assert not daemon.alive

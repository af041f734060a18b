# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that somebody ends or stops at any moment: no finding is lost, and none invented."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Self

import attrs
import pytest

from checker.diff import DiffOptions, run_diff
from checker.generate import examples
from checker.sides import open_sides
from checker.tally import Amount, Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.values.trace import Trace
from targets.daemon import Daemon
from targets.deaths import Death
from targets.pool import Target
from targets.replay import Replay
from targets.walls import trusting

if TYPE_CHECKING:
    from pathlib import Path

    from reports.values import Summary
    from targets.binaries import Build

PLANTED = QEMU_7_2.without("reopen.backing-missing")
SIGNALS = (
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGSTOP,
)
LOOK = Trace((), ({"execute": "query-version"}, {"execute": "query-jobs"}))


class Killer:
    """Sends signals to the daemons that are started while it is there, at moments of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self._living: list[int] = []
        self._over = threading.Event()
        self.sent = 0
        start, close = Daemon._start, Daemon.close

        def started(daemon: Daemon, *arguments: object) -> None:
            start(daemon, *arguments)  # type: ignore[arg-type]
            self._living.append(daemon.pid)

        def closing(daemon: Daemon) -> None:
            # From then on its number may be somebody else's.
            if daemon._process is not None and daemon.pid in self._living:
                self._living.remove(daemon.pid)
            close(daemon)

        monkeypatch.setattr(Daemon, "_start", started)
        monkeypatch.setattr(Daemon, "close", closing)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.05, 0.8)):
            number = self._chance.choice(SIGNALS)
            with contextlib.suppress(IndexError, ProcessLookupError):
                pid = self._chance.choice(self._living)
                os.kill(pid, number)
                self.sent += 1
                if number == signal.SIGSTOP:
                    self._over.wait(0.2)
                    os.kill(pid, signal.SIGCONT)


def planted(build: Build, directory: Path) -> Summary:
    """A run whose spec lacks a rule, so that there are differences to be found."""
    tally = Tally("diff", PLANTED, seed=7, cases=directory)
    with open_sides(build, PLANTED) as sides:
        generate = examples(PLANTED, Amount(40, 25, 7))
        return run_diff(tally, generate, sides, DiffOptions(reduce_replays=15))


def test_no_finding_is_lost_and_none_is_invented(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = planted(build, tmp_path / "quiet")
    with Killer(monkeypatch, seed=1) as killer:
        disturbed = planted(build, tmp_path / "disturbed")
    assert killer.sent >= 5
    found = {finding.signature for finding in quiet.findings}
    assert found
    assert {finding.signature for finding in disturbed.findings} == found
    assert disturbed.examples == quiet.examples


@pytest.mark.parametrize("number", SIGNALS)
def test_one_that_is_ended_twice_and_lives_then_has_not_died(
    build: Build, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The last run has the last word; or it is told that they were all disturbed."""
    run = Target.run
    seen: list[Replay] = []

    def ended(
        target: Target, trace: Trace, *, observe: bool = True, lockstep: bool = False
    ) -> Replay:
        if len(seen) < 2:
            os.kill(target.daemon.pid, number)
        seen.append(run(target, trace, observe=observe, lockstep=lockstep))
        return seen[-1]

    monkeypatch.setattr(Target, "run", ended)
    with Target(build, timeout=5.0) as target:
        found = target.confirm(LOOK)
    assert found.death is None or found.death.disturbed
    assert seen[0].death is not None or number not in {signal.SIGSEGV, signal.SIGABRT}


def test_a_crash_counts_when_it_comes_again_in_the_same_way(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = Death("crash", 1, "SIGABRT")
    elsewhere = Death("crash", 0, "SIGABRT")
    lives = Replay(())

    def confirmed(*deaths: Death | None) -> Death | None:
        left = [lives if death is None else Replay((), death) for death in deaths]
        monkeypatch.setattr(Target, "run", lambda *_, **__: left.pop(0))
        with Target(build) as target:
            found = target.confirm(LOOK)
        assert left == []
        return found.death

    assert confirmed(crash, crash, crash) == crash
    assert confirmed(crash, None, None) is None
    assert confirmed(crash, crash, None) is None
    assert confirmed(elsewhere, crash, elsewhere, crash) == crash
    assert confirmed(crash, None, crash) == crash
    differs = confirmed(crash, Death("crash", 0, "SIGSEGV"), elsewhere, crash, Death("exit", 0))
    assert differs is not None
    assert differs.disturbed
    hang = Death("hang", 0)
    assert confirmed(hang, hang) == hang
    assert confirmed(hang, None, None) is None


def test_one_that_is_ended_while_it_starts_is_started_again(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    negotiate = Daemon._negotiate
    killed: list[int] = []

    def ended(daemon: Daemon, *, out_of_band: bool) -> None:
        if len(killed) < 3:
            killed.append(daemon.pid)
            os.kill(daemon.pid, signal.SIGKILL)
        negotiate(daemon, out_of_band=out_of_band)

    monkeypatch.setattr(Daemon, "_negotiate", ended)
    # Without walls: while they are put up, it may be something else that is ended.
    with Target(attrs.evolve(build, walls=trusting(("all",)))) as target:
        assert target.run(LOOK).death is None
        assert target.starts == 4


def test_one_that_does_not_start_with_the_objects_of_a_trace_dies_of_it(build: Build) -> None:
    own = {"execute": "reopencheck-object", "arguments": {"qom-type": "iothread", "id": "io0"}}
    with Target(build) as target:
        seen = target.run(Trace((), (own, own)))
        assert seen.observations == ()
        assert seen.death is not None
        assert (seen.death.kind, seen.death.step) == ("exit", 0)
        assert "duplicate property" in seen.death.last_words
        assert target.run(LOOK).death is None


def test_a_long_null_node_is_read_and_a_longer_one_is_outside(build: Build) -> None:
    def null(size: int) -> Trace:
        options = {"driver": "null-co", "node-name": "n", "size": size, "read-zeroes": True}
        read = {"execute": "reopencheck-read", "arguments": {"node": "n"}}
        return Trace((), ({"execute": "blockdev-add", "arguments": options}, read))

    with Target(build) as target:
        assert target.run(null(1 << 30)).observations[1].reply == {"return": []}
        error = target.run(null(1 << 40)).observations[1].reply["error"]
    assert error["class"] == "ReopencheckNotModelled"
    assert error["desc"].startswith("reopencheck: no more than 4294967296 bytes")


def test_waits_in_vain_come_to_an_end(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred waits for what never comes take no longer than a few."""
    monkeypatch.setattr("targets.exchange.PATIENCE_IN_ALL", 0.2)
    device = {"id": "/machine/peripheral/none", "status": "unplugged"}
    wait = {"execute": "reopencheck-wait", "arguments": device}
    with Target(build) as target:
        seen = target.run(Trace((), (wait,) * 200), observe=False)
    assert seen.death is None
    assert all("does not come" in each.reply["error"]["desc"] for each in seen.observations)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The harnesses see what they are to see: each watch is shown what it must notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from benchmarks import hostile, killing
from benchmarks.killing import Ended, Killer, Place, descendants
from benchmarks.kills import Report
from checker.cases.case import decode
from model.values.trace import ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(killing, "GRACE", 0.0)
    with Place() as made:
        yield made


def test_a_clean_place_has_no_leftovers(place: Place) -> None:
    process = place.start(["rules"], "results", cases=False)
    ended = place.end(process, "results")
    assert (ended.status, ended.error) == (0, "")
    assert ended.document is not None
    assert place.leftovers() == []


def test_directories_sockets_and_processes_are_seen(place: Place) -> None:
    (place.scratch / "reopencheck-x").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place.path / "sock"))
        marked = {**os.environ, killing.MARK: place._mark}
        with (
            subprocess.Popen(["sleep", "60"], env=marked) as one,
            subprocess.Popen(["sleep", "60"], cwd=place.path) as other,
        ):
            found = place.leftovers()
            for process in (one, other):
                process.kill()
    assert f"process {one.pid}: sleep" in found
    assert f"process {other.pid}: sleep" in found
    assert "scratch: reopencheck-x" in found
    assert f"socket: {place.path}/sock" in found


def test_leaving_a_place_ends_what_was_left(place: Place) -> None:
    with Place() as inner:
        process = subprocess.Popen(["sleep", "60"], cwd=inner.path)
    assert process.wait(timeout=10) == -signal.SIGKILL


def test_only_daemons_below_the_run_are_killed(tmp_path: Path) -> None:
    daemon = tmp_path / "qemu-storage-daemon"
    daemon.symlink_to(Path("/bin/sleep").resolve())
    script = "import subprocess, sys; subprocess.run([sys.argv[1], '60'], check=False)"
    with (
        subprocess.Popen([sys.executable, "-c", script, daemon]) as run,
        subprocess.Popen([daemon, "60"]) as foreign,
    ):
        killer = Killer(run.pid, Random(1), 1)  # noqa: S311
        killer.start()
        killer.join(timeout=30)
        assert killer.stop() == 1
        for pid in descendants(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert run.wait(timeout=10) == 0
        assert foreign.poll() is None
        foreign.kill()


def test_lost_and_invented_findings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.same("a run", {"a"}, {"a"})
    assert report.wrong == []
    report.same("a run", {"a", "b"}, {"a", "c"})
    assert report.wrong == ["a run: lost b", "a run: invented c"]
    assert capsys.readouterr().out.count("WRONG") == 2


def test_findings_of_all_commands_are_read() -> None:
    for member in ("findings", "differences"):
        assert Ended(1, {member: [{"signature": "x"}]}, "").signatures() == {"x"}
    assert Ended(-9, None, "").signatures() == set()


def test_cases_that_were_written_are_read(place: Place) -> None:
    cases = place.path / "results" / "cases"
    cases.mkdir(parents=True)
    (cases / "a.json").write_text('{"signature": "x"}', encoding="utf-8")
    (cases / "b.json").write_text('{"signa', encoding="utf-8")
    assert place.cases("results") == {"x", "b.json cannot be read"}


def test_hostile_traces_become_cases() -> None:
    images = (ImageSpec("hd0.raw", "raw", 512, None, None, ((0, 512, 1),)),)
    trace = Trace(images, ({"execute": "quit"},))
    text = json.dumps(hostile.document("a", trace))
    assert decode(text.encode()).trace() == trace


def test_what_is_outside_is_watched(tmp_path: Path) -> None:
    before = hostile.fingerprint(tmp_path)
    (tmp_path / "new").touch()
    touched = hostile.fingerprint(tmp_path)
    (tmp_path / "new").write_bytes(b"x")
    written = hostile.fingerprint(tmp_path)
    assert len({str(each) for each in (before, touched, written)}) == 3


def test_sockets_and_programs_are_seen() -> None:
    script = (
        "import socket, subprocess; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
        "subprocess.run(['sleep', '60'], check=False, pass_fds=[s.fileno()])"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as run:
        watch = hostile.Watch(os.getpid())
        while not descendants(run.pid):
            assert run.poll() is None
        (sleeping,) = descendants(run.pid)
        while "sleep" not in Path(f"/proc/{sleeping}/comm").read_text(encoding="utf-8"):
            pass
        watch._look(sleeping)
        os.kill(sleeping, signal.SIGKILL)
    assert watch.seen == {"a program runs: sleep", "sleep has a network socket: tcp"}

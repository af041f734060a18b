# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever ends a run: what was found is told, then the trouble, with the worst status."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker import cli, interrupts
from checker.ending import Ended, finish, noting, status
from checker.errors import CheckerError, OutputError
from checker.exhaustive import Scope
from checker.interrupts import listening
from checker.output import write_report
from checker.tally import Notes, Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from reports import script
from targets.errors import TargetError
from tests.reports.samples import FINDING, SUMMARY

if TYPE_CHECKING:
    from pathlib import Path

ENDS: list[tuple[BaseException, str]] = [
    (TargetError("no daemon\nany more"), "no daemon any more"),
    (CheckerError("no"), "no"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), "No space left on device: x"),
    (MemoryError(), "out of memory"),
    (RecursionError("deep"), "internal error: RecursionError: deep (REOPENCHECK_TRACEBACK=1"),
    (KeyError("node"), "internal error: KeyError: 'node' (REOPENCHECK_TRACEBACK=1 shows where)"),
]


@pytest.mark.parametrize(("error", "says"), ENDS)
def test_an_error_is_noted(error: BaseException, says: str) -> None:
    ended = Ended()
    with noting(ended):
        raise error
    assert ended.trouble.startswith(says)
    assert not ended.interrupted


def test_an_interrupt_is_noted() -> None:
    ended = Ended()
    with noting(ended):
        raise KeyboardInterrupt
    assert (ended.interrupted, ended.trouble) == (True, "")


def test_findings_beat_trouble() -> None:
    assert status(failed=True, interrupted=True, trouble=True, outside=True) == 130
    assert status(failed=True, trouble=True, outside=True) == 1
    assert status(failed=False, trouble=True, outside=True) == 2
    assert status(failed=False, outside=True) == 4
    assert status(failed=False) == 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run ``check`` with a finding and then an end of some kind; (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def do(end: BaseException | None, *words: str) -> tuple[int, str, str]:
        def breaks(tally: Tally, *_: object, **_more: object) -> None:
            tally.violations += 1
            tally.keep(attrs.evolve(FINDING, kind="property"))
            if end is not None:
                raise end

        monkeypatch.setattr("checker.check.run_check", breaks)
        monkeypatch.setattr(sys, "argv", ["reopencheck", "check", "--seed", "1", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return do


@pytest.mark.parametrize(("error", "says"), ENDS)
def test_the_finding_is_told_before_the_trouble(
    run: Any, error: BaseException, says: str, tmp_path: Path
) -> None:
    code, out, err = run(error, "--report", "report")
    assert code == 1
    assert FINDING.title in out
    assert out.endswith("FAILED\n")
    assert "ended early: this is what was found so far" in out
    assert err.startswith(f"reopencheck: {says}")
    assert err.count("\n") == 1
    assert FINDING.signature in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    code, out, _err = run(error, "--json")
    document = json.loads(out)
    assert (code, len(document["findings"])) == (1, 1)
    assert document["trouble"].startswith(says)


def test_what_was_not_told_is_told_by_the_next(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_text: str) -> None:
        raise OutputError("cannot write the result: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("checker.ending.put", full)
        code, out, err = run(None, "--json")
    assert (code, out) == (1, "")
    assert err == "reopencheck: cannot write the result: No space left on device\n"
    monkeypatch.setattr("checker.tally.Tally.keep", lambda *_: None)
    code, out, err = run(None, "--json")
    document = json.loads(out)
    assert (code, document["findings"], len(document["recovered"])) == (1, [], 1)
    assert err.startswith("reopencheck: recovered 1 finding that an earlier run could not tell of")
    assert json.loads(run(None, "--json")[1])["recovered"] == []


def test_a_report_that_cannot_be_written_loses_no_summary(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.fsync
    written = []

    def full(file: int) -> None:
        written.append(file)
        if len(written) > 4:  # the journal's, and the case
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = run(None, "--report", "report")
    assert code == 1
    assert FINDING.title in out
    assert "there is no report: cannot write report/" in err
    assert list((tmp_path / "report").iterdir()) == []


def test_a_script_that_cannot_be_made_takes_nothing_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> str:
        raise KeyError("node")

    monkeypatch.setattr(script, "render", breaks)
    with pytest.raises(OutputError, match=r"no script qemu-7.2-.*: KeyError: 'node'"):
        write_report(SUMMARY, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"summary.md", "junit.xml"}


def test_outside_and_disturbed_have_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    clean = attrs.evolve(SUMMARY, divergences=0, findings=())
    for changes, code, last in (
        ({"outside": 2}, 4, "outside the spec"),
        ({"outside": 2, "disturbed": 1}, 2, "NOT ALL JUDGED"),
        ({"outside": 2, "trouble": "no"}, 2, "NOT FINISHED"),
        ({"outside": 2, "violations": 1, "trouble": "no"}, 1, "FAILED"),
        ({}, 0, "held"),
    ):
        with pytest.raises(SystemExit) as caught:
            finish(
                attrs.evolve(clean, **changes),
                report=None,
                as_json=False,
                lines=lambda _: (),
            )
        assert (caught.value.code, capsys.readouterr().out) == (code, f"{last}\n")


def test_only_the_first_signal_ends_anything() -> None:
    main = threading.main_thread().ident
    assert main is not None
    with listening() as heard:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 3:
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            heard.check()
        with listening() as inner:
            assert inner is heard


def test_while_results_are_told_signals_are_noted() -> None:
    with listening() as heard:
        interrupts.hold()
        signal.raise_signal(signal.SIGINT)
        assert heard.asked is not None


def test_a_finding_gets_its_case_whenever_the_signal_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def strikes(file: int) -> None:
        signal.raise_signal(signal.SIGINT)
        real(file)

    monkeypatch.setattr(os, "fsync", strikes)
    tally = Tally("diff", QEMU_7_2, seed=1, cases=tmp_path)
    with listening(), pytest.raises(KeyboardInterrupt):
        tally.keep(FINDING)
    (found,) = tally.summary().findings
    assert [str(path) for path in tmp_path.iterdir()] == [found.case_file]


def test_who_asks_again_after_a_while_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with listening() as heard:
        interrupts.hold()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert ends == []
        assert heard.asked is not None
        heard.asked -= interrupts.PATIENCE + 1
        signal.raise_signal(signal.SIGINT)
    assert ends == [130]


def test_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with listening():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) is before


def test_notes_are_not_without_end() -> None:
    tally = Tally("diff", QEMU_7_2, seed=1)
    for number in range(Notes.MOST + 20):
        tally.notes.append(str(number))
    assert len(tally.notes) == Notes.MOST
    assert tally.summary().notes[-1] == "and 20 more notes"


def test_compare_keeps_what_it_found_before_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from checker.distinguish import run_compare  # noqa: PLC0415
    from checker.parties import Model  # noqa: PLC0415
    from model.release.dialects import find_dialect  # noqa: PLC0415

    kept: list[str] = []

    def keep(found: Any) -> None:
        kept.append(found.signature)
        if len(kept) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    lax = find_dialect("qemu-7.2 without reopen.backing-missing")
    result = run_compare(
        Model(QEMU_7_2), Model(lax), iter(()), seed=1, budget=1e6, scope=Scope(2, 2), keep=keep
    )
    assert result.trouble == "No space left on device"
    assert {each.signature for each in result.distinctions} == set(kept)
    assert kept

# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found outlives the run that found it, once, and only one other run takes it over."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.cases.case import from_finding, keep, load, write
from checker.cases.journal import FOLDER, Journal
from checker.errors import CheckerError
from tests.reports.samples import FINDING

if TYPE_CHECKING:
    from pathlib import Path

CASE = from_finding(FINDING)
OTHER = from_finding(attrs.evolve(FINDING, signature="another"))


def abandoned(cases: Path, *found: Any) -> Path:
    """A journal whose run is gone."""
    journal = Journal(cases, "reopencheck diff")
    for case in found:
        journal.add(case)
    journal.end(told=False)
    (path,) = (cases / FOLDER).glob("*.jsonl")
    return path


def test_nothing_is_there_until_something_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "cases", "x")
    assert journal.recover() == ()
    journal.end(told=True)
    assert not (tmp_path / "cases").exists()


def test_a_dead_run_s_findings_are_taken_over(tmp_path: Path) -> None:
    abandoned(tmp_path, CASE, OTHER)
    journal = Journal(tmp_path, "the next")
    (left,) = journal.recover()
    assert left.found_by == "reopencheck diff"
    assert [case for _path, case in left.cases] == [CASE, OTHER]
    assert [load(path) for path, _case in left.cases] == [CASE, OTHER]
    # They are ours until they were told: if we are killed as well, the one after us has them.
    journal.end(told=False)
    assert len(Journal(tmp_path, "x").recover()) == 1


def test_what_was_told_is_not_told_again(tmp_path: Path) -> None:
    abandoned(tmp_path, CASE)
    journal = Journal(tmp_path, "the next")
    journal.recover()
    journal.end(told=True)
    assert Journal(tmp_path, "x").recover() == ()
    assert not (tmp_path / FOLDER).exists()
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_run_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    alive = Journal(tmp_path, "alive")
    alive.add(CASE)
    other = Journal(tmp_path, "other")
    assert other.recover() == ()
    other.add(OTHER)
    other.end(told=True)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    alive.end(told=True)


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_no_loss_of_the_others(tmp_path: Path, cut: int) -> None:
    path = abandoned(tmp_path, CASE, OTHER)
    path.write_bytes(path.read_bytes()[:-cut])
    (left,) = Journal(tmp_path, "x").recover()
    expected = [CASE, OTHER] if cut == 1 else [CASE]  # only the end of the line is missing
    assert [case for _path, case in left.cases] == expected
    assert left.torn == (cut != 1)


@pytest.mark.parametrize("line", [b"[]", b"1", b'{"case": {}}', b"{}", b"\xff", b"[" * 9999])
def test_lines_that_make_no_sense_are_counted(tmp_path: Path, line: bytes) -> None:
    path = abandoned(tmp_path, CASE)
    path.write_bytes(path.read_bytes() + line + b"\n")
    (left,) = Journal(tmp_path, "x").recover()
    assert ([case for _path, case in left.cases], left.torn) == ([CASE], 1)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "x")
    journal.add(CASE)
    real = os.write

    def short(file: int, data: bytes) -> int:
        if len(data) > 50:
            return real(file, data[:50])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(CheckerError, match=r"cannot write .*: No space left on device"):
        journal.add(OTHER)
    monkeypatch.undo()
    journal.end(told=False)
    (left,) = Journal(tmp_path, "x").recover()
    assert (len(left.cases), left.torn) == (1, 0)


def test_cases_only_get_shorter(tmp_path: Path) -> None:
    short = attrs.evolve(FINDING, steps=FINDING.steps[:1], difference=None)
    path = write(from_finding(short), tmp_path)
    again, there = keep(CASE, tmp_path)
    assert (again, there) == (path, from_finding(short))
    assert load(path) == from_finding(short)
    # What is no valid case of the same failure is no reason to keep it.
    path.write_text("{}", encoding="utf-8")
    assert keep(CASE, tmp_path)[1] is CASE
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "steps": [], "difference": None, "signature": "x"}))
    assert keep(CASE, tmp_path)[1] is CASE
    assert load(path) == CASE

# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's result in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.cli.options import fitted
from checker.cli.progress import summary_lines
from tests.reports.samples import SUMMARY

if TYPE_CHECKING:
    import pytest

STATES = (("created", 4), ("running", 3), ("paused", 0), ("null", 3))


def test_jobs_and_data_are_told_where_there_are_any() -> None:
    with_jobs = attrs.evolve(SUMMARY, job_states=STATES, reopened_with_job=3, read_data=5)
    told = "\n".join(summary_lines(with_jobs))
    assert "  job states  created 4, running 3, null 3\n" in told
    assert "  no job was  paused\n" in told
    assert "  examples    3 (30 %) reopen beside a job, 5 (50 %) compare data\n" in told
    assert "job states" not in "\n".join(summary_lines(SUMMARY))


def test_a_repetition_tells_what_differed() -> None:
    told = "\n".join(summary_lines(attrs.evolve(SUMMARY, command="repeat")))
    assert told.startswith("repeat qemu-7.2 against ")
    assert "  divergences 3, known 0" in told
    assert "violations" not in told
    assert "violations" in "\n".join(summary_lines(attrs.evolve(SUMMARY, command="check")))


def test_a_terminal_gets_lines_that_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "  never reached: " + ", ".join(f"reopen.rule-{number}" for number in range(20))
    assert fitted(line) == line
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    first, *others = fitted(line).splitlines()
    assert first.startswith("  never reached: reopen.rule-0,")
    assert others
    assert all(other.startswith(" " * 14 + "reopen.rule-") for other in others)
    assert all(len(shown) <= 60 for shown in (first, *others))
    assert " ".join(fitted(line).split()) == line.strip()


def test_what_was_not_reached_stands_before_the_result() -> None:
    lines = summary_lines(attrs.evolve(SUMMARY, witnesses=(("a state", 0),)))
    missing = lines.index("  never seen: a state")
    result = next(at for at, line in enumerate(lines) if line.startswith("  examples "))
    assert missing < result
    assert not any("never" in line for line in lines[result:])

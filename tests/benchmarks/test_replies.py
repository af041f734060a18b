# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of what the spec says: the same spec agrees with it, another one does not."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import attrs
import pytest

from benchmarks import replies
from model import Monitor, Observation, find_dialect

CASE = Path("findings/left-out-backing.json")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small record: one case, and one short trace of one dialect."""
    cases = tmp_path / "cases"
    cases.mkdir()
    shutil.copy(replies.CASES / CASE, cases / CASE.name)
    monkeypatch.setattr(replies, "CASES", cases)
    monkeypatch.setattr(replies, "DIALECTS", {"qemu-7.2": find_dialect("qemu-7.2")})
    monkeypatch.setattr(replies, "PROPOSALS", {})
    path = tmp_path / "replies.gz"
    few = ["--seeds", "1", "--examples", "2", "--steps", "5"]
    assert replies.main(["record", str(path), *few]) == 0
    return path


def test_the_same_spec_agrees(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replies.main(["compare", str(record)]) == 0
    assert "3 traces" in capsys.readouterr().out


def test_a_rule_that_is_gone_is_noticed(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        replies, "find_dialect", lambda name: find_dialect(name).without("reopen.backing-missing")
    )
    assert replies.main(["compare", str(record)]) == 1
    told = capsys.readouterr().out
    assert "step" in told
    assert "now" in told


def test_a_graph_that_shows_otherwise_is_noticed(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observe = Monitor.observe

    def with_one_more(self: Monitor) -> Observation:
        seen = observe(self)
        return attrs.evolve(seen, nodes=[*(seen.nodes or []), {}])

    monkeypatch.setattr(Monitor, "observe", with_one_more)
    assert replies.main(["compare", str(record)]) == 1
    assert ", nodes: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{}\n", mtime=0),
        gzip.compress(b'{"reopencheck-replies": 1}\n[]\n', mtime=0),
    ],
    ids=["empty", "no gzip", "no record", "no trace"],
)
def test_what_is_no_record_is_told_in_a_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "replies.gz"
    path.write_bytes(content)
    assert replies.main(["compare", str(path)]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert str(path) in told


def test_the_order_of_members_counts() -> None:
    told = replies.difference(json.loads('{"a": 1, "b": [2]}'), json.loads('{"b": [2], "a": 1}'))
    assert told is not None
    assert replies.difference({"a": [{"b": 1}]}, {"a": [{"b": 1}]}) is None
    assert replies.difference({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == "a.0.b: 1 before, 2 now"

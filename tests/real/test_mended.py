# SPDX-License-Identifier: GPL-2.0-or-later
"""The regression corpus: where the spec once differed from the daemon, they agree by now."""

from __future__ import annotations

from pathlib import Path

import pytest

from checker.case import load
from checker.judge import Example, judge
from checker.oracle import oracle
from checker.settling import settled
from model import find_dialect
from targets.binaries import find_daemon
from targets.pool import Target

MENDED = sorted((Path(__file__).resolve().parents[2] / "cases" / "mended").glob("*.json"))
DIALECT = find_dialect("qemu-7.2")


def test_there_is_a_corpus() -> None:
    assert MENDED


@pytest.mark.parametrize("path", MENDED, ids=lambda path: path.stem)
def test_spec_and_daemon_agree(path: Path) -> None:
    """In all that the case once showed, and without meeting a defect that would excuse it."""
    trace = settled(load(path).trace(), DIALECT)
    example = Example(trace, oracle(DIALECT)(trace))
    assert example.hazard_before(len(trace.commands)) is None
    with Target(find_daemon()) as target:
        assert judge(example, target.confirm(trace)) is None

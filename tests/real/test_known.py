# SPDX-License-Identifier: GPL-2.0-or-later
"""The defects that the spec names: each still shows on the daemon, and just where it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from checker.case import load
from checker.judge import Example, judge
from checker.oracle import oracle
from model import find_dialect
from targets.binaries import find_daemon
from targets.pool import Target

KNOWN = Path(__file__).resolve().parents[2] / "cases" / "known"
DIALECT = find_dialect("qemu-7.2")
HAZARDS = sorted(rule.id for rule in DIALECT.rules() if rule.kind == "hazard")


def test_every_hazard_has_a_case_and_every_case_a_hazard() -> None:
    """No exception without its evidence."""
    assert sorted(path.stem.replace("-", ".", 1) for path in KNOWN.glob("*.json")) == HAZARDS


@pytest.mark.parametrize("hazard", HAZARDS)
def test_hazard_shows(hazard: str) -> None:
    """The daemon dies, hangs or differs, and the model has met the hazard by then."""
    trace = load(KNOWN / f"{hazard.replace('.', '-', 1)}.json").trace()
    example = Example(trace, oracle(DIALECT)(trace))
    with Target(find_daemon(), timeout=2.0) as target:
        verdict = judge(example, target.confirm(trace))
    assert verdict is not None, "the daemon does what the spec says: the defect is mended"
    assert example.hazard_before(verdict.step) == hazard

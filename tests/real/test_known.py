# SPDX-License-Identifier: GPL-2.0-or-later
"""The defects that the spec names: each still shows on the daemon, and just where it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from checker.case import load
from checker.compare import MASKS, NORMALISATIONS
from checker.judge import Example, judge
from checker.oracle import oracle
from model import find_dialect
from targets.binaries import find_daemon
from targets.pool import Target

KNOWN = Path(__file__).resolve().parents[2] / "cases" / "known"
DIALECT = find_dialect("qemu-7.2")
HAZARDS = sorted(rule.id for rule in DIALECT.rules() if rule.kind == "hazard")

LIMITS = sorted(
    rule.id
    for rule in DIALECT.rules()
    if rule.kind == "hazard" and rule.source.startswith("our own")
)


def test_exceptions_to_equality_are_few() -> None:
    """What is not compared or known; hazards are defects, and each has its own evidence below."""
    assert len(MASKS) + len(NORMALISATIONS) + len(LIMITS) < 10


CASES = sorted(KNOWN.glob("*.json"))


def _example(path: Path) -> Example:
    trace = load(path).trace()
    return Example(trace, oracle(DIALECT)(trace))


def test_every_hazard_has_a_case() -> None:
    """No exception without its evidence, but for what the spec itself cannot know."""
    met = {_example(path).hazard_before(1000) for path in CASES}
    assert met == {each for each in HAZARDS if each not in LIMITS}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_hazard_shows(path: Path) -> None:
    """The daemon dies, hangs or differs, and the model has met the hazard by then."""
    example = _example(path)
    with Target(find_daemon(), timeout=2.0) as target:
        verdict = judge(example, target.confirm(example.trace))
    assert verdict is not None, "the daemon does what the spec says: the defect is mended"
    assert example.hazard_before(verdict.step) is not None

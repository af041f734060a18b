# SPDX-License-Identifier: GPL-2.0-or-later
"""The defects that the spec names: each still shows on the daemon, and just where it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from checker.case import load
from checker.compare import MASKS, NORMALISATIONS
from checker.judge import Example
from checker.oracle import oracle
from checker.settling import settled
from model.release.dialect import Dialect
from model.release.dialects import DIALECTS
from model.data.requests import NO_GUEST
from targets.binaries import Build

if TYPE_CHECKING:
    from tests.real.replays import Replays

BuildOf: TypeAlias = Callable[[Dialect], Build]

KNOWN = Path(__file__).resolve().parents[2] / "cases" / "known"
CASES = sorted(KNOWN.glob("*.json"))

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)


def _limits(dialect: Dialect) -> set[str]:
    """What the spec itself cannot know."""
    return {r.id for r in dialect.rules() if r.kind == "hazard" and r.source.startswith("our own")}


@every_dialect
def test_exceptions_to_equality_are_few(dialect: Dialect) -> None:
    """What is not compared or known; hazards are defects, and each has its own evidence below."""
    assert len(MASKS) + len(NORMALISATIONS) + len(_limits(dialect)) < 10


def _example(path: Path, dialect: Dialect) -> Example:
    trace = settled(load(path).trace(), dialect)
    return Example(trace, oracle(dialect)(trace))


def _named(path: Path, example: Example) -> bool:
    """Whether the spec meets the very hazard that a case was kept for."""
    hazard = (load(path).provenance or {})["hazard"]
    return any(hazard in step.hazards for step in example.expectations)


@every_dialect
def test_every_hazard_has_a_case(dialect: Dialect) -> None:
    """No exception without its evidence, but for what the spec itself cannot know."""
    hazards = {rule.id for rule in dialect.rules() if rule.kind == "hazard"}
    met = {
        (load(path).provenance or {})["hazard"]
        for path in CASES
        if _named(path, _example(path, dialect))
    }
    assert met == hazards - _limits(dialect)


@every_dialect
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_hazard_shows(path: Path, dialect: Dialect, build_of: BuildOf, replays: Replays) -> None:
    """The daemon dies, hangs or differs, and the model has met the hazard by then.

    Where the dialect says that its release has not got the defect, they agree.
    """
    example = _example(path, dialect)
    verdict = replays.verdict(build_of(dialect), example)
    if verdict is None:
        mended = "the daemon does what the spec says: the defect is mended"
        assert not _named(path, example), mended
    else:
        guest_waits = NO_GUEST.id in example.expectations[verdict.step].refused
        assert guest_waits or example.hazard_before(verdict.step) is not None, verdict.title

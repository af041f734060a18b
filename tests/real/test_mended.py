# SPDX-License-Identifier: GPL-2.0-or-later
"""The regression corpus: where the spec once differed from the daemon, they agree by now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from checker.case import load
from checker.judge import Example
from checker.oracle import oracle
from checker.settling import settled
from model.release.dialect import Dialect
from model.release.dialects import DIALECTS
from targets.binaries import Build

if TYPE_CHECKING:
    from tests.real.replays import Replays

BuildOf: TypeAlias = Callable[[Dialect], Build]

MENDED = sorted((Path(__file__).resolve().parents[2] / "cases" / "mended").glob("*.json"))


def test_there_is_a_corpus() -> None:
    assert MENDED


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)
@pytest.mark.parametrize("path", MENDED, ids=lambda path: path.stem)
def test_spec_and_daemon_agree(
    path: Path, dialect: Dialect, build_of: BuildOf, replays: Replays
) -> None:
    """In all that the case once showed, in its own release without a defect that would excuse it.

    Others may have one on the way, and what comes after it is not compared.
    """
    trace = settled(load(path).trace(), dialect)
    example = Example(trace, oracle(dialect)(trace))
    if load(path).dialect == dialect.name:
        assert example.hazard_before(len(trace.commands)) is None
    verdict = replays.verdict(build_of(dialect), example)
    assert verdict is None or example.hazard_before(verdict.step) is not None

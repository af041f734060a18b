# SPDX-License-Identifier: GPL-2.0-or-later
"""Sound inputs, from which bad ones are made: the shipped cases, and traces of the generator."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from checker.case import Case, load
from checker.generate import examples
from checker.tally import Amount

if TYPE_CHECKING:
    from checker.judge import Example
    from model.release.dialect import Dialect
    from model.values.trace import Trace

CASES: Final = Path(__file__).parents[2] / "cases"
LARGEST: Final = 16_384
"""Bytes of a case from which others are made: large ones take long and show nothing else."""


@lru_cache
def case_files() -> tuple[Path, ...]:
    """The shipped cases that are not large."""
    found = sorted(CASES.glob("*/*.json"))
    return tuple(path for path in found if path.stat().st_size <= LARGEST)


@lru_cache
def cases() -> tuple[Case, ...]:
    """What the files say."""
    return tuple(load(path) for path in case_files())


@lru_cache
def generated(dialect: Dialect, count: int = 10, steps: int = 30) -> tuple[Example, ...]:
    """Examples of the generator in a dialect, the same each time."""
    found: list[Example] = []
    examples(dialect, Amount(count, steps, 1))(found.append)
    return tuple(found)


def traces(dialect: Dialect) -> tuple[Trace, ...]:
    """Traces in a dialect: its own, and those of all cases, whichever dialect they are of."""
    return (*(each.trace for each in generated(dialect)), *(each.trace() for each in cases()))

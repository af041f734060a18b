# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever replays a case of the repository gets an answer, or is told what the case is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from checker.cases.case import load
from checker.errors import CaseError
from checker.runs.replay_case import by_model, compare_case, on_model
from model.release.dialects import find_dialect

CASES = Path(__file__).resolve().parents[3] / "cases"
STATED = sorted([*(CASES / "known").glob("*.json"), *(CASES / "findings").glob("*.json")])
MENDED = sorted((CASES / "mended").glob("*.json"))
OUTSIDE = {"reopen-makes-inactive"}
"""What is shown by a daemon alone."""


@pytest.mark.parametrize("path", STATED, ids=lambda path: path.stem)
def test_the_model_answers_as_the_case_says(path: Path) -> None:
    case = load(path)
    replayed = on_model(case, find_dialect(case.dialect))
    assert replayed.verdict == ("outside the spec" if path.stem in OUTSIDE else "agrees")


def test_what_expects_nothing_is_no_evidence_for_the_model() -> None:
    for path in MENDED:
        case = load(path)
        if all(step.expected is None for step in case.steps):
            with pytest.raises(CaseError, match=r"step 1 .* give a build \(--qemu\) or another"):
                on_model(case, find_dialect(case.dialect))


@pytest.mark.parametrize("path", MENDED[:5], ids=lambda path: path.stem)
def test_others_are_compared_with_what_the_model_says_now(path: Path) -> None:
    case = load(path)
    said = by_model(case, find_dialect(case.dialect))
    assert compare_case(case, "a build", said).agrees
    odd: dict[str, Any] = {"error": {"class": "GenericError", "desc": "no"}}
    differs = compare_case(case, "a build", (attrs.evolve(said[0], reply=odd), *said[1:]))
    assert differs.mismatch is not None
    assert (differs.mismatch.step, differs.verdict) == (0, "differs")


def test_another_dialect_can_be_compared() -> None:
    case = load(CASES / "mended" / "bitmap-cut.json")
    assert on_model(case, find_dialect("qemu-10.0")).verdict == "differs"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaying a case, to see whether a side still answers as the case expects.

``expected`` in a case is what the model said when the case was written. A replay
compares it with what the model says now, or with what a real binary shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.compare import StepMismatch, compare_trace
from checker.errors import CaseError
from checker.judge import as_json
from checker.laws import first_violation
from checker.oracle import expect
from reports.values import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checker.case import Case
    from checker.laws import Law, Violation
    from model.dialect import Dialect
    from model.trace import Json, Observation, Trace
    from targets.daemon import Death


@attrs.frozen
class Replayed:
    """A case beside what a side shows of it now.

    ``steps`` hold the case's expectation and the new answer (None after a death);
    ``mismatch`` is the first difference, ``death`` how the daemon ended, if it did, and
    ``violation`` the first law that the model breaks, where the case is about one.
    """

    side: str
    steps: tuple[Step, ...]
    mismatch: StepMismatch | None
    death: Death | None = None
    violation: Violation | None = None

    @property
    def agrees(self) -> bool:
        """Whether every step is answered as the case expects, and no law is broken."""
        return self.mismatch is None and self.death is None and self.violation is None

    def as_json(self) -> dict[str, Json]:
        """The result for machines."""
        difference = None
        if self.mismatch is not None:
            difference = {
                "step": self.mismatch.step,
                "path": self.mismatch.path,
                "expected": as_json(self.mismatch.expected),
                "got": as_json(self.mismatch.got),
            }
        death = None
        if self.death is not None:
            death = {
                "kind": self.death.kind,
                "step": self.death.step,
                "signal": self.death.signal,
                "status": self.death.status,
                "stderr": list(self.death.stderr),
            }
        return {
            "side": self.side,
            "agrees": self.agrees,
            "difference": difference,
            "death": death,
            "violation": None if self.violation is None else attrs.asdict(self.violation),
            "steps": [
                {
                    "command": step.command,
                    "expected": step.expected.reply if step.expected else None,
                    "got": step.got.reply if step.got else None,
                }
                for step in self.steps
            ],
        }


def by_model(case: Case, dialect: Dialect) -> tuple[Observation, ...]:
    """What the model says of the case's trace, in the given dialect."""
    trace = case.trace()
    return by_model_until(trace, len(trace.commands), dialect)


def check_case(case: Case, dialect: Dialect, law: Law) -> Replayed:
    """Whether the model still breaks a law along a case's trace; answers are not compared."""
    finding = case.finding()
    trace = case.trace()
    violation = first_violation(trace, dialect, law)
    # What comes after the violation may be what the model cannot answer at all.
    sound = trace.commands if violation is None else trace.commands[: violation.step]
    got = by_model_until(trace, len(sound), dialect)
    steps = tuple(
        Step(step.command, step.expected, got[number] if number < len(got) else None)
        for number, step in enumerate(finding.steps)
    )
    return Replayed(f"the model, {dialect.name}", steps, None, None, violation)


def by_model_until(trace: Trace, count: int, dialect: Dialect) -> tuple[Observation, ...]:
    """What the model says of a trace's first ``count`` commands."""
    part = attrs.evolve(trace, commands=trace.commands[:count])
    return tuple(e.observation for e in expect(part, dialect))


def compare_case(
    case: Case, side: str, got: Sequence[Observation], death: Death | None = None
) -> Replayed:
    """Put a case's expectations beside a side's answers.

    :class:`CaseError` when a step has no expectation: then there is nothing to compare with.
    """
    finding = case.finding()
    expected = []
    for number, step in enumerate(finding.steps, 1):
        if step.expected is None:
            raise CaseError(f"step {number} of the case does not say what is expected")
        expected.append(step.expected)
    steps = tuple(
        Step(step.command, step.expected, got[number] if number < len(got) else None)
        for number, step in enumerate(finding.steps)
    )
    return Replayed(side, steps, compare_trace(expected, got), death)

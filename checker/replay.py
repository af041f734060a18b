# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaying a case, to see whether a side still answers as the case expects.

``expected`` in a case is what the model said when the case was written. A replay
compares it with what the model says now, or with what a real binary shows. A step without it is
compared with what the model says now, in the dialect of the case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
from model.release.dialects import find_dialect

from checker.compare import StepMismatch, compare_trace
from checker.errors import CaseError
from checker.judge import as_json, is_outside
from checker.laws import first_violation
from checker.oracle import expect
from checker.settling import cause
from reports.values import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.release.dialect import Dialect
    from model.values.trace import Json, Observation, Trace

    from checker.case import Case
    from checker.laws import Law, Violation
    from targets.deaths import Death


ReplayVerdict: TypeAlias = Literal["agrees", "differs", "outside the spec", "disturbed"]


@attrs.frozen
class Replayed:
    """A case beside what a side shows of it now.

    ``steps`` hold the case's expectation and the new answer (None after a death);
    ``mismatch`` is the first difference, ``death`` how the daemon ended, if it did, and
    ``violation`` the first law that the model breaks, where the case is about one.
    ``outside`` is the first step that is outside the spec, if there is one: up to before it the
    case is compared, and what comes from there on is neither agreed nor different. ``disturbed``
    says why nothing can be said of a daemon, if that is so.
    """

    side: str
    steps: tuple[Step, ...]
    mismatch: StepMismatch | None
    death: Death | None = None
    violation: Violation | None = None
    outside: int | None = None
    disturbed: str = ""

    @property
    def verdict(self) -> ReplayVerdict:
        """What becomes of the case. A difference comes before what is outside the spec."""
        if self.mismatch is not None or self.death is not None or self.violation is not None:
            return "differs"
        if self.disturbed:
            return "disturbed"
        return "agrees" if self.outside is None else "outside the spec"

    @property
    def agrees(self) -> bool:
        """Whether every step is answered as the case expects, and no law is broken."""
        return self.verdict == "agrees"

    @property
    def subject(self) -> str:
        """What is outside the spec, in the words of the answer that says so."""
        if self.outside is None:
            return ""
        for step in self.steps[self.outside :]:
            for seen in (step.got, step.expected):
                if seen is not None and is_outside(seen):
                    return str(seen.reply["error"].get("desc", ""))
        return ""

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
            "verdict": self.verdict,
            "agrees": self.agrees,
            "outside": self._outside_as_json(),
            "disturbed": self.disturbed or None,
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

    def _outside_as_json(self) -> Json:
        return None if self.outside is None else {"step": self.outside, "subject": self.subject}


def by_model(case: Case, dialect: Dialect) -> tuple[Observation, ...]:
    """What the model says of the case's trace, in the given dialect."""
    trace = case.trace()
    return by_model_until(trace, len(trace.commands), dialect)


def on_model(case: Case, dialect: Dialect) -> Replayed:
    """Put a case's expectations beside what the model says in the given dialect.

    :class:`CaseError` where that would compare the model with itself.
    """
    if dialect.name == case.dialect:
        for number, step in enumerate(case.steps, 1):
            if step.expected is None:
                raise CaseError(
                    f"step {number} of the case does not say what is expected, and the model cannot"
                    " be compared with itself: give a build (--qemu) or another dialect (--dialect)"
                )
    return compare_case(case, f"the model, {dialect.name}", by_model(case, dialect))


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
    outside = left_at(case, steps)
    return Replayed(f"the model, {dialect.name}", steps, None, None, violation, outside)


def by_model_until(trace: Trace, count: int, dialect: Dialect) -> tuple[Observation, ...]:
    """What the model says of a trace's first ``count`` commands."""
    part = attrs.evolve(trace, commands=trace.commands[:count])
    return tuple(e.observation for e in expect(part, dialect))


def compare_case(
    case: Case, side: str, got: Sequence[Observation], death: Death | None = None
) -> Replayed:
    """Put a case's expectations beside a side's answers."""
    expected = _expected(case)
    steps = tuple(
        Step(command, expected[number], got[number] if number < len(got) else None)
        for number, command in enumerate(case.trace().commands)
    )
    outside = left_at(case, steps)
    if outside is not None and death is not None and death.step >= outside:
        death = None
    mismatch = compare_trace(expected[:outside], got)
    if death is not None and death.disturbed:
        return Replayed(side, steps, mismatch, None, None, outside, death.detail or "a signal")
    return Replayed(side, steps, mismatch, death, None, outside)


def _expected(case: Case) -> tuple[Observation, ...]:
    """What the case expects of each step; where it does not say, the model does."""
    stated = [step.expected for step in case.finding().steps]
    if None not in stated:
        return tuple(each for each in stated if each is not None)
    now = by_model(case, find_dialect(case.dialect))
    return tuple(each or answer for each, answer in zip(stated, now, strict=True))


def disturbed(case: Case, side: str, why: str) -> Replayed:
    """A case of which nothing can be said, since each try was disturbed from outside."""
    steps = tuple(Step(step.command, step.expected, None) for step in case.finding().steps)
    return Replayed(side, steps, None, disturbed=why)


def left_at(case: Case, steps: Sequence[Step]) -> int | None:
    """The first step that is outside the spec: the case says so, or an answer does.

    Where that is a wait, it is the command whose jobs are waited for.
    """
    commands = case.trace().commands
    outside = (
        cause(commands, number)
        for number, step in enumerate(steps)
        if is_outside(step.expected) or is_outside(step.got)
    )
    return min(outside, default=None)

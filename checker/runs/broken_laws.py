# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping a broken law of the model: its finding, reduced, one for each signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.cases.reduce import reduce_trace
from checker.cases.waits import with_waits
from checker.compare.oracle import expect
from checker.compare.signature import names_in, normalised, told_command
from checker.compare.violations import ANSWERS, first_violation
from reports.values import Difference, Finding, Step

if TYPE_CHECKING:
    from checker.compare.violations import Law, Violation
    from checker.runs.tally import Tally
    from model.values.trace import Trace


def signature(trace: Trace, violation: Violation) -> str:
    """The bucket of a violation: the command, the law, and what is wrong without names."""
    command = told_command(trace, violation.step)
    told = normalised(violation.text, names_in(trace))
    return f"{command} | property | {violation.law} | {told}"


def keep_violation(
    tally: Tally, trace: Trace, violation: Violation, law: Law, most_replays: int
) -> None:
    """Count a violation; a new one is written as a case at once and then reduced."""
    tally.violations += 1
    wanted = signature(trace, violation)
    if tally.has(wanted):
        tally.again(wanted)
        return
    start = attrs.evolve(trace, commands=trace.commands[: violation.step + 1])
    tally.keep(_finding(tally, start, violation))
    if most_replays == 0:
        return

    def same(candidate: Trace) -> bool:
        found = first_violation(candidate, tally.dialect, law)
        return found is not None and signature(candidate, found) == wanted

    reduction = reduce_trace(
        start, same, most_replays, with_waits=lambda changed: with_waits(changed, tally.dialect)
    )
    last = first_violation(reduction.trace, tally.dialect, law)
    if last is not None and signature(reduction.trace, last) == wanted:
        note = f"reduced from {len(start.commands)} commands in {reduction.replays} replays"
        small = attrs.evolve(reduction.trace, commands=reduction.trace.commands[: last.step + 1])
        tally.keep(_finding(tally, small, last), note)


def _finding(tally: Tally, trace: Trace, violation: Violation) -> Finding:
    commands = trace.commands
    known = commands if violation.law != ANSWERS else commands[: violation.step]
    try:
        expected = expect(attrs.evolve(trace, commands=known), tally.dialect)
    except Exception:  # noqa: BLE001  # the model that broke is asked for help, and may break again
        expected = ()
    return Finding(
        kind="property",
        signature=signature(trace, violation),
        title=f"{told_command(trace, violation.step)}: {violation.law}: {violation.text}",
        images=trace.images,
        steps=tuple(
            Step(command, expected[number].observation if number < len(expected) else None)
            for number, command in enumerate(commands)
        ),
        difference=Difference(violation.step, violation.law, None, violation.text),
        dialect=tally.dialect.name,
        seed=tally.seed,
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws on the model itself: which trace breaks one, and what the finding says of it.

An exception that escapes the model breaks a law too, the one that it answers everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import attrs
from model.values.trace import Command, Trace

from checker.oracle import expect
from checker.reduce import reduce_trace
from checker.settling import settled
from checker.signature import names_in, normalised, told_command
from model import BlockState, Monitor, Outcome
from reports.values import Difference, Finding, Step

if TYPE_CHECKING:
    from model.release.dialect import Dialect

    from checker.tally import Tally

ANSWERS = "spec.answers-everything"
"""The law that an escaping exception breaks."""

Law: TypeAlias = Callable[[BlockState, Command, Outcome], Iterable[tuple[str, str]]]
"""From the state before, a command and its outcome to (law, what is wrong), for each broken one."""


@attrs.frozen
class Violation:
    """A broken law: at which step (from 0), which law, and what is wrong in one line."""

    step: int
    law: str
    text: str


def no_law(_before: BlockState, _command: Command, _outcome: Outcome) -> Iterable[tuple[str, str]]:
    """Ask for nothing but an answer."""
    return ()


def first_violation(trace: Trace, dialect: Dialect, law: Law) -> Violation | None:
    """Run the model over a trace until it breaks a law."""
    monitor = Monitor(dialect)
    for image in trace.images:
        monitor.images.from_spec(image)
    for number, command in enumerate(trace.commands):
        before = monitor.state
        try:
            monitor.execute(command)
            outcome = monitor.outcome
            assert outcome is not None, "a command has an outcome"  # noqa: S101  # promised
            monitor.observe()
            for name, text in law(before, command, outcome):
                return Violation(number, name, text)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            return Violation(number, ANSWERS, f"{type(error).__name__}: {error}")
    return None


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
        start, same, most_replays, settle=lambda changed: settled(changed, tally.dialect)
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Examples from the machine: finished traces with what the model said of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
from model.values.trace import Command, Observation, Trace

from checker.judge import Example
from checker.laws import Law, Violation
from checker.oracle import expectation, observe
from strategies import Enough, OnStep, OnTrace, machine_for, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect

    from checker.diff import Generator
    from checker.judge import Expectation
    from checker.tally import Amount
    from model import BlockState, Outcome

_MOST_FAILURES = 50
"""Exceptions of the model after which a run is not begun once more."""
_IN_A_ROW = 1000
"""Examples after which the engine begins anew: it remembers each, at some 100 KB."""
_NEXT_SEED = 1_000_000_007
"""From one beginning to the next, so that nearby seeds do not share examples."""


class _SpecFailed(BaseException):
    """The model raised an exception; the engine must not try the example again."""


@attrs.frozen
class Checked:
    """An example whose steps were watched.

    ``violation`` is the first one; ``complete`` is false when the model raised an
    exception at the trace's last command.
    """

    example: Example
    violation: Violation | None
    complete: bool


class CheckedGenerator(Protocol):
    """Something that makes watched examples and hands each to ``sink``."""

    def __call__(self, sink: Callable[[Checked], None], /) -> None:
        """Make examples until there are no more; lets StopRun pass."""


def _generate(
    dialect: Dialect, amount: Amount, on_step: OnStep, on_trace: OnTrace, *, mutant: bool = False
) -> None:
    """Run the machine until ``amount`` is reached, beginning anew where the model breaks.

    The engine stops at the first exception, and the traces after it may be of use. It
    also hands over examples that it cut short and does not count; they are counted here.
    A ``mutant`` may lead to states that the strategies rightly take for impossible and
    stumble over; then too the run begins anew.
    """
    made = 0

    def finished(trace: Trace, outcomes: tuple[Outcome, ...]) -> None:
        nonlocal made
        made += 1
        on_trace(trace, outcomes)
        if made >= amount.examples:
            raise Enough
        if len(outcomes) < len(trace.commands):
            raise _SpecFailed

    machine = machine_for(dialect, on_step=on_step, on_trace=finished)
    beginnings = failures = 0
    while made < amount.examples and failures < _MOST_FAILURES:
        left = min(_IN_A_ROW, amount.examples - made)
        seed = amount.seed + beginnings * _NEXT_SEED
        beginnings += 1
        before = made
        try:
            run(machine, examples=left, steps=amount.steps, seed_number=seed)
        except _SpecFailed:
            failures += 1
            continue
        except Exception:
            if not mutant:
                raise
            failures += 1
            continue
        if made == before:
            return  # nothing left to try


def _nothing(_before: BlockState, _command: Command, _outcome: Outcome) -> None:
    """Watch nothing."""


def examples(dialect: Dialect, amount: Amount, *, mutant: bool = False) -> Generator:
    """Examples to replay, the same ones for the same seed.

    One that the model broke at has fewer expectations than commands. ``mutant`` says
    that the dialect is wrong on purpose.
    """

    def generate(sink: Callable[[Example], None]) -> None:
        def on_trace(trace: Trace, outcomes: tuple[Outcome, ...]) -> None:
            expectations: list[Expectation] = []
            commands = trace.commands
            try:
                expectations.extend(observe(commands, outcomes, dialect))
            except Exception:  # noqa: BLE001  # the model's: found again where it is counted
                commands = commands[: len(expectations) + 1]
            sink(Example(attrs.evolve(trace, commands=commands), tuple(expectations)))

        _generate(dialect, amount, _nothing, on_trace, mutant=mutant)

    return generate


def checked(
    dialect: Dialect, amount: Amount, law: Law, watch: OnStep = _nothing
) -> CheckedGenerator:
    """Examples with the first law that each breaks, the same ones for the same seed.

    ``watch`` sees every step as well.
    """

    def generate(sink: Callable[[Checked], None]) -> None:
        step = 0
        violation: Violation | None = None

        def on_step(before: BlockState, command: Command, outcome: Outcome) -> None:
            nonlocal step, violation
            watch(before, command, outcome)
            if violation is None:
                for name, text in law(before, command, outcome):
                    violation = Violation(step, name, text)
                    break
            step += 1

        def on_trace(trace: Trace, outcomes: tuple[Outcome, ...]) -> None:
            nonlocal step, violation
            found, violation, step = violation, None, 0
            # Nobody looks at the graphs, so they are not worked out.
            expectations = tuple(
                expectation(Observation(o.reply, None, None, o.events), o) for o in outcomes
            )
            complete = len(outcomes) == len(trace.commands)
            sink(Checked(Example(trace, expectations), found, complete))

        _generate(dialect, amount, on_step, on_trace)

    return generate

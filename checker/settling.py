# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a trace waits: after each command, for every job that it set going.

Which job comes to which status is what the model says of the trace as it is. A trace that was
changed, by taking commands out of it, therefore needs other waits than before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from model.release.translation import translated
from model.values.trace import WAIT, name_of, waits

from model import Monitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.release.dialect import Dialect
    from model.values.trace import Command, Trace


def is_wait(command: Command) -> bool:
    """Whether a command waits for a job."""
    return name_of(command) == WAIT


def settled(trace: Trace, dialect: Dialect) -> Trace:
    """The trace in the dialect's words, with just the waits that its other commands need.

    Where the model raises an exception, nothing is waited for from there on.
    """
    monitor = Monitor(dialect)
    for image in trace.images:
        monitor.images.from_spec(image)
    commands: list[Command] = []
    broken = False
    for command in translated(trace, dialect.schema).commands:
        if is_wait(command):
            continue
        commands.append(command)
        if broken:
            continue
        try:
            monitor.execute(command)
        except Exception:  # noqa: BLE001  # whatever it is, it is found where it is looked for
            broken = True
        else:
            assert monitor.outcome is not None, "a command has an outcome"  # noqa: S101  # promised
            commands += waits(monitor.outcome.settling)
    return attrs.evolve(trace, commands=tuple(commands))


def through(commands: Sequence[Command], step: int) -> int:
    """How many commands there are up to and with ``step`` and the waits that belong to it."""
    end = step + 1
    while end < len(commands) and is_wait(commands[end]):
        end += 1
    return end


def cause(commands: Sequence[Command], step: int) -> int:
    """The step whose command set going what ``step`` waits for; ``step`` if that does not wait."""
    while step > 0 and is_wait(commands[step]):
        step -= 1
    return step

# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws on the model itself, and which step of a trace breaks one first.

An exception that escapes the model breaks a law too, the one that it answers everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from model import BlockState, Monitor, Outcome
from model.values.trace import Command

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from model.values.trace import Trace

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

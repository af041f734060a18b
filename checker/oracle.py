# SPDX-License-Identifier: GPL-2.0-or-later
"""The model as the oracle: what it expects of each step of a trace."""

from __future__ import annotations

from checker.judge import Expectation, Oracle
from model import Monitor
from model.dialect import Dialect
from model.trace import Trace


def oracle(dialect: Dialect) -> Oracle:
    """The model in a dialect, as something that can be asked about traces."""

    def ask(trace: Trace) -> tuple[Expectation, ...]:
        return expect(trace, dialect)

    return ask


def expect(trace: Trace, dialect: Dialect) -> tuple[Expectation, ...]:
    """Run the model over a trace."""
    monitor = Monitor(dialect)
    for image in trace.images:
        monitor.images.from_spec(image)
    expectations = []
    for command in trace.commands:
        monitor.execute(command)
        outcome = monitor.outcome
        expectations.append(Expectation(monitor.observe(), outcome.accepted, outcome.refused))
    return tuple(expectations)

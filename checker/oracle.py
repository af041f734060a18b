# SPDX-License-Identifier: GPL-2.0-or-later
"""The model as the oracle: what it expects of each step of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checker.judge import Expectation, Oracle
from model import Monitor, Outcome
from model.trace import Observation, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.dialect import Dialect


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
    outcomes = []
    for command in trace.commands:
        monitor.execute(command)
        assert monitor.outcome is not None, "a command has an outcome"  # noqa: S101  # promised
        outcomes.append(monitor.outcome)
    return tuple(observe(outcomes, dialect))


def observe(outcomes: Iterable[Outcome], dialect: Dialect) -> Iterator[Expectation]:
    """What the two queries of the graph would show after each of a trace's outcomes."""
    monitor = Monitor(dialect)
    last: Observation | None = None
    for outcome in outcomes:
        unchanged = outcome.state is monitor.state
        monitor.state, monitor.outcome = outcome.state, outcome
        if last is not None and unchanged:
            last = Observation(outcome.reply, last.nodes, last.graph, outcome.events)
        else:
            last = monitor.observe()
        yield Expectation(last, outcome.accepted, outcome.refused, outcome.hazards, outcome.ended)

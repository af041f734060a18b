# SPDX-License-Identifier: GPL-2.0-or-later
"""The model as the oracle: what it expects of each step of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from model.values.trace import Observation, Trace, asks_for_users

from checker.judge import Expectation, Oracle
from checker.settling import is_wait
from model import Monitor, Outcome, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from model.release.dialect import Dialect
    from model.values.trace import Command, Json

    from model import BlockState


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
    return tuple(observe(trace.commands, outcomes, dialect))


def observe(
    commands: Sequence[Command], outcomes: Iterable[Outcome], dialect: Dialect
) -> Iterator[Expectation]:
    """What the queries would show after each of a trace's commands, asked when a target is.

    Those are the two of the graph, and where the trace makes any, those of jobs and exports. After
    a command that is followed by waiting for what it set going, nothing is asked.
    """
    monitor = Monitor(dialect)
    asks = _Asks(*asks_for_users(commands))
    last: Observation | None = None
    for number, outcome in enumerate(outcomes):
        waited = number + 1 < len(commands) and is_wait(commands[number + 1])
        before = monitor.state
        monitor.state, monitor.outcome = outcome.state, outcome
        if waited:
            yield expectation(Observation(outcome.reply, None, None, outcome.events), outcome)
            last = None
            continue
        if last is not None and outcome.state is before:
            last = attrs.evolve(last, reply=outcome.reply, events=outcome.events)
        else:
            last = asks.add(monitor.observe(), outcome.state, dialect)
        yield expectation(last, outcome)


def expectation(observation: Observation, outcome: Outcome) -> Expectation:
    """What is expected of a step, from what it shows and what the model says of it."""
    return Expectation(
        observation,
        outcome.accepted,
        outcome.refused,
        outcome.hazards,
        outcome.unmodelled,
        outcome.ended,
        any(job.status != "concluded" for job in outcome.state.jobs.values()),
    )


@attrs.frozen
class _Asks:
    """Which users of the graph are asked for."""

    jobs: bool
    exports: bool

    def add(self, observation: Observation, state: BlockState, dialect: Dialect) -> Observation:
        """The observation with the answers."""
        if not self.jobs and not self.exports:
            return observation
        return attrs.evolve(
            observation,
            jobs=_ask("query-block-jobs", state, dialect) if self.jobs else None,
            exports=_ask("query-block-exports", state, dialect) if self.exports else None,
        )


def _ask(query: str, state: BlockState, dialect: Dialect) -> list[dict[str, Json]]:
    answer: list[dict[str, Json]] = step(state, {"execute": query}, dialect).reply["return"]
    return answer

# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparing whole traces: step by step, and the events of each job and export by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.compare.observations import ABSENT, Mismatch, Renaming, compare_step, compare_values
from model.values.trace import RATE_LIMITED, Json, Observation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BACK = {"running": "paused", "ready": "standby"}

Event = dict[str, Json]


def _data(event: Event) -> dict[str, Json]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _subject(event: Event) -> str:
    """What an event is about: the name of a job or an export, otherwise just the kind of event."""
    data = _data(event)
    return str(data.get("device") or data.get("id") or event.get("event"))


def _status(event: Event) -> str | None:
    status = _data(event).get("status") if event.get("event") == "JOB_STATUS_CHANGE" else None
    return status if isinstance(status, str) else None


def _node(event: Event) -> object:
    data = _data(event)
    return data.get("node-name", data.get("reference"))


def _told(events: Sequence[Event], number: int) -> object:
    """One of the events in words, without what it is about."""
    if number >= len(events):
        return ABSENT
    event = events[number]
    data = _data(event)
    words = [f"{key}={data[key]}" for key in sorted(data) if key not in {"id", "device"}]
    return " ".join([str(event.get("event")), *words])


class Events:
    """The events of both sides so far, those of each job and export by themselves."""

    def __init__(self) -> None:
        self._expected: dict[str, list[Event]] = {}
        self._got: dict[str, list[Event]] = {}
        self._new: dict[str, None] = {}

    def take(self, expected: Iterable[Event], got: Iterable[Event]) -> None:
        """Add the events of a step."""
        for events, side in ((expected, self._expected), (got, self._got)):
            for event in events:
                subject = _subject(event)
                self._new[subject] = None
                told = side.setdefault(subject, [])
                back = _BACK.get(_status(event) or "")
                if subject in RATE_LIMITED and any(_node(event) == _node(each) for each in told):
                    continue
                if back is not None and told and _status(told[-1]) == back:
                    told.pop()
                else:
                    told.append(event)

    def compare(self, names: Renaming) -> Mismatch | None:
        """The first difference, now that both sides are at rest."""
        for subject in self._new:
            left, right = self._expected.get(subject, []), self._got.get(subject, [])
            pairs = zip(left, right, strict=False)
            equal = [compare_values(e, g, "", names) is None for e, g in pairs]
            if not all(equal) or len(left) != len(right):
                number = equal.index(False) if False in equal else len(equal)
                return Mismatch(f"events[{subject}]", _told(left, number), _told(right, number))
        self._new.clear()
        return None


def without_repeated(
    expected: Observation, got: Observation, before: tuple[Observation, Observation] | None
) -> tuple[Observation, Observation]:
    """Leave out the nodes and the graph where they are the very ones that were equal before.

    Most refused commands change nothing, and both sides then hand out the same objects again.
    """
    if before is None:
        return expected, got
    nodes = expected.nodes is before[0].nodes and got.nodes is before[1].nodes
    graph = expected.graph is before[0].graph and got.graph is before[1].graph
    if not nodes and not graph:
        return expected, got
    left = Observation(
        expected.reply,
        None if nodes else expected.nodes,
        None if graph else expected.graph,
        expected.events,
        expected.jobs,
        expected.exports,
    )
    return left, got


@attrs.frozen
class StepMismatch:
    """The first difference of a whole trace; ``step`` counts from 0."""

    step: int
    path: str
    expected: object
    got: object


def compare_trace(
    expected: Sequence[Observation], got: Sequence[Observation]
) -> StepMismatch | None:
    """The first difference along the steps that both sides have, or None.

    Events are compared wherever the target was observed, and at the end: a step that was not is
    in the midst of something. A target that died has fewer steps; that is reported by the replay,
    not here.
    """
    names = Renaming()
    events = Events()
    before: tuple[Observation, Observation] | None = None
    last = min(len(expected), len(got)) - 1
    for number, (left, right) in enumerate(zip(expected, got, strict=False)):
        found = compare_step(*without_repeated(left, right, before), names)
        if left.events or right.events:
            events.take(left.events, right.events)
        if found is None and (right.nodes is not None or number == last):
            found = events.compare(names)
        before = (left, right)
        if found is not None:
            return StepMismatch(number, found.path, found.expected, found.got)
    return None

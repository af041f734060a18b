# SPDX-License-Identifier: GPL-2.0-or-later
"""In what two subjects differ on one trace.

The first difference does not always end a comparison. Where both refuse in other words, they are
still in agreement; and a member that only one of them shows (a newer release shows more) is a
difference once, and is left out from then on. Everything else sends them different ways.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from checker.compare.observations import ABSENT, Mismatch, Renaming, compare_step
from checker.compare.signature import of_divergence, told_command
from checker.compare.traces import Events, StepMismatch, without_repeated
from checker.compare.verdict import answer
from model.release.rules import all_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checker.compare.oracle import Answer
    from model.values.trace import Json, Observation, Trace

_INDEX = re.compile(r"\[[^\]]*\]")
_SHOWN = frozenset({"nodes", "jobs", "exports"})
_REPLY = "reply.return"
_NESTED = "backing-image"
_MOST_RULES = 3
"""Rules that are named beside "accepted"."""


class Way(Enum):
    """In which way two subjects differ at a step."""

    ONLY_FIRST = "{first} accepts, {second} refuses"
    ONLY_SECOND = "{second} accepts, {first} refuses"
    DEFECT = "one has a defect there, the other goes on"
    BOTH = "both, differently"

    def told(self, first: str, second: str) -> str:
        """The way with the names of the subjects."""
        return self.value.format(first=first, second=second)


@attrs.frozen
class Distinction:
    """A plain trace at whose last command two subjects differ, and how.

    ``rules`` are what decided for either: rules that refused, or ``accepted``, with the rules that
    had a say for one only. ``views`` are members that only one shows, which were left out.
    ``occurrences`` counts the traces that differed in the same way.
    """

    way: Way
    signature: str
    title: str
    trace: Trace
    mismatch: StepMismatch
    rules: tuple[str, str]
    views: frozenset[View] = frozenset()
    occurrences: int = 1

    @property
    def length(self) -> int:
        """How many commands it takes."""
        return len(self.trace.commands)

    @property
    def size(self) -> tuple[int, int]:
        """What makes it shorter than another."""
        return self.length, len(repr(self.trace))


@attrs.frozen
class View:
    """A member of what a query shows that only one of the subjects has: where, and its keys.

    What lies below ``backing-image`` is like what it lies in.
    """

    part: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.part, *self.keys))


def differences(
    trace: Trace, first: Sequence[Answer], second: Sequence[Answer], *, seen: bool = False
) -> Iterator[Distinction]:
    """In what two subjects differ on a plain trace, step by step, until they go different ways.

    What follows a defect that both of them have is no difference: neither says what comes then. A
    defect that one of the models knows and the other does not is one, unless it has to be ``seen``.
    Where one of them leaves the spec, they are compared no further.
    """
    beside = Beside()
    rules = {rule.id: rule.text for rule in all_rules()}
    for number, (a, b) in enumerate(zip(first, second, strict=False)):
        if a.unmodelled or b.unmodelled:
            return
        if a.hazards or b.hazards:
            if a.hazards != b.hazards and not seen:
                yield _defect(trace, number, a, b)
            return
        if a.death or b.death:
            if a.death != b.death:
                yield _defect(trace, number, a, b)
            return
        views = frozenset(beside.views)
        found, apart = beside.step(a.observation, b.observation)
        for each in found:
            place = StepMismatch(number, each.path, each.expected, each.got)
            yield _distinction(trace, place, a, b, rules, views)
        if apart:
            return


def _defect(trace: Trace, step: int, a: Answer, b: Answer) -> Distinction:
    command = told_command(trace, step)
    first, second = (
        "+".join(sorted(subject.hazards)) or subject.death or "goes on" for subject in (a, b)
    )
    return Distinction(
        Way.DEFECT,
        f"{command} | defect | {first} | {second}",
        f"{command}: {first} | {second}",
        _until(trace, step),
        StepMismatch(step, "process", first, second),
        (first, second),
    )


def _distinction(
    trace: Trace,
    place: StepMismatch,
    a: Answer,
    b: Answer,
    rules: dict[str, str],
    views: frozenset[View],
) -> Distinction:
    ok = "return" in a.observation.reply, "return" in b.observation.reply
    way = {(True, False): Way.ONLY_FIRST, (False, True): Way.ONLY_SECOND}.get(ok, Way.BOTH)
    # Sequences that the same rules decide are one and the same, whatever they are about. A rule
    # whose text is that of something else (the schema) decides too many things for that.
    told = of_divergence(trace, place, a.rule, a.observation, b.observation)
    command = told_command(trace, place.step)
    worded = a.rule == b.rule and rules.get(a.rule, "{text}") != "{text}" and _in_words(place)
    signature = f"{command} | {a.rule} | {b.rule}"
    view = _view(place.path, place.expected, place.got)
    if view is not None:
        signature = f"shown | {view} | {'second' if place.expected is ABSENT else 'first'}"
    elif a.rule == b.rule and not worded:
        signature = told
    return Distinction(
        way,
        signature,
        f"{command}: {place.path}: {answer(place.expected)} | {answer(place.got)}",
        _until(trace, place.step),
        place,
        (_decided(a, b), _decided(b, a)),
        views,
    )


def _in_words(place: StepMismatch) -> bool:
    return place.path.startswith("reply.error")


def _decided(own: Answer, other: Answer) -> str:
    """What decided for one subject; where both accept, which rules had a say for this one only."""
    if own.rule != other.rule:
        return own.rule
    more = sorted(own.accepted - other.accepted)
    if not more or len(more) > _MOST_RULES:
        return own.rule
    return f"{own.rule} ({', '.join(more)})"


def _until(trace: Trace, step: int) -> Trace:
    return attrs.evolve(trace, commands=trace.commands[: step + 1])


class Beside:
    """Two subjects on one trace, side by side. ``views`` are what only one of them shows."""

    def __init__(self) -> None:
        self.views: set[View] = set()
        self._names = Renaming()
        self._events = Events()
        self._before: tuple[Observation, Observation] | None = None

    def step(self, first: Observation, second: Observation) -> tuple[list[Mismatch], bool]:
        """How they differ at the next step, and whether they go different ways from there."""
        left, right = without_repeated(first, second, self._before)
        self._before = (first, second)
        self._events.take(first.events, second.events)
        new: list[Mismatch] = []
        for known in self.views:
            left, right = without(left, known), without(right, known)
        while True:
            found = compare_step(left, right, self._names)
            if found is None and second.nodes is not None:
                found = self._events.compare(self._names)
            if found is None:
                self.views.update(filter(None, (_view(m.path, m.expected, m.got) for m in new)))
                return new, False
            view = _view(found.path, found.expected, found.got)
            if view is None:
                # One of them has more to show because it has done something else.
                return [found], not found.path.startswith("reply.error")
            new.append(found)
            left, right = without(left, view), without(right, view)


def _view(path: str, expected: object, got: object) -> View | None:
    """The member that only one of the subjects shows, if the difference is one."""
    if expected is not ABSENT and got is not ABSENT:
        return None
    in_reply = path.startswith(_REPLY)
    parts = _INDEX.sub("", path).removeprefix(_REPLY).lstrip(": ").split(".")
    part, *keys = (each for each in parts if each != _NESTED)
    if in_reply and part not in _SHOWN:
        part = _REPLY
    return View(part, tuple(keys)) if keys and (in_reply or part in _SHOWN) else None


def without(observation: Observation, view: View) -> Observation:
    """What is shown but for one member, also where a command asked for it."""
    changes: dict[str, Json] = {}
    asked = observation.reply.get("return")
    if isinstance(asked, list):
        changes["reply"] = {**observation.reply, "return": _dropped(asked, view.keys)}
    shown = getattr(observation, view.part, None)
    if shown:
        changes[view.part] = _dropped(shown, view.keys)
    return attrs.evolve(observation, **changes) if changes else observation


def _dropped(value: Json, keys: tuple[str, ...]) -> Json:
    if isinstance(value, list):
        return [_dropped(each, keys) for each in value]
    if not isinstance(value, dict):
        return value
    key, *rest = keys
    changed = dict(value)
    if key in value and rest:
        changed[key] = _dropped(value[key], tuple(rest))
    else:
        changed.pop(key, None)
    if _NESTED in value:
        changed[_NESTED] = _dropped(value[_NESTED], keys)
    return changed

# SPDX-License-Identifier: GPL-2.0-or-later
"""Every sequence of a small scope, breadth first, on two dialects side by side.

What is found first is shortest in the scope, and where nothing is found the dialects agree there.
Pairs of states that were met before are not gone on from. While both models are in the same state,
a command whose decisions ask for no rule that only one of them has is carried out once: the
other would do the very same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs
from model.release.translation import spoken
from model.values.trace import Observation, Trace

from checker.compare import StepMismatch
from checker.differing import Beside
from checker.interrupts import listening
from checker.signature import of_divergence
from model import Monitor, step
from strategies.alphabet import images, letters, names_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.release.dialect import Dialect
    from model.values.trace import Command, Json

    from model import BlockState, Outcome

    Differs = Callable[[Trace], None]

_QUERIES: tuple[Command, ...] = (
    {"execute": "query-named-block-nodes", "arguments": {"flat": True}},
    {"execute": "x-debug-query-block-graph"},
)
_JOBS: Command = {"execute": "query-block-jobs"}


@attrs.frozen
class Scope:
    """How many images there are, and how many commands a sequence has at most."""

    images: int
    depth: int

    def __str__(self) -> str:
        return f"{self.images} images, {self.depth} commands"


@attrs.define
class Explored:
    """How far a search has come.

    All sequences of up to ``complete`` commands were tried. ``states`` counts the pairs of states
    that were met, ``transitions`` the commands that were tried in them. ``exhausted`` says that no
    longer sequence leads to another state. ``broken`` counts the commands that the spec broke at,
    as it may where a dialect was made to lack a rule, and ``outside`` those that left the spec, on
    one side or on both: they are not compared.
    """

    scope: Scope
    complete: int = 0
    states: int = 1
    transitions: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    broken: int = 0
    outside: int = 0
    interrupted: bool = False

    @property
    def whole(self) -> bool:
        """Whether all of the scope was tried."""
        return not self.broken and (self.exhausted or self.complete == self.scope.depth)

    def shows_shortest(self, length: int) -> bool:
        """Whether all sequences that are shorter than that were tried."""
        return not self.broken and (self.exhausted or self.complete >= length - 1)

    def as_json(self) -> dict[str, Json]:
        """The search for machines."""
        return {
            "images": self.scope.images,
            "depth": self.scope.depth,
            "complete": self.complete,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 3),
            "exhausted": self.exhausted,
            "broken": self.broken,
            "outside": self.outside,
        }


class _Noted(frozenset[str]):
    """The rules that a dialect lacks, and which of them were asked for."""

    asked: set[str]

    def __contains__(self, rule: object) -> bool:
        if super().__contains__(rule):
            self.asked.add(str(rule))
            return True
        return False


@attrs.frozen
class _Pair:
    """The states of both models, and the commands that led there (newest first)."""

    first: BlockState
    second: BlockState
    path: tuple[Command, Any] | None

    def commands(self) -> tuple[Command, ...]:
        found: list[Command] = []
        path = self.path
        while path is not None:
            command, path = path
            found.append(command)
        return tuple(reversed(found))


class Exploration:
    """Tries every sequence of a scope on two dialects.

    ``differs`` is told of each kind of sequence at whose last command they differ, as soon as it is
    met: no shorter one does.
    """

    def __init__(self, first: Dialect, second: Dialect, scope: Scope, differs: Differs) -> None:
        self._noted = _Noted(first.absent)
        self._noted.asked = set()
        self._first = attrs.evolve(first, absent=self._noted)
        self._second = second
        self._telling = _telling(first, second)
        self._alike = first.schema is second.schema or (
            first.schema_name == second.schema_name and first.nullable == second.nullable
        )
        self._names_streams = names_streams(first.schema) and names_streams(second.schema)
        self._differs = differs
        self._images = images(scope.images)
        self.explored = Explored(scope)
        self._told: set[str] = set()

    def run(self, end: float, progress: Callable[[Explored], None] | None = None) -> Explored:
        """Search all of the scope, but not after ``end`` (of the monotonic clock).

        ``progress`` is told after each depth.
        """
        begin = time.monotonic()
        complete = 0
        with listening() as interrupts:
            try:
                for _ in self._layers():
                    interrupts.check()
                    self.explored.seconds = time.monotonic() - begin
                    if progress is not None and self.explored.complete > complete:
                        complete = self.explored.complete
                        progress(self.explored)
                    if time.monotonic() > end:
                        break
            except KeyboardInterrupt:
                self.explored.interrupted = True
        self.explored.seconds = time.monotonic() - begin
        return self.explored

    def _layers(self) -> Iterator[None]:
        """One layer after the other, with a pause after the commands of each pair."""
        start = self._start()
        seen: set[object] = {start.first}
        layer = [start]
        explored = self.explored
        for depth in range(1, explored.scope.depth + 1):
            following: list[_Pair] = []
            for pair in layer:
                tried = letters(
                    pair.first, start.first, explored.scope.images, named=self._names_streams
                )
                for letter in tried:
                    command = spoken(letter, self._first.schema)
                    explored.transitions += 1
                    try:
                        reached = self._step(pair, command, seen)
                    except Exception:  # noqa: BLE001  # the model's
                        explored.broken += 1
                        continue
                    if reached is not None:
                        following.append(reached)
                yield
            explored.complete = depth
            explored.exhausted = not following
            yield
            if not following:
                return
            layer = following

    def _start(self) -> _Pair:
        found = []
        for dialect in (self._first, self._second):
            monitor = Monitor(dialect)
            for image in self._images:
                monitor.images.from_spec(image)
            found.append(monitor.state)
        first, second = found
        return _Pair(first, first if first == second else second, None)

    def _step(self, pair: _Pair, command: Command, seen: set[object]) -> _Pair | None:
        """Carry out a command on both sides; the new pair, if it is one to go on from."""
        self._noted.asked.clear()
        a = b = step(pair.first, command, self._first)
        if pair.first is not pair.second or not self._alike or self._asks(a):
            b = step(pair.second, spoken(command, self._second.schema), self._second)
        if a.unmodelled or b.unmodelled:
            self.explored.outside += 1
            return None
        if a is not b:
            if a.hazards != b.hazards or a.ended != b.ended:
                self._tell(pair, command, f"{command['execute']} {a.hazards} {b.hazards}")
                return None
            told_apart = a.reply != b.reply or a.events != b.events
            if told_apart and self._part(pair, command, a, b):
                return None
        if a.hazards or a.ended or (a.state is pair.first and b.state is pair.second):
            return None
        first = a.state
        second = first if a is b or b.state == first else b.state
        key = first if second is first else (first, second)
        if key in seen:
            return None
        seen.add(key)
        self.explored.states += 1
        if self._show_other(first, second) and self._part(pair, command, a, b):
            return None
        return _Pair(first, second, (command, pair.path))

    def _asks(self, outcome: Outcome) -> bool:
        """Whether a rule had a say that only one of the dialects has, or words otherwise."""
        telling = self._telling
        return not (
            telling.isdisjoint(outcome.accepted)
            and telling.isdisjoint(outcome.refused)
            and telling.isdisjoint(outcome.hazards)
            and telling.isdisjoint(self._noted.asked)
        )

    def _show_other(self, first: BlockState, second: BlockState) -> bool:
        """Whether the queries show different things of two states."""
        for query in (*_QUERIES, _JOBS) if first.jobs or second.jobs else _QUERIES:
            self._noted.asked.clear()
            a = step(first, query, self._first)
            if second is first and self._alike and not self._asks(a):
                continue
            if a.reply != step(second, query, self._second).reply:
                return True
        return False

    def _part(self, pair: _Pair, command: Command, a: Outcome, b: Outcome) -> bool:
        """Tell of the differences in what both show; whether they go different ways from here."""
        shown = _observed(a, self._first), _observed(b, self._second)
        found, apart = Beside().step(*shown)
        last = Trace((), (command,))
        rule = "+".join(sorted(a.refused)), "+".join(sorted(b.refused))
        for each in found:
            place = StepMismatch(0, each.path, each.expected, each.got)
            told = of_divergence(last, place, str(rule), *shown)
            by_rule = all(rule) and rule[0] != rule[1]
            self._tell(pair, command, f"{command['execute']} {rule}" if by_rule else told)
        return apart

    def _tell(self, pair: _Pair, command: Command, kind: str) -> None:
        """Tell of a difference, once for each kind."""
        if kind not in self._told:
            self._told.add(kind)
            self._differs(Trace(self._images, (*pair.commands(), command)))


def _observed(outcome: Outcome, dialect: Dialect) -> Observation:
    answers = [step(outcome.state, query, dialect).reply["return"] for query in (*_QUERIES, _JOBS)]
    nodes, graph, jobs = answers
    return Observation(outcome.reply, nodes, graph, outcome.events, jobs)


def _telling(first: Dialect, second: Dialect) -> frozenset[str]:
    """The rules that one of the dialects lacks, or that they word differently."""
    texts = {
        rule
        for rule in first.texts.keys() | second.texts.keys()
        if first.texts.get(rule) != second.texts.get(rule)
    }
    return (first.absent ^ second.absent) | texts

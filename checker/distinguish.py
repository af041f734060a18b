# SPDX-License-Identifier: GPL-2.0-or-later
"""What tells two dialects apart: short sequences after which they say different things.

Both sides are models, so that nothing is run twice and nothing can wobble. Traces are written for
one dialect and for the other in turn: what only one of them accepts is found where that is tried.
"""

from __future__ import annotations

import contextlib
import time
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from checker.compare import StepMismatch, compare_trace
from checker.diff import StopRun
from checker.interrupts import listening
from checker.judge import answer, as_json
from checker.oracle import oracle
from checker.reduce import reduce_trace
from checker.settling import is_wait, settled, through
from checker.signature import of_divergence, told_command
from reports.values import Difference, Finding, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checker.diff import Generator
    from checker.judge import Example, Expectation
    from model.dialect import Dialect
    from model.trace import Trace

MOST_TRIALS = 400
"""Candidates that the reduction of one sequence may ask both sides about."""


class Way(Enum):
    """In which way two sides differ at a step."""

    ONLY_FIRST = "{first} accepts, {second} refuses"
    ONLY_SECOND = "{second} accepts, {first} refuses"
    DEFECT = "one has a defect there, the other goes on"
    BOTH = "both, differently"

    def told(self, first: str, second: str) -> str:
        """The way with the names of the sides."""
        return self.value.format(first=first, second=second)


@attrs.frozen
class Distinction:
    """A trace at whose last command two sides differ, and how.

    ``rules`` are what decided on either side: rules that refused, or ``accepted``.
    ``occurrences`` counts the traces that differed in the same way.
    """

    way: Way
    signature: str
    title: str
    trace: Trace
    first: tuple[Expectation, ...]
    second: tuple[Expectation, ...]
    mismatch: StepMismatch
    rules: tuple[str, str]
    occurrences: int = 1

    @property
    def length(self) -> int:
        """How many commands it takes, waits aside."""
        return sum(not is_wait(command) for command in self.trace.commands)

    def as_finding(self, first: str, second: str, seed: int) -> Finding:
        """The finding that can be written as a case: the first side expects, the second answers."""
        steps = zip(self.trace.commands, self.first, self.second, strict=True)
        place = self.mismatch
        return Finding(
            "divergence",
            self.signature,
            self.title,
            self.trace.images,
            tuple(Step(c, a.observation, b.observation) for c, a, b in steps),
            Difference(place.step, place.path, as_json(place.expected), as_json(place.got)),
            release=second,
            dialect=first,
            seed=seed,
            occurrences=self.occurrences,
        )


@attrs.frozen
class Comparison:
    """What a search found: the distinctions, shortest first within each way."""

    first: str
    second: str
    seed: int
    examples: int
    seconds: float
    distinctions: tuple[Distinction, ...]
    interrupted: bool = False

    def rows(self) -> Iterator[tuple[Way, tuple[Distinction, ...]]]:
        """The ways in which the two differ, with what was found of each."""
        for way in Way:
            found = tuple(each for each in self.distinctions if each.way is way)
            if found:
                yield way, found


def distinction(
    trace: Trace, first: tuple[Expectation, ...], second: tuple[Expectation, ...]
) -> Distinction | None:
    """How two sides differ on a trace at first, None if they do not.

    What follows a defect that both of them have is no difference: neither says what comes then.
    """
    mismatch = compare_trace([e.observation for e in first], [e.observation for e in second])
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        if mismatch is not None and mismatch.step < number:
            break
        if a.hazards != b.hazards:
            return _defect(trace, number, first, second)
        if a.hazards:
            return None
    if mismatch is None:
        return None
    step = mismatch.step
    a, b = first[step], second[step]
    ok = "return" in a.observation.reply, "return" in b.observation.reply
    way = {(True, False): Way.ONLY_FIRST, (False, True): Way.ONLY_SECOND}.get(ok, Way.BOTH)
    # Sequences that the same rules decide are one and the same, whatever they are about.
    told = of_divergence(trace, mismatch, a.rule, a.observation, b.observation)
    command = told_command(trace, step)
    signature = told if a.rule == b.rule else f"{command} | {a.rule} | {b.rule}"
    return _cut(
        Distinction(
            way,
            signature,
            f"{command}: {mismatch.path}: {answer(mismatch.expected)} | {answer(mismatch.got)}",
            trace,
            first,
            second,
            mismatch,
            (a.rule, b.rule),
        )
    )


def _defect(
    trace: Trace, step: int, first: tuple[Expectation, ...], second: tuple[Expectation, ...]
) -> Distinction:
    sides = tuple("+".join(sorted(side[step].hazards)) or "goes on" for side in (first, second))
    command = told_command(trace, step)
    return _cut(
        Distinction(
            Way.DEFECT,
            f"{command} | defect | {sides[0]} | {sides[1]}",
            f"{command}: {sides[0]} | {sides[1]}",
            trace,
            first,
            second,
            StepMismatch(step, "process", *sides),
            (sides[0], sides[1]),
        )
    )


def _cut(found: Distinction) -> Distinction:
    """The same without what comes after the step that shows it."""
    end = through(found.trace.commands, found.mismatch.step)
    commands = found.trace.commands[:end]
    return attrs.evolve(
        found,
        trace=attrs.evolve(found.trace, commands=commands),
        first=found.first[:end],
        second=found.second[:end],
    )


class Search:
    """Takes traces, keeps the shortest that was found for each way of being different."""

    def __init__(
        self, first: Dialect, second: Dialect, keep: Callable[[Distinction], None]
    ) -> None:
        self._first = first
        self._keep = keep
        self._oracles = oracle(first), oracle(second)
        self._found: dict[str, Distinction] = {}
        self.examples = 0

    def take(self, example: Example, end: float) -> None:
        """Look at one trace; what it shows for the first time is reduced, until ``end``."""
        self.examples += 1
        found = self._ask(example.trace)
        if found is None:
            return
        known = self._found.get(found.signature)
        if known is None:
            found = self._reduced(found, end)
            known = self._found.get(found.signature)
        if known is not None:
            found = attrs.evolve(min(known, found, key=_size), occurrences=known.occurrences + 1)
        self._found[found.signature] = found
        if known is None:
            self._keep(found)

    def distinctions(self) -> tuple[Distinction, ...]:
        """What was found, shortest first."""
        return tuple(sorted(self._found.values(), key=_size))

    def _ask(self, trace: Trace) -> Distinction | None:
        one, other = self._oracles
        return distinction(trace, one(trace), other(trace))

    def _reduced(self, found: Distinction, end: float) -> Distinction:
        best = found

        def same(candidate: Trace) -> bool:
            nonlocal best
            seen = self._ask(candidate)
            if seen is None or seen.signature != found.signature:
                return False
            best = seen
            return True

        reduce_trace(
            found.trace,
            same,
            MOST_TRIALS,
            lambda: time.monotonic() > end,
            lambda changed: settled(changed, self._first),
        )
        return best


def _size(found: Distinction) -> tuple[int, int]:
    return found.length, len(repr(found.trace))


def run_compare(
    first: Dialect,
    second: Dialect,
    generators: Iterator[Generator],
    *,
    seed: int,
    budget: float,
    keep: Callable[[Distinction], None] = lambda _: None,
) -> Comparison:
    """Search for ``budget`` seconds at most, or until there are no more ``generators``.

    ``keep`` is told of each distinction as soon as it is reduced. An interrupt (Ctrl-C) ends the
    search early with what was found so far.
    """
    begin = time.monotonic()
    end = begin + budget
    search = Search(first, second, keep)
    interrupted = False

    def sink(example: Example) -> None:
        interrupts.check()
        search.take(example, end)
        if time.monotonic() > end:
            raise StopRun

    with listening() as interrupts:
        try:
            with contextlib.suppress(StopRun):
                for generate in generators:
                    generate(sink)
        except KeyboardInterrupt:
            interrupted = True
    return Comparison(
        first.name,
        second.name,
        seed,
        search.examples,
        time.monotonic() - begin,
        search.distinctions(),
        interrupted,
    )

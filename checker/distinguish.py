# SPDX-License-Identifier: GPL-2.0-or-later
"""What tells two parties apart: short sequences after which they say different things.

A small scope is searched without leaving anything out where both are models, which shows that
nothing shorter is to be found there. Then traces are written for the dialect of one and of the
other in turn: what only one of them accepts is found where that is tried.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from checker.diff import REDUCE_SECONDS, StopRun
from checker.differing import Distinction, Way, differences, without
from checker.ending import Ended, noting
from checker.exhaustive import Exploration, Explored, Scope
from checker.interrupts import deferred, listening
from checker.judge import as_json
from checker.parties import plain, written_for
from checker.reduce import reduce_trace
from checker.settling import through
from checker.verdicts import DisturbedError, seen_again
from reports.values import Difference, Finding, Step
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.values.trace import Observation, Trace

    from checker.diff import Generator
    from checker.judge import Example
    from checker.parties import Party

MOST_TRIALS = 400
"""Candidates that the reduction of one sequence may ask both sides about."""
SMALL = Scope(images=2, depth=3)
"""What is searched without leaving anything out before anything else is tried."""
_LEAST_SECONDS = 2.0
"""What a reduction gets even when the search's own time is over."""


@attrs.frozen
class Comparison:
    """What a search found: the distinctions, shortest first within each way.

    ``explored`` says what was tried without leaving anything out, if anything was, and ``wobbles``
    counts the differences that a new process did not show again. ``outside`` counts the traces that
    left the spec of one of them, and ``disturbed`` those that could not be judged. ``trouble`` says
    in one line what ended the search early, if anything did.
    """

    first: str
    second: str
    seed: int
    examples: int
    seconds: float
    distinctions: tuple[Distinction, ...]
    explored: Explored | None = None
    wobbles: int = 0
    outside: int = 0
    disturbed: int = 0
    interrupted: bool = False
    trouble: str = ""

    def rows(self) -> Iterator[tuple[Way, tuple[Distinction, ...]]]:
        """The ways in which the two differ, with what was found of each."""
        for way in Way:
            found = tuple(each for each in self.distinctions if each.way is way)
            if found:
                yield way, found

    def left_out(self) -> Iterator[str]:
        """In words, a line each, of what no row tells."""
        if self.wobbles:
            yield f"{self.wobbles} differences were not shown again by new processes"
        if self.outside:
            yield f"{self.outside} sequences left the spec, and were compared up to there"
        if self.disturbed:
            yield f"{self.disturbed} sequences were not judged: a daemon was disturbed each time"

    def shown_shortest(self, found: Distinction) -> bool:
        """Whether all shorter sequences of the scope were tried: none of them shows the same."""
        return self.explored is not None and self.explored.shows_shortest(found.length)


def as_finding(found: Distinction, first: Party, second: Party, seed: int) -> Finding:
    """What can be written as a case: the first party expects, the second answers."""
    trace = written_for(found.trace, first.dialect)
    last = len(found.trace.commands) - 1
    place = found.mismatch
    answered = place.path == "process" or place.path.startswith("reply")
    step = _start(trace, last) if answered else len(trace.commands) - 1
    sides = tuple(
        [_only(each, found, last=n >= step) for n, each in enumerate(party.observe(trace))]
        for party in (first, second)
    )
    steps = tuple(
        Step(command, *(side[n] if n < len(side) else None for side in sides))
        for n, command in enumerate(trace.commands)
    )
    return Finding(
        "divergence",
        found.signature,
        found.title,
        trace.images,
        steps,
        Difference(step, place.path, as_json(place.expected), as_json(place.got)),
        release=second.name,
        dialect=first.dialect.name,
        seed=seed,
        occurrences=found.occurrences,
    )


def _start(written: Trace, number: int) -> int:
    """The step of a plain trace's command in the same trace with its waits."""
    step = 0
    for _ in range(number):
        step = through(written.commands, step)
    return step


def _only(shown: Observation, found: Distinction, *, last: bool) -> Observation:
    """What a case compares: where one of the two always shows more, nothing that has it."""
    parts = {view.part for view in found.views} & {"nodes", "jobs", "exports"}
    if last:
        for view in found.views:
            shown = without(shown, view)
        parts = {part for part in parts if not found.mismatch.path.startswith(part)}
    nothing: dict[str, Any] = dict.fromkeys(parts)
    return attrs.evolve(shown, **nothing) if parts else shown


@attrs.frozen
class Shown:
    """In what two parties differ on a trace, and whether it ``left`` the spec of one of them."""

    distinctions: tuple[Distinction, ...] = ()
    left: bool = False


class Search:
    """Takes traces, keeps the shortest that was found for each way of being different."""

    def __init__(self, first: Party, second: Party, keep: Callable[[Distinction], None]) -> None:
        self._parties = first, second
        self._keep = keep
        self._seen = first.real and second.real
        self._real = first.real or second.real
        self._found: dict[str, Distinction] = {}
        self.examples = 0
        self.wobbles = self.outside = self.disturbed = 0

    def take(self, trace: Trace, end: float) -> None:
        """Look at one trace; what it shows for the first time is reduced, until ``end``."""
        self.examples += 1
        self._look(plain(trace, *(party.dialect for party in self._parties)), end)

    def take_last(self, trace: Trace, end: float) -> None:
        """Look at what a plain trace shows at its last command."""
        self._look(trace, end, last=True)

    def _look(self, trace: Trace, end: float, *, last: bool = False) -> None:
        try:
            shown = self._ask(trace)
            self.outside += shown.left
            for found in shown.distinctions:
                if not last or found.length == len(trace.commands):
                    self._offer(found, trace, end)
        except DisturbedError:
            self.disturbed += 1

    def distinctions(self) -> tuple[Distinction, ...]:
        """What was found, shortest first."""
        return tuple(sorted(self._found.values(), key=lambda each: each.size))

    def _offer(self, found: Distinction, trace: Trace, end: float) -> None:
        if self._is_known(found):
            known = self._found[found.signature]
            more = attrs.evolve(known, occurrences=known.occurrences + 1)
            self._found[found.signature] = more
            return
        # A process that somebody ends in mid-trace hides what the rest would show.
        died = found.mismatch.path == "process"
        sure = self._again(found, trace if died else found.trace) if self._real else (found,)
        if not sure:
            self.wobbles += 1
        for each in sure:
            self._keep_small(each, end)

    def _is_known(self, found: Distinction) -> bool:
        """Whether something is known of the same kind that is as short."""
        known = self._found.get(found.signature)
        return known is not None and known.size <= found.size

    def _keep_small(self, found: Distinction, end: float) -> None:
        """Keep what is sure, then make it as short as can be."""
        known = self._found.get(found.signature)
        # At once: what ends the run during the reduction must not lose it.
        self._hold(found, known)
        now = time.monotonic()
        until = max(end, now + _LEAST_SECONDS)
        small = self._reduced(found, min(until, now + REDUCE_SECONDS) if self._real else until)
        if self._real and small is not found:
            shown = self._again(small, small.trace)
            small = small if any(each.signature == small.signature for each in shown) else found
        if small is not found:
            self._hold(small, known)

    def _hold(self, found: Distinction, known: Distinction | None) -> None:
        """Remember the shortest of its kind, and hand it on to be kept."""
        if known is not None:
            found = attrs.evolve(found, occurrences=known.occurrences + 1)
        with deferred():  # an interrupt leaves no distinction without its case
            self._found[found.signature] = found
            self._keep(found)

    def _ask(self, trace: Trace, *, fresh: bool = False) -> Shown:
        one, other = self._parties
        try:
            answers = one.ask(trace, fresh=fresh), other.ask(trace, fresh=fresh)
        except (TargetError, DisturbedError):
            raise
        except Exception:  # noqa: BLE001  # the model breaks at it: that is what check looks for
            return Shown()
        left = any(answer.unmodelled for side in answers for answer in side)
        return Shown(tuple(differences(trace, *answers, seen=self._seen)), left)

    def _again(self, found: Distinction, trace: Trace) -> tuple[Distinction, ...]:
        """What new processes show again: the same, or if not that, what else they show."""

        def again() -> tuple[Distinction, ...]:
            shown = self._ask(trace, fresh=True).distinctions
            same = tuple(each for each in shown if each.signature == found.signature)
            return same or tuple(each for each in shown if not self._is_known(each))

        return seen_again((found,), again, lambda old, new: old.signature == new.signature)

    def _reduced(self, found: Distinction, end: float) -> Distinction:
        best = found

        def same(candidate: Trace) -> bool:
            nonlocal best
            try:
                shown = self._ask(candidate).distinctions
            except DisturbedError:
                return False
            for seen in shown:
                if seen.signature == found.signature:
                    best = seen
                    return True
            return False

        reduce_trace(found.trace, same, MOST_TRIALS, lambda: time.monotonic() > end)
        return best


def run_compare(
    first: Party,
    second: Party,
    generators: Iterator[Generator],
    *,
    seed: int,
    budget: float,
    scope: Scope | None = SMALL,
    keep: Callable[[Distinction], None] = lambda _: None,
    progress: Callable[[Explored], None] | None = None,
) -> Comparison:
    """Search for ``budget`` seconds at most, or until there are no more ``generators``.

    Two models are compared on all of a small ``scope`` before. ``keep`` is told of each distinction
    as soon as it is reduced, and ``progress`` after each depth of the scope. An interrupt (Ctrl-C)
    or an error ends the search early with what was found so far.
    """
    begin = time.monotonic()
    end = begin + budget
    search = Search(first, second, keep)
    ended = Ended()
    explored: Explored | None = None
    failure: Exception | None = None

    def stopping(take: Callable[[Trace, float], None], trace: Trace) -> None:
        nonlocal failure
        try:
            take(trace, end)
        except Exception as error:
            # The engine would take an error for a failing example, the exploration for the spec's.
            failure = error
            raise StopRun from error

    def sink(example: Example) -> None:
        interrupts.check()
        stopping(search.take, example.trace)
        if time.monotonic() > end:
            raise StopRun

    with noting(ended), listening() as interrupts:
        with contextlib.suppress(StopRun):
            if scope is not None and not first.real and not second.real:
                dialects = first.dialect, second.dialect
                exploration = Exploration(*dialects, scope, partial(stopping, search.take_last))
                explored = exploration.explored
                exploration.run(end, progress)
            for generate in generators if explored is None or not explored.interrupted else ():
                generate(sink)
        if failure is not None:
            raise failure
    return Comparison(
        first.name,
        second.name,
        seed,
        search.examples,
        time.monotonic() - begin,
        search.distinctions(),
        explored,
        search.wobbles,
        search.outside + (explored.outside if explored is not None else 0),
        search.disturbed,
        ended.interrupted or (explored is not None and explored.interrupted),
        ended.trouble,
    )

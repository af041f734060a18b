# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job: traces from the model's machine, replayed on a real daemon, compared.

Generation never touches a process: a finished trace goes to a pool of daemons, which
work while the next trace is made, and is compared when its turn comes. A difference
counts only when a fresh process shows it again. A finding is written as a case file
before anything else is done with it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

import attrs

from checker.interrupts import listening
from checker.judge import Example, Oracle, Replayer, Verdict, finding, judge
from checker.laws import ANSWERS, Violation, first_violation, keep_violation, no_law
from checker.reduce import reduce_trace
from checker.settling import settled, through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checker.tally import Tally
    from model.trace import Trace
    from reports.values import Finding, Summary
    from targets.pool import Finished
    from targets.replay import Replay

REDUCE_SECONDS = 20.0
"""The longest that the reduction of one finding takes."""
_LEAST_SECONDS = 1.0
"""What it gets even when the run's own time is over."""


class StopRun(BaseException):
    """Ends generation from inside: nothing more is wanted.

    Not an Exception, which the engine would take for a failing example.
    """


class Generator(Protocol):
    """Something that makes examples and hands each to ``sink``.

    A generator returns when it has made all, and lets :class:`StopRun` pass.
    """

    def __call__(self, sink: Callable[[Example], None], /) -> None:
        """Make examples until there are no more."""


class Submits(Protocol):
    """Something that runs traces while the caller goes on, such as :class:`targets.pool.Pool`."""

    def submit(self, trace: Trace, token: Example) -> tuple[Finished[Example], ...]:
        """Start a trace; return those that were finished meanwhile."""

    def drain(self) -> Iterable[Finished[Example]]:
        """The results of everything that was submitted."""


@attrs.frozen
class Sides:
    """What is compared: the model's answers, those of a pool, and of one daemon of our own.

    ``replay`` runs a trace on a daemon that may have run others, ``confirm`` on a fresh one.
    """

    oracle: Oracle
    pool: Submits
    replay: Replayer
    confirm: Replayer


def _no_excuse(_trace: Trace) -> bool:
    return False


@attrs.frozen
class DiffOptions:
    """How a difference run goes.

    ``reduce_replays`` bounds the reduction of each finding (0: none), ``budget`` is in
    seconds from the start, ``stop_at_first`` ends the run at the first confirmed failure.
    ``judge`` says whether a replay is what was expected, ``excuse`` whether an exception of
    the model on a trace is not this run's business.
    """

    reduce_replays: int = 200
    budget: float | None = None
    stop_at_first: bool = False
    judge: Callable[[Example, Replay], Verdict | None] = judge
    excuse: Callable[[Trace], bool] = _no_excuse


def _same(first: Verdict, second: Verdict) -> bool:
    """Whether a confirmation shows what was seen: the same difference, or a death again."""
    if first.kind == "divergence" or second.kind == "divergence":
        return first.signature == second.signature
    return True


def nothing(_tally: Tally) -> None:
    """Show no progress."""


class _Comparison:
    """Takes what the pool has finished, compares it and keeps what it finds."""

    def __init__(
        self,
        tally: Tally,
        sides: Sides,
        options: DiffOptions,
        progress: Callable[[Tally], None],
    ) -> None:
        self._tally = tally
        self._sides = sides
        self._options = options
        self._progress = progress
        self.done = False
        self.end = None if options.budget is None else time.monotonic() + options.budget

    def take_all(self, results: Iterable[Finished[Example]]) -> None:
        """Compare what has finished; :class:`StopRun` when no more is wanted."""
        for result in results:
            self._take(result.token, result.replay)
            self._progress(self._tally)
            if self.done:
                raise StopRun

    def finish(self, pool: Submits) -> None:
        """Compare what the pool still has; once no more is wanted, only take it out of there."""
        for result in pool.drain():
            if not self.done:
                with contextlib.suppress(StopRun):
                    self.take_all((result,))

    def _take(self, example: Example, replay: Replay) -> None:
        """Compare one example with its replay."""
        self._tally.count(example)
        broke = len(example.expectations) < len(example.trace.commands)
        if broke and not self._options.excuse(example.trace):
            self._spec_failed(example.trace)
            self.done = self._options.stop_at_first
            if self.done:
                return
        verdict = self._options.judge(example, replay)
        if verdict is None:
            return
        if self._seen_before(example, verdict):
            return
        again = self._sides.confirm(example.trace)
        second = self._options.judge(example, again)
        if second is None or not _same(verdict, second):
            self._tally.unconfirmed += 1
            self._tally.notes.append(f"seen once, but not on a fresh process: {verdict.title}")
            return
        # Replies that a dying daemon did not get rid of blur which command it died of;
        # the confirmation goes command by command and knows.
        if second.step != verdict.step and self._seen_before(example, second):
            return
        self._count(second)
        self._tally.keep(self._finding(example, again, second))
        self.done = self._options.stop_at_first
        if self._options.reduce_replays > 0:
            self._reduce(example, second)

    def _seen_before(self, example: Example, verdict: Verdict) -> bool:
        """Count a verdict that is a known issue, or a finding already."""
        issue = example.hazard_before(verdict.step)
        if issue is not None:
            self._tally.count_known(issue)
            return True
        if self._tally.has(verdict.signature):
            self._tally.again(verdict.signature)
            self._count(verdict)
            return True
        return False

    def _spec_failed(self, trace: Trace) -> None:
        """The model raised an exception at the last command: that is a finding as well."""
        violation = first_violation(trace, self._tally.dialect, no_law)
        if violation is None:
            text = "an exception that does not come again"
            violation = Violation(len(trace.commands) - 1, ANSWERS, text)
        keep_violation(self._tally, trace, violation, no_law, self._options.reduce_replays)

    def _count(self, verdict: Verdict) -> None:
        if verdict.kind == "divergence":
            self._tally.divergences += 1
        else:
            self._tally.crashes += 1

    def _finding(self, example: Example, replay: Replay, verdict: Verdict) -> Finding:
        return finding(
            example,
            replay,
            verdict,
            release=self._tally.release,
            dialect=self._tally.dialect.name,
            seed=self._tally.seed,
        )

    def _reduce(self, example: Example, verdict: Verdict) -> None:
        now = time.monotonic()
        end = now + REDUCE_SECONDS
        if self.end is not None:
            end = min(end, max(self.end, now + _LEAST_SECONDS))
        died = verdict.kind != "divergence"
        replay = self._sides.confirm if died else self._sides.replay

        def same(trace: Trace) -> bool:
            try:
                candidate = Example(trace, self._sides.oracle(trace))
            except Exception:  # noqa: BLE001  # the model breaks at it: another finding
                return False
            found = self._options.judge(candidate, replay(trace))
            return (
                found is not None
                and found.signature == verdict.signature
                and candidate.hazard_before(found.step) is None
            )

        commands = example.trace.commands
        start = attrs.evolve(example.trace, commands=commands[: through(commands, verdict.step)])
        reduction = reduce_trace(
            start,
            same,
            self._options.reduce_replays,
            lambda: time.monotonic() > end,
            lambda changed: settled(changed, self._tally.dialect),
        )
        small = Example(reduction.trace, self._sides.oracle(reduction.trace))
        final = self._sides.confirm(small.trace)
        last = self._options.judge(small, final)
        # A reduced trace that a fresh process does not confirm is worth less than the whole one.
        if last is not None and last.signature == verdict.signature:
            note = f"reduced from {len(start.commands)} commands in {reduction.replays} replays"
            self._tally.keep(self._finding(small, final, last), note)


def run_diff(
    tally: Tally,
    generate: Generator,
    sides: Sides,
    options: DiffOptions,
    progress: Callable[[Tally], None] = nothing,
) -> Summary:
    """Generate, replay, compare; the summary tells all.

    An interrupt (Ctrl-C) ends the run early with what was found so far.
    """
    comparison = _Comparison(tally, sides, options, progress)
    failure: Exception | None = None

    def sink(example: Example) -> None:
        nonlocal failure
        interrupts.check()
        try:
            comparison.take_all(sides.pool.submit(example.trace, example))
        except Exception as error:
            # The engine would take an error for a failing example and try it again.
            failure = error
            raise StopRun from error
        if comparison.end is not None and time.monotonic() > comparison.end:
            raise StopRun

    with listening() as interrupts:
        try:
            with contextlib.suppress(StopRun):
                generate(sink)
            if failure is not None:
                raise failure
            comparison.finish(sides.pool)
        except KeyboardInterrupt:
            tally.interrupted = True
    return tally.summary()

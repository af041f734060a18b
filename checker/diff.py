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
from checker.judge import (
    Example,
    Oracle,
    Replayer,
    Verdict,
    finding,
    judge,
    judge_answers,
    left_at,
)
from checker.laws import ANSWERS, Violation, first_violation, keep_violation, no_law
from checker.reduce import reduce_trace
from checker.settling import settled, through
from checker.verdicts import RUNS, DisturbedError, seen_again, undisturbed
from targets.errors import ContainmentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from model.values.trace import Trace

    from checker.tally import Tally
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


@attrs.frozen
class Seen:
    """What one run showed that was not expected."""

    verdict: Verdict
    replay: Replay


def _same(first: Seen, second: Seen) -> bool:
    """Whether two runs show the same: the same difference, or a death again.

    Replies that a dying daemon did not get rid of blur which command it died of, and how.
    """
    deaths = [each.verdict.kind != "divergence" for each in (first, second)]
    return all(deaths) or first.verdict.signature == second.verdict.signature


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
        self._replay, self._confirm = undisturbed(sides.replay), undisturbed(sides.confirm)
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
        if self._breaks(example):
            self.done = self._options.stop_at_first
            if self.done:
                return
        within = example.within()
        self._tally.count(within)
        try:
            if replay.death is not None and replay.death.disturbed:
                replay = self._confirm(within.trace)
            self._tally.outside += left_at(example, replay) is not None
            self._judge(within, replay)
        except DisturbedError as error:
            self._tally.disturbed += 1
            self._tally.notes.append(f"not judged: {error}")

    def _breaks(self, example: Example) -> bool:
        """Whether the model raised an exception at the last command; keeps it as a finding."""
        broke = len(example.expectations) < len(example.trace.commands)
        if not broke or self._options.excuse(example.trace):
            return False
        self._spec_failed(example.trace)
        return True

    def _judge(self, example: Example, replay: Replay) -> None:
        """Keep what a replay shows that was not expected, if a fresh process shows it, too."""
        seen = self._shown(example, replay)
        if not seen and self._cut_short(example, replay):
            # What it would have shown is seen by another run.
            seen = self._shown(example, self._confirm(example.trace))
        new = [each for each in seen if not self._seen_before(example, each)]
        if not new:
            return

        def again() -> tuple[Seen, ...]:
            return self._shown(example, self._confirm(example.trace))

        sure = seen_again(new, again, _same)
        for each in sure:
            # A confirmation goes command by command and may know better which one it was.
            if not self._seen_before(example, each):
                self._keep(example, each)
        if not sure:
            self._tally.unconfirmed += 1
            self._tally.notes.append(
                f"seen once, but not on a fresh process: {new[0].verdict.title}"
            )

    def _cut_short(self, example: Example, replay: Replay) -> bool:
        """Whether a daemon died of what the judge says nothing of, and nobody foresaw."""
        death = replay.death
        if death is None or death.kind != "crash" or example.means(death):
            return False
        return example.hazard_before(death.step) is None

    def _shown(self, example: Example, replay: Replay) -> tuple[Seen, ...]:
        """What a replay shows that was not expected: a death, a difference before it, or either."""
        verdict = self._options.judge(example, replay)
        if verdict is None:
            return ()
        found = [Seen(verdict, replay)]
        if verdict.kind != "divergence":
            before = judge_answers(example, replay)
            if before is not None and example.hazard_before(before.step) is None:
                found.append(Seen(before, replay))
        return tuple(found)

    def _keep(self, example: Example, seen: Seen) -> None:
        """Count what is sure, write it down, and make it smaller."""
        self._count(seen.verdict)
        self._tally.keep(self._finding(example, seen.replay, seen.verdict))
        self.done = self._options.stop_at_first
        if self._options.reduce_replays > 0:
            with contextlib.suppress(DisturbedError):
                self._reduce(example, seen.verdict)

    def _seen_before(self, example: Example, seen: Seen) -> bool:
        """Count what is a known issue, or a finding already."""
        verdict = seen.verdict
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
        commands = example.trace.commands
        start = attrs.evolve(example.trace, commands=commands[: through(commands, verdict.step)])
        reduction = reduce_trace(
            start,
            lambda trace: self._still(trace, verdict),
            self._options.reduce_replays,
            lambda: time.monotonic() > end,
            lambda changed: settled(changed, self._tally.dialect),
        )
        small = Example(reduction.trace, self._sides.oracle(reduction.trace))
        # A reduced trace that no fresh process confirms is worth less than the whole one.
        for _ in range(RUNS):
            found = self._sought(small, self._confirm(small.trace), verdict)
            if found is not None:
                note = f"reduced from {len(start.commands)} commands in {reduction.replays} replays"
                self._tally.keep(self._finding(small, found.replay, found.verdict), note)
                return

    def _still(self, trace: Trace, verdict: Verdict) -> bool:
        """Whether a smaller trace shows the same, and no known issue explains it."""
        try:
            candidate = Example(trace, self._sides.oracle(trace))
        except Exception:  # noqa: BLE001  # the model breaks at it: another finding
            return False
        died = verdict.kind != "divergence"
        try:
            seen = (self._confirm if died else self._replay)(trace)
            found = self._sought(candidate, seen, verdict)
            if found is None and not died and seen.death is not None:
                # It may have been ended by somebody else before it could show it.
                found = self._sought(candidate, self._confirm(trace), verdict)
        except DisturbedError:
            return False
        return found is not None and candidate.hazard_before(found.verdict.step) is None

    def _sought(self, example: Example, replay: Replay, verdict: Verdict) -> Seen | None:
        """What a replay shows that is the same as before, if it does."""
        for seen in self._shown(example, replay):
            if seen.verdict.signature == verdict.signature:
                return seen
        return None


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
            within = example.within()
            comparison.take_all(sides.pool.submit(within.trace, example))
        except ContainmentError as error:
            # The gate and the generator disagree: one example is lost, and not the run.
            tally.disturbed += 1
            tally.notes.append(f"not run: {error}")
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

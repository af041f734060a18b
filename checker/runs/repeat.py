# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the daemon do the same thing twice? The same traces, run two times and compared.

The model only writes the traces here: what the daemon shows first is what is expected of it the
second time. Something that wobbles would make every comparison with the model depend on chance,
so whatever does is a finding.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from checker.cases.reduce import REDUCE_SECONDS, reduce_trace
from checker.cases.waits import is_wait, through, with_waits
from checker.compare.examples import intake
from checker.compare.seen_again import DisturbedError, undisturbed
from checker.compare.signature import of_wobble, told_command
from checker.compare.traces import compare_trace
from checker.compare.verdict import Example, Expectation, Verdict, finding, left_at, title
from checker.interrupts import listening
from checker.runs.diff import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checker.compare.examples import Generator
    from checker.runs.diff import Sides
    from checker.runs.tally import Tally
    from model.values.trace import Trace
    from reports.values import Finding, Summary
    from targets.daemons.deaths import Death
    from targets.daemons.pool import Finished
    from targets.daemons.replay import Replay

_MORE = 10
"""How often a trace that differed is run again."""
_TRIES = 6
"""How often a smaller trace is run to see whether it differs, too."""


@attrs.frozen
class Wobble:
    """Two replays of one trace that differ, and how."""

    first: Replay
    second: Replay
    verdict: Verdict


def _end(death: Death | None) -> str:
    if death is None:
        return "goes on"
    return " ".join([death.kind, death.signal or str(death.status or "")]).strip()


def wobble(trace: Trace, first: Replay, second: Replay) -> Wobble | None:
    """How two replays of a trace differ, None if they do not."""
    ends = _end(first.death), _end(second.death)
    if ends[0] != ends[1]:
        step = min(death.step for death in (first.death, second.death) if death is not None)
        step = min(step, max(0, len(trace.commands) - 1))
        command = told_command(trace, step)
        told = " | ".join(sorted(ends))
        text = f"{command}: the daemon once {ends[0]}, once {ends[1]}"
        signature = f"{command} | process | repeated | {told}"
        verdict = Verdict("divergence", signature, text, step, "process", *ends)
        return Wobble(first, second, verdict)
    mismatch = compare_trace(first.observations, second.observations)
    if mismatch is None:
        return None
    seen = (first.observations[mismatch.step], second.observations[mismatch.step])
    verdict = Verdict(
        "divergence",
        of_wobble(trace, mismatch, *seen),
        title(trace, mismatch),
        mismatch.step,
        mismatch.path,
        mismatch.expected,
        mismatch.got,
    )
    return Wobble(first, second, verdict)


def _sound(example: Example) -> Example:
    """An example up to what the model broke at or does not know: nobody knows what to wait for."""
    commands = example.trace.commands
    count = len(example.expectations)
    while 0 < count < len(commands) and is_wait(commands[count]):
        count -= 1
    return example.until(count).within()


def _until_left(example: Example, replays: tuple[Replay, Replay]) -> tuple[Replay, Replay]:
    """Two replays up to where one of them shows something that is outside the spec."""
    ends = [end for each in replays if (end := left_at(example, each)) is not None]
    if not ends:
        return replays
    first, second = (
        attrs.evolve(
            each,
            observations=each.observations[: min(ends)],
            death=None if each.death is None or each.death.step >= min(ends) else each.death,
        )
        for each in replays
    )
    return first, second


class _Repetition:
    """Takes the replays as they come, two of each trace, and keeps those that differ."""

    def __init__(self, tally: Tally, sides: Sides, reduce_replays: int) -> None:
        self._tally = tally
        self._sides = sides
        self._reduce_replays = reduce_replays
        self._replay, self._confirm = undisturbed(sides.replay), undisturbed(sides.confirm)
        self._first: Replay | None = None

    def take_all(
        self, results: Iterable[Finished[Example]], progress: Callable[[Tally], None]
    ) -> None:
        """Compare what has been run twice by now."""
        for result in results:
            if self._first is None:
                self._first = result.replay
                continue
            first, self._first = self._first, None
            self._tally.count(result.token)
            try:
                replays = (
                    self._settle(result.token, first),
                    self._settle(result.token, result.replay),
                )
                self._compare(result.token, *_until_left(result.token, replays))
            except DisturbedError as error:
                self._tally.disturbed += 1
                self._tally.notes.append(f"not judged: {error}")
            progress(self._tally)

    def _settle(self, example: Example, replay: Replay) -> Replay:
        """A replay that was not disturbed."""
        disturbed = replay.death is not None and replay.death.disturbed
        return self._confirm(example.trace) if disturbed else replay

    def _compare(self, example: Example, first: Replay, second: Replay) -> None:
        found = wobble(example.trace, first, second)
        if found is None:
            return
        issue = example.hazard_before(found.verdict.step)
        if issue is not None:
            self._tally.count_known(issue)
            return
        if self._tally.has(found.verdict.signature):
            self._tally.divergences += 1
            self._tally.again(found.verdict.signature)
            return
        died = found.verdict.path == "process"
        if not died:
            self._keep(example, found)
        again, runs = self._again(example.trace, (first, second))
        if died:
            if 0 in again:
                # All others are like one of the two: the other may have been somebody's doing.
                self._tally.unconfirmed += 1
                self._tally.notes.append(f"seen once, but not again: {found.verdict.title}")
                return
            self._keep(example, found)
        note = f"another {runs} runs differed {again[0]} times from the first"
        self._tally.keep(self._finding(example.trace, found), note)
        if again[0] and self._reduce_replays:
            self._reduce(example.trace, found, note)

    def _keep(self, example: Example, found: Wobble) -> None:
        self._tally.divergences += 1
        self._tally.keep(self._finding(example.trace, found))

    def _again(self, trace: Trace, seen: tuple[Replay, Replay]) -> tuple[tuple[int, int], int]:
        """How many of how many more runs differ from each of two."""
        end = time.monotonic() + REDUCE_SECONDS
        first = second = runs = 0
        while runs < _MORE and time.monotonic() < end:
            runs += 1
            more = self._replay(trace)
            first += wobble(trace, seen[0], more) is not None
            second += wobble(trace, seen[1], more) is not None
        return (first, second), runs

    def _finding(self, trace: Trace, found: Wobble) -> Finding:
        expected = tuple(Expectation(each) for each in found.first.observations)
        return finding(
            Example(trace, expected),
            found.second,
            found.verdict,
            release=self._tally.release,
            dialect=self._tally.dialect.name,
            seed=self._tally.seed,
        )

    def _reduce(self, trace: Trace, found: Wobble, note: str) -> None:
        end = time.monotonic() + REDUCE_SECONDS
        last = found

        def same(candidate: Trace) -> bool:
            nonlocal last
            try:
                expectations = self._sides.oracle(candidate)
            except Exception:  # noqa: BLE001  # the model breaks at it: another finding
                return False
            seen = self._wobbling(candidate, found.verdict.signature)
            if seen is None or Example(candidate, expectations).hazard_before(seen.verdict.step):
                return False
            last = seen
            return True

        commands = trace.commands[: through(trace.commands, found.verdict.step)]
        reduction = reduce_trace(
            attrs.evolve(trace, commands=commands),
            same,
            self._reduce_replays,
            lambda: time.monotonic() > end,
            lambda changed: with_waits(changed, self._tally.dialect),
        )
        if last is not found:
            note = f"{note}; reduced from {len(commands)} commands in {reduction.replays} trials"
            self._tally.keep(self._finding(reduction.trace, last), note)

    def _wobbling(self, trace: Trace, signature: str) -> Wobble | None:
        """How a trace differs from itself in the way that is told, if it does within some runs."""
        try:
            first = self._replay(trace)
            for _ in range(_TRIES):
                seen = wobble(trace, first, self._replay(trace))
                if seen is not None and seen.verdict.signature == signature:
                    return seen
        except DisturbedError:
            pass
        return None


def run_repeat(
    tally: Tally,
    generate: Generator,
    sides: Sides,
    *,
    reduce_replays: int = 50,
    budget: float | None = None,
    progress: Callable[[Tally], None] = nothing,
) -> Summary:
    """Generate, run everything twice, compare; the summary tells all.

    An interrupt (Ctrl-C) ends the run early with what was found so far.
    """
    repetition = _Repetition(tally, sides, reduce_replays)
    end = None if budget is None else time.monotonic() + budget

    def take(example: Example) -> None:
        whole = _sound(example)
        tally.outside += example.outside is not None
        for _ in range(2):
            repetition.take_all(sides.pool.submit(whole.trace, whole), progress)

    with listening():
        try:
            with intake(end) as taking:
                generate(taking.sink(take))
            repetition.take_all(sides.pool.drain(), progress)
        except KeyboardInterrupt:
            tally.interrupted = True
    return tally.summary()

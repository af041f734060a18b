# SPDX-License-Identifier: GPL-2.0-or-later
"""When something that was seen counts: what is shown again on a fresh process.

One run is no evidence. A daemon may be ended or stopped by somebody else, and an answer may have
come late. So whatever a run shows is a candidate only; what a second run shows *too* counts, and
what it shows *else* is a separate candidate. A run that was disturbed says nothing and is
made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from checker.errors import CheckerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from checker.compare.verdict import Replayer
    from model.values.trace import Observation, Trace
    from targets.daemons.replay import Replay

T = TypeVar("T")

RUNS = 3
"""Fresh processes on which a candidate may show itself again."""

TRIES = 3
"""How often a disturbed run is made again."""


class DisturbedError(CheckerError):
    """Each try was disturbed from outside, so that nothing can be said of the daemon."""


def seen_again(
    first: Iterable[T],
    again: Callable[[], Iterable[T]],
    same: Callable[[T, T], bool],
    runs: int = RUNS,
) -> tuple[T, ...]:
    """What counts of what was seen: that which one of the next runs shows as well.

    ``again`` makes a run on a fresh process and says what it shows. What is returned is from the
    last run that shows anything known; there are ``runs`` at most, and no more once all that one
    shows is known. Nothing counts if no two of them agree.
    """
    known = list(first)
    sure: tuple[T, ...] = ()
    for _ in range(runs):
        shown = tuple(again())
        found = tuple(new for new in shown if any(same(old, new) for old in known))
        sure = found or sure
        if shown and len(found) == len(shown):
            break
        known += shown
    return sure


def undisturbed(replayer: Replayer, tries: int = TRIES) -> Replayer:
    """A replayer that makes a disturbed run again.

    It raises :class:`DisturbedError` if ``tries`` runs are disturbed one after the other, and at
    once where the trace takes more than we grant: it would do so again.
    """

    def run(trace: Trace) -> Replay:
        why = ""
        for _ in range(tries):
            replay = replayer(trace)
            if replay.death is None or not replay.death.disturbed:
                return replay
            why = replay.death.detail or replay.death.signal or "for no known reason"
            if replay.death.limit:
                raise DisturbedError(f"a limit was met: {why}")
        raise DisturbedError(f"the daemon was disturbed {tries} times in a row: {why}")

    return run


def shown_by(run: Replayer, confirm: Replayer) -> Callable[[Trace], Sequence[Observation]]:
    """What a target shows of a trace; where it dies, what it shows on a fresh process."""

    def show(trace: Trace) -> Sequence[Observation]:
        replay = run(trace)
        return (replay if replay.death is None else confirm(trace)).observations

    return show

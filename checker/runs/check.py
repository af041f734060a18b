# SPDX-License-Identifier: GPL-2.0-or-later
"""The model alone: invariants after every command that the machine writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from checker.compare.examples import intake
from checker.compare.violations import ANSWERS, Law, Violation, first_violation
from checker.interrupts import listening
from checker.runs.broken_laws import keep_violation
from checker.runs.diff import nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from checker.runs.generate import Checked, CheckedGenerator
    from checker.runs.tally import Tally
    from reports.values import Summary

_REDUCE_REPLAYS = 2000
"""The model answers in microseconds, so reduction may take its time."""


def run_check(
    tally: Tally,
    generate: CheckedGenerator,
    law: Law,
    *,
    budget: float | None = None,
    progress: Callable[[Tally], None] = nothing,
) -> Summary:
    """Generate and watch; the summary tells all.

    An interrupt (Ctrl-C) ends the run early with what was found so far.
    """
    end = None if budget is None else time.monotonic() + budget

    def take(checked: Checked) -> None:
        _take(tally, checked, law)
        progress(tally)

    with listening():
        try:
            with intake(end) as taking:
                generate(taking.sink(take))
        except KeyboardInterrupt:
            tally.interrupted = True
    return tally.summary()


def _take(tally: Tally, checked: Checked, law: Law) -> None:
    tally.count(checked.example)
    violation: Violation | None = checked.violation
    trace = checked.example.trace
    if violation is None and not checked.complete:
        violation = first_violation(trace, tally.dialect, law)
        if violation is None:
            text = "an exception that does not come again"
            violation = Violation(len(trace.commands) - 1, ANSWERS, text)
    if violation is not None:
        keep_violation(tally, trace, violation, law, _REDUCE_REPLAYS)

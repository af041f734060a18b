# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees of a run: a moving line on a terminal, plain lines elsewhere.

Progress goes to standard error, results to standard output, so that a pipe gets
results only. Progress that cannot be written is no reason to end a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from reports.limits import MOST_TITLE
from reports.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from checker.runs.tally import Tally
    from reports.values import Finding, Summary

_PLAIN_EVERY = 10.0
"""Seconds between two plain lines."""
_MOVE_EVERY = 0.1


OUTSIDE_PAGE = "reopencheck rules --outside"
"""What lists everything that is outside the spec."""


Shows: TypeAlias = Callable[["Tally"], None]
"""Shows where a run is; called after each example."""


def _told(tally: Tally) -> str:
    failed = tally.divergences + tally.crashes + tally.violations
    return f"{tally.commands} commands, {failed} failed"


class MovingLine:
    """A progress bar of rich's, redrawn at most ten times a second."""

    def __init__(self, console: Console, examples: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} examples, {task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._examples = examples
        self._task: TaskID | None = None
        self._next = 0.0

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """Move for so long, and leave nothing behind."""
        self._progress.start()
        self._task = self._progress.add_task("checking", total=self._examples, told="")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._progress.stop()

    def __call__(self, tally: Tally, /) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if now >= self._next and self._task is not None:
            self._next = now + _MOVE_EVERY
            with contextlib.suppress(OSError):
                self._progress.update(self._task, completed=tally.examples, told=_told(tally))


class PlainLines:
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console, examples: int) -> None:
        self._console = console
        self._examples = examples
        self._next = time.monotonic() + _PLAIN_EVERY

    def __call__(self, tally: Tally, /) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PLAIN_EVERY
            line = f"{tally.examples}/{self._examples} examples, {_told(tally)}"
            with contextlib.suppress(OSError):
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def shows(console: Console, examples: int) -> Iterator[Shows]:
    """The moving line where it can move, plain lines elsewhere."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines(console, examples)
        return
    line = MovingLine(console, examples)
    with line.moving():
        yield line


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)" if whole else str(part)


def summary_lines(summary: Summary) -> list[str]:
    """A run's result as lines of plain text."""
    against = f" against {summary.target}" if summary.target else ""
    ended = ""
    if summary.interrupted or summary.trouble:
        why = "interrupted" if summary.interrupted else "ended early"
        ended = f" ({why}: this is what was found so far)"
    accepted = _share(summary.accepted, summary.commands)
    refused = _share(summary.refused, summary.commands)
    reached = f"{summary.rules_reached} of {summary.rules_total} reached"
    refusals = f"{summary.refusals_reached} of {summary.refusals_total} refused something"
    lines = [
        f"{summary.command} {summary.dialect}{against}, seed {summary.seed}{ended}",
        *_missing_lines(summary),
        f"  examples    {summary.examples}",
        f"  commands    {summary.commands}: {accepted} accepted, {refused} refused",
        f"  rules       {reached}; {refusals}",
        f"  time        {summary.seconds:.1f} s, {summary.commands_per_second:.0f} commands/s",
    ]
    if any(count for _, count in summary.job_states):
        lines += _users_lines(summary)
    if summary.command != "check":
        lines.append(
            f"  divergences {summary.divergences}, known {summary.known},"
            f" deaths {summary.crashes}, not confirmed {summary.unconfirmed}"
        )
    else:
        lines.append(f"  violations  {summary.violations}")
    if summary.outside:
        lines.append(f"  outside     {summary.outside} examples left the spec ({OUTSIDE_PAGE})")
    if summary.disturbed:
        told = "were disturbed from outside again and again, and could not be judged"
        lines.append(f"  disturbed   {summary.disturbed} examples {told}")
    lines += [f"  known issue {name}: seen {times(count)}" for name, count in summary.known_issues]
    lines += [f"  note: {note}" for note in summary.notes]
    for number, finding in enumerate(summary.findings, 1):
        lines += finding_lines(f"finding {number}", finding)
    for finding in summary.recovered:
        lines += finding_lines("recovered from an earlier run", finding)
    return lines


def _missing_lines(summary: Summary) -> list[str]:
    """What the run did not come to; the result follows, since this may fill a screen."""
    never_refused = [each for each in summary.never_refused if each not in summary.unreached]
    lists = {
        "never reached": summary.unreached,
        "never seen": summary.unseen,
        "never refused": never_refused,
    }
    return [f"  {name}: {', '.join(missing)}" for name, missing in lists.items() if missing]


def _users_lines(summary: Summary) -> list[str]:
    """What jobs did, and how much of it the run saw."""
    states = ", ".join(f"{state} {count}" for state, count in summary.job_states if count)
    with_job = _share(summary.reopened_with_job, summary.examples)
    with_data = _share(summary.read_data, summary.examples)
    lines = [f"  job states  {states}"]
    if summary.unvisited:
        lines.append(f"  no job was  {', '.join(summary.unvisited)}")
    lines.append(f"  examples    {with_job} reopen beside a job, {with_data} compare data")
    return lines


def finding_lines(name: str, finding: Finding) -> list[str]:
    """A finding as two lines: what it is, and where its case stands."""
    length = "1 command" if len(finding.steps) == 1 else f"{len(finding.steps)} commands"
    told = f"{finding.kind}, seen {times(finding.occurrences)}, {length}"
    lines = [f"  {name} ({told}): {shown(finding.title, MOST_TITLE)}"]
    if finding.case_file is not None:
        lines.append(f"    case: {finding.case_file}")
    return lines

# SPDX-License-Identifier: GPL-2.0-or-later
"""How a run ends, whatever ends it: first what was found is told, then what went wrong.

An error in mid-run, a full disk, a signal or a daemon that cannot be started any more leaves what
was found before as it is. It is noted (:func:`noting`), the results are told as ever, then the
trouble is named in one line. Its status is the worst that is true: a finding before trouble.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import attrs
from model.release.dialect import NoSuchDialectError
from model.values.image_layout import ImageError

from checker.errors import CheckerError
from checker.interrupts import hold
from checker.options import (
    FAILED,
    HELD,
    INTERRUPTED,
    OUTSIDE,
    PIPE_CLOSED,
    WRONG,
    as_text,
    fitted,
    put,
    say,
    tell,
)
from checker.output import write_report
from reports.shown import shown
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model.values.trace import Json

    from checker.journal import Journal
    from reports.values import Finding, Summary

TRACEBACK = "REOPENCHECK_TRACEBACK"
"""The environment variable that shows where an unexpected error comes from."""

EXPECTED = (CheckerError, TargetError, NoSuchDialectError, ImageError)
"""The errors whose text says to a user what to do."""


class Run(Protocol):
    """Something that notes how it ended, such as a tally."""

    interrupted: bool
    trouble: str


@attrs.define
class Ended:
    """How a run has ended that keeps no tally."""

    interrupted: bool = False
    trouble: str = ""


def told(error: Exception) -> str:
    """An error as one line for the user."""
    if isinstance(error, MemoryError):
        return "out of memory: allow more (ulimit -v, ulimit -d)"
    if isinstance(error, EXPECTED):
        text = str(error)
    elif isinstance(error, OSError):
        text = _refused(error)
    else:
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        kind = type(error).__name__
        text = f"internal error: {kind}: {error} ({TRACEBACK}=1 shows where)"
    return " ".join(text.split())


def _refused(error: OSError) -> str:
    """What the system does not do for us: nothing that we could have done better."""
    try:
        Path.cwd()
    except OSError:
        return "the current directory is gone"
    why = error.strerror or str(error)
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        why += " (ulimit -n sets how many may be)"
    return f"{why}: {error.filename}" if error.filename else why


@contextmanager
def noting(run: Run) -> Iterator[None]:
    """Note what ends the body; afterwards signals end nothing any more."""
    try:
        yield
    except KeyboardInterrupt:
        run.interrupted = True
    except BrokenPipeError:
        pass  # nobody reads the results any more, which shows once more when they are told
    except Exception as error:  # noqa: BLE001  # whatever it is, what was found is not lost
        run.trouble = run.trouble or told(error)
    finally:
        hold()


def recovered(journal: Journal) -> list[Finding]:
    """The findings of runs that could not tell of them, with a line on each such run."""
    findings = []
    for left in journal.recover():
        count = "1 finding" if len(left.cases) == 1 else f"{len(left.cases)} findings"
        torn = f"; {left.torn} torn lines" if left.torn else ""
        run = left.found_by or "an unknown run"
        tell(f"reopencheck: recovered {count} that an earlier run could not tell of: {run}{torn}")
        findings += [case.finding(str(path)) for path, case in left.cases]
    return findings


def status(
    *, failed: bool, interrupted: bool = False, trouble: bool = False, outside: bool = False
) -> int:
    """The exit status of a run: the first of these that is true, 0 if none is."""
    if interrupted:
        return INTERRUPTED
    if failed:
        return FAILED
    if trouble:
        return WRONG
    return OUTSIDE if outside else HELD


class Telling:
    """Tells results in several ways; what goes wrong in one of them is no loss to the others."""

    def __init__(self, trouble: str = "") -> None:
        self.troubles = [trouble] if trouble else []
        self.closed = False
        self.told = False
        """Whether somebody may have read the results."""

    def attempt(self, way: Callable[[], object]) -> None:
        """Try one way."""
        try:
            way()
        except BrokenPipeError:
            self.closed = True
        except Exception as error:  # noqa: BLE001  # one way of telling fails, the next goes on
            self.troubles.append(told(error))
        else:
            self.told = True

    def end(self, code: int) -> NoReturn:
        """Name the trouble, and exit; ``code`` is the status as far as the results go."""
        for line in self.troubles:
            tell(f"reopencheck: {line}")
        if code in {HELD, OUTSIDE}:
            code = PIPE_CLOSED if self.closed else WRONG if self.troubles else code
        sys.exit(code)


def finish(
    summary: Summary,
    *,
    report: Path | None,
    as_json: bool,
    lines: Callable[[Summary], Sequence[str]],
    journal: Journal | None = None,
) -> NoReturn:
    """Report a run in every way that was asked for, and exit with its status.

    The ``journal`` goes once somebody may have read of it: on standard output, or in ``report``.
    """
    telling = Telling(summary.trouble)
    if report is not None:
        telling.attempt(lambda: write_report(summary, report))
    reported = report is not None and telling.told

    def show() -> None:
        if as_json:
            document: dict[str, Json] = summary.as_json()
            put(as_text({**document, "trouble": "; ".join(telling.troubles)}))
            return
        for line in lines(summary):
            put(fitted(shown(line)))
        if reported:
            say(f"  report: {report}")
        say(verdict(summary, trouble=bool(telling.troubles)))

    telling.attempt(show)
    if journal is not None:
        journal.end(told=telling.told)
    telling.end(
        status(
            failed=summary.failed,
            interrupted=summary.interrupted,
            trouble=bool(summary.trouble or summary.disturbed),
            outside=bool(summary.outside),
        )
    )


def verdict(summary: Summary, *, trouble: bool) -> str:
    """The last line: how it all came out, in a word or two."""
    if summary.failed:
        return "FAILED"
    if trouble or summary.disturbed:
        return "NOT FINISHED" if trouble else "NOT ALL JUDGED"
    if summary.outside:
        return "outside the spec"
    return "held so far" if summary.interrupted else "held"

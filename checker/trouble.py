# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends a run before its time: noted instead of raised, and told in one line."""

from __future__ import annotations

import errno
import os
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from checker.errors import CheckerError
from checker.interrupts import hold
from model.release.dialect import NoSuchDialectError
from model.values.image_layout import ImageError
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def error_line(error: Exception) -> str:
    """An error as one line for the user."""
    if isinstance(error, MemoryError):
        return "out of memory: allow more (ulimit -v, ulimit -d)"
    if isinstance(error, ImportError) and "shared object" in str(error):
        # Some libraries load a part of themselves when it is needed, where memory may be short.
        return " ".join(f"cannot be loaded: {error} (ulimit -v, -d and -n allow more)".split())
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
        run.trouble = run.trouble or error_line(error)
    finally:
        hold()

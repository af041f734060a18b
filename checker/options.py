# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands of the command line have in common: options, and where words go.

Results go to standard output, everything else to standard error; with ``--json`` standard
output is one JSON document.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import attrs
import click

from checker.errors import OutputError
from checker.output import check_directory
from checker.tally import Amount
from reports.shown import shown
from targets.errors import TargetError
from targets.walls import EVERYTHING, NAMES, Walls, trusting

if TYPE_CHECKING:
    from model.values.trace import Json

HELD, FAILED, WRONG, UNCONFIRMED, OUTSIDE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 4, 130, 141
"""Exit statuses; the last two are what a shell reports for SIGINT and SIGPIPE."""

DEFAULT_DIALECT = "qemu-7.2"
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smh]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SEEDS = 2**32
_MOST_BITS = 10_000

F = TypeVar("F", bound=Callable[..., Any])


def say(line: str = "") -> None:
    """Print a line of the result; see :func:`put`."""
    put(shown(line))


def fitted(line: str) -> str:
    """A line of words as a terminal shows it best: broken between words, not within them.

    Where standard output is no terminal it stays one line, for programs that look for it.
    """
    if not sys.stdout.isatty():
        return line
    return textwrap.fill(
        line,
        width=max(40, shutil.get_terminal_size().columns),
        subsequent_indent=" " * 14,
        break_long_words=False,
        break_on_hyphens=False,
    )


def put(text: str) -> None:
    """Print a text of our own as it is.

    Raises :class:`OutputError` where standard output takes none, and BrokenPipeError where nobody
    reads it any more.
    """
    try:
        click.echo(_encodable(text, sys.stdout))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write the result: {error.strerror or error}") from None


def tell(line: str) -> None:
    """Print a line that is no part of the result; one that nobody can read is no loss."""
    with contextlib.suppress(OSError):
        click.echo(_encodable(shown(line), sys.stderr), err=True)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def document(value: Json) -> None:
    """Print the result for machines, in one piece; see :func:`put`."""
    put(as_text(value))


def as_text(value: Json) -> str:
    """A document as JSON, whatever numbers it holds.

    Raises :class:`OutputError` where it is nested too deeply.
    """
    try:
        try:
            return json.dumps(value, indent=1, allow_nan=False)
        except ValueError:
            return json.dumps(_numbered(value), indent=1)
    except RecursionError:
        raise OutputError("cannot write the result: it is nested too deeply") from None


def _numbered(value: Json) -> Json:
    """A value with texts for the numbers that JSON or Python's writer of it does not have."""
    if isinstance(value, dict):
        return {key: _numbered(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbered(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    return value


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A time such as ``90``, ``90s``, ``5m`` or ``1h`` in seconds, more than none."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value)
    seconds = float(match["number"]) * _UNITS[match["unit"]] if match else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is not a time such as 90, 90s, 5m or 1h", ctx, param)
    return seconds


@attrs.frozen
class RunOptions:
    """What the runs have in common."""

    dialect: str | None
    examples: int
    steps: int
    seed: int
    budget: float | None
    report: Path | None
    cases: Path
    as_json: bool

    def amount(self) -> Amount:
        """How much is to be generated."""
        return Amount(self.examples, self.steps, self.seed)


def steps_option(command: F) -> F:
    """The option that says how long a trace is."""
    return click.option(
        "--steps",
        type=click.IntRange(min=1, max=1000),
        default=30,
        show_default=True,
        metavar="N",
        help="Commands in a trace.",
    )(command)


def seed_option(command: F) -> F:
    """The option that repeats what was tried before."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="S",
        help="Repeat the run with this seed; without it, one is chosen and printed.",
    )(command)


def budget_option(command: F) -> F:
    """The option that ends a run by time."""
    return click.option(
        "--budget", callback=_seconds, metavar="T", help="Stop after this time (90s, 5m)."
    )(command)


def cases_option(command: F) -> F:
    """The option that says where cases go."""
    return click.option(
        "--cases",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("out/cases"),
        show_default=True,
        metavar="DIR",
        help="Write the case of each failure to this directory.",
    )(command)


def run_options(examples: int) -> Callable[[F], F]:
    """The options of a run, with the number of examples that is the default."""

    def decorate(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--dialect", metavar="D", help="Use the rules of this release or proposal."
                ),
                click.option(
                    "--examples",
                    type=click.IntRange(min=1),
                    default=examples,
                    show_default=True,
                    metavar="N",
                    help="Traces to make.",
                ),
                steps_option,
                seed_option,
                budget_option,
                click.option(
                    "--report",
                    type=click.Path(path_type=Path, file_okay=False),
                    metavar="DIR",
                    help="Write a summary, JUnit XML and scripts to this directory.",
                ),
                cases_option,
                json_option,
            )
        ):
            command = option(command)
        return command

    return decorate


def json_option(command: F) -> F:
    """The option to print one document instead of lines."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def qemu_option(command: F) -> F:
    """The option that says which storage daemon or system emulator."""
    return click.option(
        "--qemu",
        required=True,
        metavar="BIN",
        help="A storage daemon or system emulator: a release (10.0), a name, path or command line.",
    )(command)


def _walls(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> Walls:
    """All walls but those that are named."""
    try:
        return trusting(names)
    except TargetError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def trust_option(command: F) -> F:
    """The option that takes down walls between daemons and the system; gives ``walls``."""
    return click.option(
        "--trust",
        "walls",
        multiple=True,
        callback=_walls,
        metavar="WALL",
        help=f"Run QEMU without this wall: {', '.join(NAMES)}, or {EVERYTHING}. Repeatable.",
    )(command)


def any_seed() -> int:
    """A seed for a run whose user named none."""
    return secrets.randbelow(_SEEDS)


def chosen_options(values: dict[str, Any]) -> RunOptions:
    """The options of a run, complete; its directories can be written to."""
    if values["seed"] is None:
        values["seed"] = any_seed()
    options = RunOptions(**values)
    check_directory(options.cases)
    if options.report is not None:
        check_directory(options.report)
    return options

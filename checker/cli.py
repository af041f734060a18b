# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line.

Exit status: 0 everything held, 1 a property or a comparison failed, 2 wrong use or a
missing part, 130 interrupted. The commands stand in :mod:`checker.runs` and
:mod:`checker.questions`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from checker import comparisons, questions, runs
from checker.errors import CheckerError
from checker.options import HELD, INTERRUPTED, PIPE_CLOSED, WRONG, tell
from model.dialect import NoSuchDialectError
from model.images import ImageError
from targets.errors import TargetError
from targets.scratch import sweep

TRACEBACK = "REOPENCHECK_TRACEBACK"
"""The environment variable that shows where an unexpected error comes from."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="reopencheck")
def cli() -> None:
    """Check what QEMU's block layer does when a node is reopened, against a model of it."""
    # What a killed run has left goes with the next start, whatever that is for.
    sweep()


for command in (
    runs.check,
    runs.diff,
    runs.repeat,
    comparisons.compare,
    comparisons.options,
    runs.mutants,
    questions.replay,
    questions.rules,
    questions.doctor,
    questions.qemu,
):
    cli.add_command(command)


def _fail(line: str) -> int:
    tell("reopencheck: " + " ".join(line.split()))
    return WRONG


def main() -> NoReturn:
    """Run the command line; nothing but a line and a status ever reaches the user."""
    sys.unraisablehook = _say_nothing_of_interrupts
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_main())


def _say_nothing_of_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """A Ctrl-C that strikes in a destructor is remembered elsewhere and no news to the user."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _main() -> int:
    try:
        try:
            # Not cli.main(): that one answers a closed pipe with status 1, which is taken.
            with cli.make_context("reopencheck", sys.argv[1:]) as context:
                cli.invoke(context)
        finally:
            # A closed pipe shows here at the latest, not when the interpreter ends.
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return WRONG
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "reopencheck"
        return _fail(f"{error.format_message()} (see {path} --help)")
    except click.ClickException as error:
        return _fail(error.format_message())
    except (CheckerError, TargetError, NoSuchDialectError, ImageError) as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        tell("reopencheck: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        kind = type(error).__name__
        return _fail(f"internal error: {kind}: {error} ({TRACEBACK}=1 shows where)")
    return HELD


if __name__ == "__main__":
    main()

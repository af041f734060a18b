# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line.

Exit status: 0 everything held, 1 a property or a comparison failed, 2 wrong use, a
missing part or trouble on the way, 3 a comparison that builds do not bear out, 4 something was
outside the spec, 130 interrupted, 141 nobody reads the results. The commands stand in
:mod:`checker.cli.generating`, :mod:`checker.cli.comparing`, :mod:`checker.cli.option_table` and
:mod:`checker.cli.inspecting`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn, TextIO

from checker.interrupts import hold, listening

# From here on: whoever interrupts while the modules are loaded sees no traceback either.
with listening(to_the_end=True) as _loading:
    hold()
    try:
        import click

        from checker.cli import comparing, generating, inspecting, option_table
        from checker.cli.options import HELD, INTERRUPTED, PIPE_CLOSED, WRONG, tell
        from checker.trouble import EXPECTED, TRACEBACK, error_line
        from targets.walls.scratch import sweep
    except (MemoryError, SystemError, ImportError, OSError) as error:
        # Where memory is short each of them may come, and the second says nothing of it.
        why = str(error) if isinstance(error, (ImportError, OSError)) else "out of memory"
        line = f"reopencheck: cannot be loaded: {why} (ulimit -v, -d and -n allow more)"
        with contextlib.suppress(OSError):
            os.write(2, " ".join(line.split()).encode("ascii", "backslashreplace") + b"\n")
        os._exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="reopencheck")
def cli() -> None:
    """Check what QEMU's block layer does when a node is reopened, against a model of it."""
    # What a killed run has left goes with the next start, whatever that is for.
    sweep()


for command in (
    generating.check,
    generating.diff,
    generating.repeat,
    comparing.compare,
    option_table.options,
    generating.mutants,
    inspecting.replay,
    inspecting.rules,
    inspecting.doctor,
    inspecting.qemu,
):
    cli.add_command(command)


def _fail(line: str) -> int:
    tell("reopencheck: " + " ".join(line.split()))
    return WRONG


def main() -> NoReturn:
    """Run the command line; nothing but a line and a status ever reaches the user."""
    sys.unraisablehook = _say_nothing_of_interrupts
    _open_all()
    with listening(to_the_end=True):
        status = _main()
        hold()
    sys.exit(status)


def _open_all() -> None:
    """See that the three standard streams are there: what is opened next would take their place.

    What is written to one that was closed fails, as it should.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # to the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # to the end


def _say_nothing_of_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """A Ctrl-C that strikes in a destructor is remembered elsewhere and no news to the user."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _main() -> int:
    status = _carried_out()
    # A closed pipe or a full disk shows here at the latest, not when the interpreter ends.
    trouble = _flushed(sys.stdout)
    if isinstance(trouble, BrokenPipeError):
        status = status or PIPE_CLOSED
    elif trouble is not None and status == HELD:
        status = _fail(f"cannot write the result: {trouble.strerror or trouble}")
    _flushed(sys.stderr)
    return status


def _flushed(stream: TextIO) -> OSError | None:
    """Write what is buffered; where that fails, it must not be tried again at exit."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _carried_out() -> int:
    try:
        _loading.check()
        # Not cli.main(): that one answers a closed pipe with status 1, which is taken.
        with cli.make_context("reopencheck", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else HELD
    except click.ClickException as error:
        return _misused(error)
    except (click.Abort, KeyboardInterrupt):
        tell("reopencheck: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get(TRACEBACK) and not isinstance(error, EXPECTED):
            raise
        return _fail(error_line(error))
    return HELD


def _misused(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        with contextlib.suppress(OSError):
            click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return WRONG
    line = error.format_message()
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "reopencheck"
        line += f" (see {path} --help)"
    return _fail(line)


if __name__ == "__main__":
    main()

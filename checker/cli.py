# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line.

Exit status: 0 everything held, 1 a property or a comparison failed, 2 wrong use or a
missing part, 130 interrupted. Results go to standard output, everything else to
standard error; with ``--json`` standard output is one JSON document.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import attrs
import click
from rich.console import Console

from checker import doctor as doctoring
from checker.case import load, load_known
from checker.compare import MASKS
from checker.console import shows, summary_lines
from checker.errors import CheckerError
from checker.judge import as_json
from checker.output import check_directory, write_report
from checker.tally import Amount, Tally
from model.dialect import Dialect, NoSuchDialectError, find_dialect
from reports.markdown import reply as reply_line
from targets.binaries import DAEMON, Build, find_daemon
from targets.errors import TargetError

if TYPE_CHECKING:
    from checker.replay import Replayed
    from model.trace import Json
    from reports.values import Summary

HELD, FAILED, WRONG, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit statuses; the last two are what a shell reports for SIGINT and SIGPIPE."""

TRACEBACK = "REOPENCHECK_TRACEBACK"
"""The environment variable that shows where an unexpected error comes from."""

_DEFAULT_DIALECT = "qemu-7.2"
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smh]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SEEDS = 2**32

F = TypeVar("F", bound=Callable[..., Any])


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
    """What check and diff have in common."""

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


def _run_options(examples: int) -> Callable[[F], F]:
    """The options of a run, with the number of examples that is the default."""

    def decorate(command: F) -> F:
        for option in reversed(
            (
                click.option("--dialect", metavar="D", help="The release or proposal to speak."),
                click.option(
                    "--examples",
                    type=click.IntRange(min=1),
                    default=examples,
                    show_default=True,
                    metavar="N",
                    help="Traces to make.",
                ),
                click.option(
                    "--steps",
                    type=click.IntRange(min=1, max=1000),
                    default=30,
                    show_default=True,
                    metavar="N",
                    help="Commands in a trace.",
                ),
                click.option(
                    "--seed",
                    type=click.IntRange(min=0),
                    metavar="S",
                    help="Repeats a run; otherwise one is chosen and told.",
                ),
                click.option(
                    "--budget",
                    callback=_seconds,
                    metavar="T",
                    help="End after this time (90s, 5m).",
                ),
                click.option(
                    "--report",
                    type=click.Path(path_type=Path, file_okay=False),
                    metavar="DIR",
                    help="Write a summary, JUnit XML and scripts there.",
                ),
                click.option(
                    "--cases",
                    type=click.Path(path_type=Path, file_okay=False),
                    default=Path("out/cases"),
                    show_default=True,
                    metavar="DIR",
                    help="Write what fails there.",
                ),
                _json_option,
            )
        ):
            command = option(command)
        return command

    return decorate


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def _qemu_option(command: F) -> F:
    return click.option(
        "--qemu",
        required=True,
        metavar="BIN",
        help="The storage daemon: a name, a path or a whole command line.",
    )(command)


def _options(values: dict[str, Any]) -> RunOptions:
    if values["seed"] is None:
        values["seed"] = secrets.randbelow(_SEEDS)
    options = RunOptions(**values)
    check_directory(options.cases)
    if options.report is not None:
        check_directory(options.report)
    return options


def _known_directory() -> Path:
    """Where known issues stand: beside the packages in a checkout, else below the current one."""
    beside = Path(__file__).resolve().parent.parent / "cases" / "known"
    return beside if beside.is_dir() else Path("cases/known")


def _say(line: str = "") -> None:
    click.echo(line.encode("utf-8", "backslashreplace").decode())


def _tell(line: str) -> None:
    click.echo(line.encode("utf-8", "backslashreplace").decode(), err=True)


def _document(value: Json) -> None:
    _say(json.dumps(value, indent=1))


def _end(summary: Summary, options: RunOptions) -> NoReturn:
    """Report a run in every way that was asked for, and exit with its status."""
    written = () if options.report is None else write_report(summary, options.report)
    if options.as_json:
        _document(summary.as_json())
    else:
        for line in summary_lines(summary):
            _say(line)
        if written:
            _say(f"  report: {options.report}")
        _say("held" if not summary.failed else "FAILED")
    if summary.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(FAILED if summary.failed else HELD)


def _invocation() -> str:
    return " ".join(["reopencheck", *sys.argv[1:]])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="reopencheck")
def cli() -> None:
    """Check what QEMU's block layer does when a node is reopened, against a model of it."""


@cli.command()
@_run_options(examples=500)
def check(**values: Any) -> NoReturn:
    """Check the model alone: its invariants after every command that the machine writes."""
    from checker.check import run_check  # noqa: PLC0415  # Hypothesis costs 0.3 s to import
    from checker.generate import checked  # noqa: PLC0415
    from properties import Witnesses, law_for  # noqa: PLC0415

    options = _options(values)
    dialect = find_dialect(options.dialect or _DEFAULT_DIALECT)
    tally = Tally(
        "check",
        dialect,
        seed=options.seed,
        cases=options.cases,
        provenance=f"{_invocation()} (seed {options.seed})",
    )
    law, witnesses = law_for(dialect), Witnesses()
    tally.witnesses = witnesses.counts
    with shows(Console(stderr=True), options.examples) as progress:
        summary = run_check(
            tally,
            checked(dialect, options.amount(), law, witnesses),
            law,
            budget=options.budget,
            progress=progress,
        )
    _end(summary, options)


def _choose_dialect(name: str | None, build: Build) -> tuple[Dialect, list[str]]:
    if name is not None:
        return find_dialect(name), []
    dialect, note = doctoring.dialect_for(build)
    if note:
        _tell(f"reopencheck: {note}")
    return dialect, [note] if note else []


@cli.command()
@_qemu_option
@click.option(
    "--reduce",
    "reduce_replays",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Replays that the reduction of a finding may take; 0: do not reduce.",
)
@_run_options(examples=500)
def diff(qemu: str, reduce_replays: int, **values: Any) -> NoReturn:
    """Compare the model with a real storage daemon, command by command."""
    from checker.diff import DiffOptions, run_diff  # noqa: PLC0415
    from checker.generate import examples  # noqa: PLC0415
    from checker.sides import open_sides  # noqa: PLC0415

    build = find_daemon(qemu)
    options = _options(values)
    dialect, notes = _choose_dialect(options.dialect, build)
    tally = Tally(
        "diff",
        dialect,
        seed=options.seed,
        release=build.version,
        target=build.text,
        cases=options.cases,
        provenance=f"{_invocation()} (seed {options.seed})",
    )
    tally.notes += notes
    how = DiffOptions(
        reduce_replays=reduce_replays,
        budget=options.budget,
    )
    with (
        open_sides(build, dialect) as sides,
        shows(Console(stderr=True), options.examples) as progress,
    ):
        made = examples(dialect, options.amount())
        summary = run_diff(tally, made, sides, how, progress)
    _end(summary, options)


@cli.command()
@_qemu_option
@click.option("--dialect", metavar="D", help="The dialect to take rules from.")
@click.option("--rule", "wanted", multiple=True, metavar="ID", help="Only this rule (reopen.*).")
@click.option("--examples", type=click.IntRange(min=1), default=500, show_default=True, metavar="N")
@click.option(
    "--steps", type=click.IntRange(min=1, max=1000), default=30, show_default=True, metavar="N"
)
@click.option("--seed", type=click.IntRange(min=0), metavar="S")
@_json_option
def mutants(
    *,
    qemu: str,
    dialect: str | None,
    wanted: tuple[str, ...],
    examples: int,
    steps: int,
    seed: int | None,
    as_json: bool,
) -> NoReturn:
    """Drop one rule of the model after the other; each must be told from the real daemon."""
    from checker.generate import examples as make  # noqa: PLC0415
    from checker.mutants import Mutant, choose_rules, run_mutants  # noqa: PLC0415
    from checker.sides import open_sides, with_oracle  # noqa: PLC0415

    build = find_daemon(qemu)
    whole, _notes = _choose_dialect(dialect, build)
    rules = choose_rules(whole, wanted)
    chosen = secrets.randbelow(_SEEDS) if seed is None else seed

    def told(mutant: Mutant) -> None:
        if mutant.caught is None:
            line = f"SURVIVED  {mutant.rule}: {mutant.examples} examples, {mutant.seconds:.1f} s"
        else:
            line = f"caught    {mutant.rule}: example {mutant.caught}: {mutant.shown}"
        (_tell if as_json else _say)(line)

    with open_sides(build, whole) as sides:
        run = run_mutants(
            whole,
            rules,
            lambda mutant: make(mutant, Amount(examples, steps, chosen), mutant=True),
            lambda mutant: with_oracle(sides, mutant),
            seed=chosen,
            release=build.version,
            progress=told,
        )
    if as_json:
        _document(run.as_json())
    else:
        caught = len(run.mutants) - len(run.survivors)
        _say(f"{caught} of {len(run.mutants)} mutants caught, seed {chosen}")
    if run.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(FAILED if run.survivors else HELD)


@cli.command()
@click.argument("case_file", metavar="CASE", type=click.Path(path_type=Path))
@click.option("--qemu", metavar="BIN", help="Replay it on this storage daemon.")
@click.option("--dialect", metavar="D", help="Replay it on the model, in this dialect.")
@_json_option
def replay(case_file: Path, qemu: str | None, dialect: str | None, *, as_json: bool) -> NoReturn:
    """Replay a case on the model, or on a real daemon with --qemu.

    Status 0: every step is answered as the case expects (a case of kind "property": the
    model breaks no law); 1: it is not.
    """
    from checker.replay import by_model, check_case, compare_case  # noqa: PLC0415

    if qemu is not None and dialect is not None:
        raise click.UsageError("--qemu and --dialect exclude each other")
    case = load(case_file)
    if qemu is not None:
        from targets.pool import Target  # noqa: PLC0415

        build = find_daemon(qemu)
        with Target(build) as target:
            seen = target.confirm(case.trace())
        result = compare_case(case, build.text, seen.observations, seen.death)
    else:
        chosen = find_dialect(dialect or case.dialect)
        if case.kind == "property":
            from properties import law_for  # noqa: PLC0415

            result = check_case(case, chosen, law_for(chosen))
        else:
            result = compare_case(case, f"the model, {chosen.name}", by_model(case, chosen))
    if as_json:
        _document(result.as_json())
    else:
        _show_replay(result)
    sys.exit(HELD if result.agrees else FAILED)


def _show_replay(result: Replayed) -> None:
    for number, step in enumerate(result.steps):
        _say(f"{number + 1}  {json.dumps(step.command)}")
        _say(f"   expected  {reply_line(step.expected)}")
        _say(f"   got       {reply_line(step.got)}")
        if result.mismatch is not None and result.mismatch.step == number:
            _say(f"   DIFFERS at {result.mismatch.path}:")
            _say(f"   expected  {json.dumps(as_json(result.mismatch.expected))}")
            _say(f"   got       {json.dumps(as_json(result.mismatch.got))}")
    if result.death is not None:
        death = result.death
        _say(
            f"the daemon died at step {death.step + 1}: {death.kind} {death.signal or ''}".rstrip()
        )
        for line in death.stderr:
            _say(f"   {line}")
    if result.violation is not None:
        broken = result.violation
        _say(f"step {broken.step + 1} breaks {broken.law}: {broken.text}")
    _say(f"{'agrees' if result.agrees else 'DIFFERS'}: {result.side}")


@cli.command()
@click.option("--dialect", metavar="D", default=_DEFAULT_DIALECT, show_default=True)
@_json_option
def rules(dialect: str, *, as_json: bool) -> None:
    """List the rules of a dialect: what decides, in one sentence each, and where it comes from."""
    chosen = find_dialect(dialect)
    every = chosen.rules()
    if as_json:
        listed = [attrs.asdict(rule) for rule in every]
        _document({"dialect": chosen.name, "rules_total": len(every), "rules": listed})
        return
    for rule in every:
        _say(f"{rule.id} ({rule.kind})")
        _say(f"    {rule.sentence}")
        if rule.text:
            _say(f"    says: {chosen.texts.get(rule.id, rule.text)}")
        if rule.unreachable:
            _say(f"    no client gets there: {rule.unreachable}")
        _say(f"    from: {rule.source}")
    guards = sum(rule.kind == "guard" for rule in every)
    _say(f"{len(every)} rules of {chosen.name}, {guards} of them can refuse")


@cli.command()
@click.option("--masks", is_flag=True, help="List every exception to equality.")
@_json_option
def doctor(*, masks: bool, as_json: bool) -> NoReturn:
    """Say what was found, which release it is, and what is missing. Status 2 if anything is."""
    known = load_known(_known_directory())
    hazards = [rule for rule in find_dialect("qemu-7.2").rules() if rule.kind == "hazard"]
    count = f"{len(MASKS)} mask and {len(hazards)} hazards are all the exceptions to equality"
    if masks and not as_json:
        for mask in MASKS:
            _say(f"mask    {mask.member}: {mask.reason}")
        for hazard in hazards:
            _say(f"{hazard.id}: {hazard.sentence}")
            _say(f"        {hazard.source}")
            _say(f"        shown by {', '.join(known.get(hazard.id, ['no case here']))}")
        _say(count)
        sys.exit(HELD)
    every = doctoring.parts()
    if as_json:
        _document(doctoring.as_json(every, known))
    else:
        for part in every:
            _say(f"{'ok      ' if part.present else 'MISSING '} {part.name}: {part.found}")
            if not part.present:
                _say(f"         get it with: {part.hint}")
        _say(f"{count}; doctor --masks lists them")
    sys.exit(HELD if all(part.present for part in every) else WRONG)


@cli.group()
def qemu() -> None:
    """Work with QEMU builds."""


@qemu.command("import-schema")
@click.argument("binary", metavar="BIN", default=DAEMON)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write there instead of printing.",
)
def import_schema(binary: str, output: Path | None) -> None:
    """Make the schema document of a storage daemon, as the model reads it."""
    from checker.case import write_atomically  # noqa: PLC0415
    from targets import schema_import  # noqa: PLC0415

    build = find_daemon(binary)
    try:
        text = schema_import.render(schema_import.import_schema(build.argv))
    except schema_import.SchemaImportError as error:
        raise CheckerError(f"cannot import the schema of {build.text}: {error}") from None
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        _say(f"{output}: schema of {build.text}")


def _fail(line: str) -> int:
    _tell("reopencheck: " + " ".join(line.split()))
    return WRONG


def main() -> NoReturn:
    """Run the command line; nothing but a line and a status ever reaches the user."""
    sys.unraisablehook = _say_nothing_of_interrupts
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
    except (CheckerError, TargetError, NoSuchDialectError) as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        _tell("reopencheck: interrupted")
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

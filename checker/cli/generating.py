# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that generate traces: check, diff, repeat and mutants."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import attrs
import click
from rich.console import Console

from checker.cases.journal import Journal
from checker.cli import doctor as doctoring
from checker.cli.ending import Telling, finish, recovered, status
from checker.cli.options import (
    DEFAULT_DIALECT,
    RunOptions,
    any_seed,
    chosen_options,
    dialect_option,
    document,
    examples_option,
    json_option,
    qemu_option,
    run_options,
    say,
    seed_option,
    steps_option,
    tell,
    trust_option,
)
from checker.cli.progress import Shows, shows, summary_lines
from checker.compare.dialect_of import dialect_for
from checker.runs.tally import Amount, Tally
from checker.trouble import Ended, noting
from model.release.dialects import find_dialect
from targets.builds.debian import find_build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker.compare.examples import Generator
    from checker.runs.diff import Sides
    from checker.runs.mutants import Mutant, MutantRun
    from model.release.dialect import Dialect
    from reports.values import RunKind
    from targets.builds.binaries import Build
    from targets.walls.standing import Walls

F = TypeVar("F", bound=Callable[..., Any])


def _invocation() -> str:
    return " ".join(["reopencheck", *sys.argv[1:]])


@attrs.frozen
class _Told:
    """A run that is told after the body, however that ends; then the process exits."""

    options: RunOptions
    tally: Tally
    journal: Journal

    @classmethod
    def of(
        cls, kind: RunKind, dialect: Dialect, options: RunOptions, build: Build | None = None
    ) -> _Told:
        """A run that is about to begin, with what killed ones have left in its directory."""
        provenance = f"{_invocation()} (seed {options.seed})"
        journal = Journal(options.cases, provenance)
        tally = Tally(
            kind,
            dialect,
            seed=options.seed,
            release=build.version if build else "",
            target=build.text if build else "",
            cases=options.cases,
            journal=journal,
            provenance=provenance,
        )
        tally.recovered += recovered(journal)
        return cls(options, tally, journal)

    @contextmanager
    def after(self) -> Iterator[Tally]:
        """Carry out the body, note how it ends, and tell."""
        with noting(self.tally):
            yield self.tally
        finish(
            self.tally.summary(),
            report=self.options.report,
            as_json=self.options.as_json,
            lines=summary_lines,
            journal=self.journal,
        )


@click.command(short_help="Check the model alone: its invariants after every command.")
@run_options(examples=500)
def check(**values: Any) -> None:
    """Check the model alone: its invariants after every command that the machine writes."""
    from checker.runs.check import run_check  # noqa: PLC0415  # Hypothesis costs 0.3 s to import
    from checker.runs.generate import checked  # noqa: PLC0415
    from properties import Witnesses, law_for  # noqa: PLC0415

    options = chosen_options(values)
    dialect = find_dialect(options.dialect or DEFAULT_DIALECT)
    law, witnesses = law_for(dialect), Witnesses(dialect)
    run = _Told.of("check", dialect, options)
    with run.after() as tally, shows(Console(stderr=True), options.examples) as progress:
        tally.witnesses = witnesses.counts
        run_check(
            tally,
            checked(dialect, options.amount(), law, witnesses),
            law,
            budget=options.budget,
            progress=progress,
        )


def choose_dialect(name: str | None, build: Build) -> tuple[Dialect, list[str]]:
    """The dialect of that name, or the build's; and what is to be noted about the choice."""
    if name is not None:
        return find_dialect(name), []
    dialect, note = dialect_for(build)
    if note:
        tell(f"reopencheck: {note}")
    return dialect, [note] if note else []


def _reduce_option(replays: int) -> Callable[[F], F]:
    return click.option(
        "--reduce",
        "reduce_replays",
        type=click.IntRange(min=0),
        default=replays,
        show_default=True,
        metavar="N",
        help="Spend at most N replays on reducing a finding; 0: do not reduce.",
    )


@click.command(short_help="Compare the model with a real QEMU, command by command.")
@qemu_option
@trust_option
@_reduce_option(200)
@run_options(examples=500)
def diff(qemu: str, reduce_replays: int, **values: Any) -> None:
    """Compare the model with a real storage daemon or system emulator, command by command."""
    from checker.runs.diff import DiffOptions, run_diff  # noqa: PLC0415

    with _on_daemon("diff", qemu, values) as run:
        how = DiffOptions(reduce_replays=reduce_replays, budget=run.options.budget)
        run_diff(run.tally, run.examples, run.sides, how, run.progress)


@click.command(short_help="Run the same traces twice on a real QEMU.")
@qemu_option
@trust_option
@_reduce_option(50)
@run_options(examples=500)
def repeat(qemu: str, reduce_replays: int, **values: Any) -> None:
    """Run the same traces twice on a storage daemon or system emulator, and compare the answers."""
    from checker.runs.repeat import run_repeat  # noqa: PLC0415

    with _on_daemon("repeat", qemu, values) as run:
        run_repeat(
            run.tally,
            run.examples,
            run.sides,
            reduce_replays=reduce_replays,
            budget=run.options.budget,
            progress=run.progress,
        )


@attrs.frozen
class _Run:
    """A run against a daemon that is about to begin."""

    options: RunOptions
    tally: Tally
    examples: Generator
    sides: Sides
    progress: Shows


@contextmanager
def _on_daemon(kind: RunKind, qemu: str, values: dict[str, Any]) -> Iterator[_Run]:
    """Open both sides for the time of a run, which is told afterwards; then the process exits.

    What keeps a run from its beginning is raised.
    """
    from checker.runs.generate import examples  # noqa: PLC0415
    from checker.runs.sides import open_sides  # noqa: PLC0415

    walls: Walls = values.pop("walls")
    build = find_build(qemu, walls)
    options = chosen_options(values)
    dialect, notes = choose_dialect(options.dialect, build)
    run = _Told.of(kind, dialect, options, build)
    with ExitStack() as opening:
        sides = opening.enter_context(open_sides(build, dialect))
        opened = opening.pop_all()
    with (
        run.after() as tally,
        opened,
        shows(Console(stderr=True), options.examples) as progress,
        noting(tally),
    ):
        tally.notes += [*notes, *doctoring.notes_on(walls)]
        yield _Run(options, tally, examples(dialect, options.amount()), sides, progress)


def _fate(mutant: Mutant) -> str:
    """What became of a mutant, in a line."""
    if mutant.unknown:
        return f"unknown   {mutant.rule}: {mutant.disturbed} examples were disturbed"
    if mutant.caught is None:
        return f"SURVIVED  {mutant.rule}: {mutant.examples} examples, {mutant.seconds:.1f} s"
    return f"caught    {mutant.rule}: example {mutant.caught}: {mutant.shown}"


@click.command(short_help="Drop one rule at a time: does the comparison notice?")
@qemu_option
@trust_option
@dialect_option("Drop the rules of this release or proposal.")
@click.option(
    "--rule",
    "wanted",
    multiple=True,
    metavar="ID",
    help="Drop only this rule, or those of a pattern ('reopen.*'). Repeatable.",
)
@examples_option("Traces to make for each rule, at most.", 500)
@steps_option
@seed_option
@json_option
def mutants(
    *,
    qemu: str,
    walls: Walls,
    dialect: str | None,
    wanted: tuple[str, ...],
    examples: int,
    steps: int,
    seed: int | None,
    as_json: bool,
) -> NoReturn:
    """Drop one rule of the model at a time; the comparison must notice it each time."""
    from checker.runs.generate import examples as make  # noqa: PLC0415
    from checker.runs.mutants import MutantRun, choose_rules, run_mutants  # noqa: PLC0415
    from checker.runs.sides import open_sides, with_oracle  # noqa: PLC0415

    build = find_build(qemu, walls)
    for note in doctoring.notes_on(walls):
        tell(f"reopencheck: {note}")
    whole, _notes = choose_dialect(dialect, build)
    rules = choose_rules(whole, wanted)
    chosen = any_seed() if seed is None else seed

    found: list[Mutant] = []

    def keep(mutant: Mutant) -> None:
        found.append(mutant)
        (tell if as_json else say)(_fate(mutant))

    ended = Ended()
    with ExitStack() as opening:
        sides = opening.enter_context(open_sides(build, whole))
        opened = opening.pop_all()
    with noting(ended), opened, noting(ended):
        run = run_mutants(
            whole,
            rules,
            lambda mutant: make(mutant, Amount(examples, steps, chosen), mutant=True),
            lambda mutant: with_oracle(sides, mutant),
            seed=chosen,
            release=build.version,
            progress=keep,
        )
        ended.interrupted = run.interrupted
    run = MutantRun(
        build.version,
        whole.name,
        chosen,
        tuple(found),
        interrupted=ended.interrupted,
        trouble=ended.trouble,
    )
    _tell(run, len(rules), as_json=as_json)


def _tell(run: MutantRun, wanted: int, *, as_json: bool) -> NoReturn:
    """Print what became of the mutants, of which so many were ``wanted``, and exit."""
    telling = Telling(run.trouble)
    caught = sum(mutant.caught is not None for mutant in run.mutants)
    line = f"{caught} of {len(run.mutants)} mutants caught, seed {run.seed}"
    if run.interrupted:
        line += f" (interrupted: {wanted} were to be tried)"
    telling.attempt(lambda: document(run.as_json()) if as_json else say(line))
    telling.end(
        status(
            failed=bool(run.survivors),
            interrupted=run.interrupted,
            trouble=bool(run.trouble or run.unknown),
        )
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that searches for differences between dialects and builds: compare."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click

from checker.cases.case import from_finding, write
from checker.cases.journal import Journal
from checker.cli import doctor as doctoring
from checker.cli.differences_shown import Results, Row, as_document, commands, scope, show
from checker.cli.ending import Telling, recovered, status
from checker.cli.options import (
    UNCONFIRMED,
    any_seed,
    budget_option,
    cases_option,
    document,
    examples_option,
    json_option,
    seed_option,
    steps_option,
    tell,
    trust_option,
)
from checker.cli.report_files import check_directory
from checker.runs.tally import Amount
from checker.trouble import Ended, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from checker.compare.differences import Distinction
    from checker.compare.examples import Generator
    from checker.search.breadth_first import Scope
    from checker.search.distinguish import Comparison
    from checker.search.subjects import Subject
    from model.release.dialect import Dialect
    from targets.walls.standing import Walls

_AT_A_TIME = 40
"""Examples that are written for one side before it is the other's turn."""
_BUDGET = 20.0
_FOR_EVER = 1e9
_IMAGES, _DEPTH = 2, 4


@click.command(short_help="Search for commands after which A and B differ.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@trust_option
@budget_option
@steps_option
@examples_option("Stop after N traces.")
@seed_option
@click.option("--exhaustive", is_flag=True, help="Try every sequence of a small scope only.")
@click.option("--images", type=click.IntRange(1, 9), metavar="N", help="Images in that scope (2).")
@click.option(
    "--depth",
    type=click.IntRange(1, 99),
    metavar="D",
    help="Commands in a sequence of that scope, at most (4).",
)
@click.option(
    "--confirm/--no-confirm",
    "confirms",
    default=True,
    help="Replay what is found on the builds of the dialects' releases, where there are any.",
)
@cases_option
@json_option
def compare(
    first: str,
    second: str,
    *,
    walls: Walls,
    confirms: bool,
    cases: Path,
    as_json: bool,
    **values: Any,
) -> NoReturn:
    """Search for commands after which A and B differ, and make each case short.

    A and B are dialects (qemu-7.2) or builds: a release (10.0), a name, a path or a command line.
    Status 0: nothing was found in the time (20 s, or --budget); 1: they differ; 3: they differ, and
    a build does not do what its dialect says; 4: nothing was found, but some sequences left the
    spec.
    """
    from checker.search.confirm import Confirmation  # noqa: PLC0415

    plan = _Plan.of(**values)
    check_directory(cases)
    one, other, opened = _open_both(first, second, walls, exhaustive=plan.exhaustive)
    for subject in (one, other):
        tell_note(subject)
    if one.real or other.real or confirms:
        for note in doctoring.notes_on(walls):
            tell(f"reopencheck: {note}")
    invocation = f"reopencheck compare {first!r} {second!r} {plan.options()}"
    journal = Journal(cases, invocation)
    results = Results([], [], recovered(journal))
    keeper = _Keeper(one, other, plan.seed, invocation, cases, journal)
    ended = Ended()
    with noting(ended), opened, noting(ended):
        result = plan.carry_out(one, other, keeper.keep)
        results.rows += (
            Row(each, keeper.files.get(each.signature, ""), Confirmation())
            for _way, group in result.rows()
            for each in group
        )
        if confirms and not result.interrupted and not result.trouble:
            _confirm(results, one, other, walls)
    result = attrs.evolve(
        result,
        interrupted=result.interrupted or ended.interrupted,
        trouble=result.trouble or ended.trouble,
    )
    _tell(result, results, journal, exhaustive=plan.exhaustive, as_json=as_json)


@attrs.frozen
class _Plan:
    """What is tried: a scope as a whole, and then traces, unless the scope is all (exhaustive)."""

    exhaustive: bool
    scope: Scope
    budget: float
    steps: int
    examples: int | None
    seed: int

    @classmethod
    def of(
        cls,
        *,
        exhaustive: bool,
        images: int | None,
        depth: int | None,
        budget: float | None,
        steps: int,
        examples: int | None,
        seed: int | None,
    ) -> _Plan:
        """The plan that the options of the command line describe; None where one is not given."""
        from checker.search.breadth_first import Scope  # noqa: PLC0415
        from checker.search.distinguish import SMALL  # noqa: PLC0415  # Hypothesis: 0.3 s

        if not exhaustive and (images or depth):
            raise click.UsageError("--images and --depth are for --exhaustive")
        scope = Scope(images or _IMAGES, depth or _DEPTH) if exhaustive else SMALL
        if budget is None:
            budget = _FOR_EVER if exhaustive else _BUDGET
        seed = any_seed() if seed is None else seed
        return cls(exhaustive, scope, budget, steps, examples, seed)

    def options(self) -> str:
        """The options with which the command line does the same again."""
        if self.exhaustive:
            return f"--exhaustive --images {self.scope.images} --depth {self.scope.depth}"
        return f"--steps {self.steps} --seed {self.seed}"

    def carry_out(
        self, one: Subject, other: Subject, keep: Callable[[Distinction], None]
    ) -> Comparison:
        """Search for what tells two subjects apart; ``keep`` is told of it at once."""
        from checker.search.distinguish import run_compare  # noqa: PLC0415

        return run_compare(
            one,
            other,
            iter(()) if self.exhaustive else self._generators((one.dialect, other.dialect)),
            seed=self.seed,
            budget=self.budget,
            scope=self.scope,
            keep=keep,
            progress=(lambda found: tell(f"  {scope(found)}")) if self.exhaustive else None,
        )

    def _generators(self, dialects: tuple[Dialect, Dialect]) -> Iterator[Generator]:
        """Some examples for one side, then some for the other, with ever new seeds."""
        from checker.runs.generate import examples as make  # noqa: PLC0415  # Hypothesis: 0.3 s

        left = self.examples
        for number, dialect in zip(itertools.count(), itertools.cycle(dialects), strict=False):
            count = _AT_A_TIME if left is None else min(_AT_A_TIME, left)
            if not count:
                return
            yield make(dialect, Amount(count, self.steps, self.seed + number))
            left = None if left is None else left - count


def _tell(
    result: Comparison, results: Results, journal: Journal, *, exhaustive: bool, as_json: bool
) -> NoReturn:
    """Print what was found, and exit with the status that it has."""
    telling = Telling(result.trouble)
    telling.attempt(
        lambda: (
            document(as_document(result, results))
            if as_json
            else show(result, results, exhaustive=exhaustive)
        )
    )
    journal.end(told=telling.told)
    telling.end(_status(result, results, exhaustive=exhaustive))


def _status(result: Comparison, results: Results, *, exhaustive: bool) -> int:
    # What was not wholly tried is no proof.
    whole = not exhaustive or (result.explored is not None and result.explored.whole)
    differ = bool(results.rows or results.recovered)
    # An end before its time is told as such; one in its time without the whole scope is a failure.
    if any(row.confirmation.problems for row in results.rows) and not result.interrupted:
        return UNCONFIRMED
    return status(
        failed=differ or not (whole or result.trouble),
        interrupted=result.interrupted,
        trouble=bool(result.trouble or result.disturbed),
        outside=bool(result.outside),
    )


def tell_note(subject: Subject) -> None:
    """Say which dialect stands in for a build that has none of its own."""
    note = getattr(subject, "note", "")
    if note:
        tell(f"reopencheck: {note}")


def _open_both(
    first: str, second: str, walls: Walls, *, exhaustive: bool
) -> tuple[Subject, Subject, ExitStack]:
    """The two that are compared, and what closes them."""
    from checker.search.subjects import find_subject  # noqa: PLC0415

    with ExitStack() as opening:
        subjects = []
        for name in (first, second):
            subjects.append(find_subject(name, walls))
            opening.callback(subjects[-1].close)
        one, other = _with_names(subjects[0], subjects[1], (first, second))
        if exhaustive and (one.real or other.real):
            raise click.UsageError("--exhaustive compares dialects only")
        return one, other, opening.pop_all()


def _with_names(one: Subject, other: Subject, given: tuple[str, str]) -> tuple[Subject, Subject]:
    """Two builds of one version are called as they were given."""
    from checker.search.subjects import Daemon  # noqa: PLC0415

    if isinstance(one, Daemon) and isinstance(other, Daemon) and one.name == other.name:
        one.name, other.name = (f"{one.build.version} ({name})" for name in given)
    return one, other


class _Keeper:
    """Writes a case for what is found, at once and again when there is a shorter one."""

    def __init__(
        self,
        first: Subject,
        second: Subject,
        seed: int,
        invocation: str,
        directory: Path,
        journal: Journal,
    ) -> None:
        self._subjects = first, second
        self._seed = seed
        self._provenance = {"found-by": invocation, "compared": f"{first.name} | {second.name}"}
        self._directory = directory
        self._journal = journal
        self.files: dict[str, str] = {}

    def keep(self, found: Distinction) -> None:
        """Write it down, and say so."""
        from checker.search.distinguish import as_finding  # noqa: PLC0415

        case = from_finding(as_finding(found, *self._subjects, self._seed), self._provenance)
        self._journal.add(case)
        self.files[found.signature] = str(write(case, self._directory))
        tell(f"  {commands(found.length)}: {found.title}")


def _confirm(results: Results, one: Subject, other: Subject, walls: Walls) -> None:
    """Replay each row on real builds; notes on those that are missing."""
    from checker.search.confirm import builds_of, confirm  # noqa: PLC0415

    if results.rows:
        with builds_of(one, other, walls=walls) as (builds, notes):
            results.notes += notes
            for number, row in enumerate(results.rows):
                results.rows[number] = attrs.evolve(row, confirmation=confirm(row.found, builds))

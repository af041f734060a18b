# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that ask dialects and builds alike: compare and options."""

from __future__ import annotations

import itertools
import textwrap
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click
from model.release.translation import translated

from checker import doctor as doctoring
from checker.case import from_finding, write
from checker.console import finding_lines, times
from checker.ending import Ended, Telling, noting, recovered, status
from checker.journal import Journal
from checker.options import (
    DEFAULT_DIALECT,
    UNCONFIRMED,
    any_seed,
    budget_option,
    cases_option,
    document,
    json_option,
    say,
    seed_option,
    steps_option,
    tell,
    trust_option,
)
from checker.output import check_directory
from checker.tally import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from model.release.dialect import Dialect
    from model.release.schema import Schema
    from model.values.trace import Json, Observation, Trace

    from checker.confirming import Confirmation
    from checker.diff import Generator
    from checker.differing import Distinction
    from checker.distinguish import Comparison
    from checker.exhaustive import Explored
    from checker.giving import Trial, Untried
    from checker.parties import Party
    from reports.values import Finding
    from targets.walls import Walls

_AT_A_TIME = 40
"""Examples that are written for one side before it is the other's turn."""
_BUDGET = 20.0
_FOR_EVER = 1e9
_IMAGES, _DEPTH = 2, 4


@attrs.frozen
class _Row:
    """A distinction with its case, and what real builds showed of it."""

    found: Distinction
    case: str
    confirmation: Confirmation


@attrs.define
class _Told:
    """What a comparison has to tell: its rows, notes on them, and what killed runs have left."""

    rows: list[_Row]
    notes: list[str]
    recovered: list[Finding]


@click.command(short_help="Search for sequences that tell A and B apart.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@trust_option
@budget_option
@steps_option
@click.option("--examples", type=click.IntRange(min=1), metavar="N", help="Stop after N traces.")
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
    budget: float | None,
    steps: int,
    examples: int | None,
    seed: int | None,
    exhaustive: bool,
    images: int | None,
    depth: int | None,
    confirms: bool,
    cases: Path,
    as_json: bool,
) -> NoReturn:
    """Search for sequences that tell A and B apart, and make each as short as can be.

    A and B are dialects (qemu-7.2) or builds: a release (10.0), a name, a path or a command line.
    Status 0: nothing was found in the time (20 s, or --budget); 1: they differ; 3: they differ, and
    a build does not do what its dialect says; 4: nothing was found, but some sequences left the
    spec.
    """
    from checker.confirming import Confirmation  # noqa: PLC0415
    from checker.distinguish import SMALL, run_compare  # noqa: PLC0415  # Hypothesis: 0.3 s
    from checker.exhaustive import Scope  # noqa: PLC0415

    if not exhaustive and (images or depth):
        raise click.UsageError("--images and --depth are for --exhaustive")
    check_directory(cases)
    chosen = any_seed() if seed is None else seed
    one, other, opened = _open_both(first, second, walls, exhaustive=exhaustive)
    for party in (one, other):
        tell_note(party)
    if one.real or other.real or confirms:
        for note in doctoring.notes_on(walls):
            tell(f"reopencheck: {note}")
    invocation = f"reopencheck compare {first!r} {second!r}"
    scope = SMALL
    if exhaustive:
        scope = Scope(images or _IMAGES, depth or _DEPTH)
        invocation += f" --exhaustive --images {scope.images} --depth {scope.depth}"
    else:
        invocation += f" --steps {steps} --seed {chosen}"
    journal = Journal(cases, invocation)
    left = recovered(journal)
    keeper = _Keeper(one, other, chosen, invocation, cases, journal)
    dialects = (one.dialect, other.dialect)
    if budget is None:
        budget = _FOR_EVER if exhaustive else _BUDGET
    told = _Told([], [], left)
    ended = Ended()
    with noting(ended), opened, noting(ended):
        result = run_compare(
            one,
            other,
            iter(()) if exhaustive else _generators(dialects, steps, chosen, examples),
            seed=chosen,
            budget=budget,
            scope=scope,
            keep=keeper.keep,
            progress=(lambda explored: tell(f"  {_scope(explored)}")) if exhaustive else None,
        )
        told.rows += (
            _Row(each, keeper.files.get(each.signature, ""), Confirmation())
            for _way, group in result.rows()
            for each in group
        )
        if confirms and not result.interrupted and not result.trouble:
            _confirm(told, one, other, walls)
    result = attrs.evolve(
        result,
        interrupted=result.interrupted or ended.interrupted,
        trouble=result.trouble or ended.trouble,
    )
    _tell_result(result, told, journal, exhaustive=exhaustive, as_json=as_json)


def _tell_result(
    result: Comparison, told: _Told, journal: Journal, *, exhaustive: bool, as_json: bool
) -> NoReturn:
    """Print what was found, and exit with the status that it has."""
    telling = Telling(result.trouble)
    telling.attempt(
        lambda: (
            document(_document(result, told))
            if as_json
            else _show(result, told, exhaustive=exhaustive)
        )
    )
    journal.end(told=telling.told)
    telling.end(_status(result, told, exhaustive=exhaustive))


def _status(result: Comparison, told: _Told, *, exhaustive: bool) -> int:
    # What was not wholly tried is no proof.
    whole = not exhaustive or (result.explored is not None and result.explored.whole)
    differ = bool(told.rows or told.recovered)
    # An end before its time is told as such; one in its time without the whole scope is a failure.
    if any(row.confirmation.problems for row in told.rows) and not result.interrupted:
        return UNCONFIRMED
    return status(
        failed=differ or not (whole or result.trouble),
        interrupted=result.interrupted,
        trouble=bool(result.trouble or result.disturbed),
        outside=bool(result.outside),
    )


def tell_note(party: Party) -> None:
    """Say which dialect stands in for a build that has none of its own."""
    note = getattr(party, "note", "")
    if note:
        tell(f"reopencheck: {note}")


def _open_both(
    first: str, second: str, walls: Walls, *, exhaustive: bool
) -> tuple[Party, Party, ExitStack]:
    """The two that are compared, and what closes them."""
    from checker.parties import find_party  # noqa: PLC0415

    with ExitStack() as opening:
        parties = []
        for name in (first, second):
            parties.append(find_party(name, walls))
            opening.callback(parties[-1].close)
        one, other = _told_apart(parties[0], parties[1], (first, second))
        if exhaustive and (one.real or other.real):
            raise click.UsageError("--exhaustive compares dialects only")
        return one, other, opening.pop_all()


def _told_apart(one: Party, other: Party, given: tuple[str, str]) -> tuple[Party, Party]:
    """Two builds of one version are called as they were given."""
    from checker.parties import Daemon  # noqa: PLC0415

    if isinstance(one, Daemon) and isinstance(other, Daemon) and one.name == other.name:
        one.name, other.name = (f"{one.build.version} ({name})" for name in given)
    return one, other


class _Keeper:
    """Writes a case for what is found, at once and again when there is a shorter one."""

    def __init__(
        self,
        first: Party,
        second: Party,
        seed: int,
        invocation: str,
        directory: Path,
        journal: Journal,
    ) -> None:
        self._parties = first, second
        self._seed = seed
        self._provenance = {"found-by": invocation, "compared": f"{first.name} | {second.name}"}
        self._directory = directory
        self._journal = journal
        self.files: dict[str, str] = {}

    def keep(self, found: Distinction) -> None:
        """Write it down, and say so."""
        from checker.distinguish import as_finding  # noqa: PLC0415

        case = from_finding(as_finding(found, *self._parties, self._seed), self._provenance)
        self._journal.add(case)
        self.files[found.signature] = str(write(case, self._directory))
        tell(f"  {_commands(found.length)}: {found.title}")


def _commands(count: int) -> str:
    return "1 command" if count == 1 else f"{count} commands"


def _generators(
    dialects: tuple[Dialect, Dialect], steps: int, seed: int, examples: int | None
) -> Iterator[Generator]:
    """Some examples for one side, then some for the other, with ever new seeds."""
    from checker.generate import examples as make  # noqa: PLC0415  # Hypothesis costs 0.3 s

    left = examples
    for number, dialect in zip(itertools.count(), itertools.cycle(dialects), strict=False):
        count = _AT_A_TIME if left is None else min(_AT_A_TIME, left)
        if not count:
            return
        yield make(dialect, Amount(count, steps, seed + number))
        left = None if left is None else left - count


def _confirm(told: _Told, one: Party, other: Party, walls: Walls) -> None:
    """Replay each row on real builds; notes on those that are missing."""
    from checker.confirming import builds_of, confirm  # noqa: PLC0415

    if told.rows:
        with builds_of(one, other, walls=walls) as (builds, notes):
            told.notes += notes
            for number, row in enumerate(told.rows):
                told.rows[number] = attrs.evolve(row, confirmation=confirm(row.found, builds))


def _show(result: Comparison, told: _Told, *, exhaustive: bool) -> None:
    say(
        f"compare {result.first} {result.second}: "
        + ("" if exhaustive else f"seed {result.seed}, {result.examples} examples, ")
        + f"{result.seconds:.0f} s"
    )
    for line in _remarks(result, told):
        say(f"  {line}")
    for way, found in result.rows():
        say()
        say(way.told(result.first, result.second))
        for row in told.rows:
            if row.found.way is way and row.found in found:
                _show_row(result, row)
    for finding in told.recovered:
        for line in finding_lines("recovered from an earlier run", finding):
            say(line)
    say()
    count = len(told.rows)
    if count:
        say("1 difference" if count == 1 else f"{count} differences")
    elif exhaustive and result.explored is not None and result.explored.whole:
        say(f"{result.first} and {result.second} agree in this scope")
    else:
        say("no difference")
    unconfirmed = sum(bool(row.confirmation.problems) for row in told.rows)
    if unconfirmed:
        say(f"{unconfirmed} not confirmed: there the spec is not what QEMU does")


def _remarks(result: Comparison, told: _Told) -> Iterator[str]:
    """What is to be said of the search before what it found."""
    if result.explored is not None:
        yield _scope(result.explored)
    yield from result.left_out()
    yield from told.notes
    if result.interrupted or result.trouble:
        why = "interrupted" if result.interrupted else "ended early"
        yield f"{why}: this is what was found so far"


def _show_row(result: Comparison, row: _Row) -> None:
    found = row.found
    say(f"  {found.title}")
    shortest = ", none shorter in the scope" if result.shown_shortest(found) else ""
    seen = f"; seen {times(found.occurrences)}" if result.examples else ""
    say(f"      {found.rules[0]} | {found.rules[1]}; {_commands(found.length)}{shortest}{seen}")
    for line in row.confirmation.told():
        say(f"      {line}")
    say(f"      {row.case}")


def _images(explored: Explored) -> str:
    return "1 image" if explored.scope.images == 1 else f"{explored.scope.images} images"


def _scope(explored: Explored) -> str:
    """What was tried without leaving anything out, in words."""
    tried = f"{explored.transitions} commands in {explored.states} states, {explored.seconds:.1f} s"
    if explored.broken:
        tried += f"; the spec broke at {explored.broken} of them"
    if explored.exhausted:
        return f"every sequence over {_images(explored)} was tried ({tried})"
    whole = f"every sequence of up to {_commands(explored.complete)}"
    at_end = explored.complete == explored.scope.depth
    beyond = "" if at_end else f", and some of {explored.complete + 1}"
    return f"{whole} over {_images(explored)} was tried{beyond} ({tried})"


def _document(result: Comparison, told: _Told) -> Json:
    return {
        "first": result.first,
        "second": result.second,
        "seed": result.seed,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "interrupted": result.interrupted,
        "trouble": result.trouble,
        "explored": None if result.explored is None else result.explored.as_json(),
        "wobbles": result.wobbles,
        "outside": result.outside,
        "disturbed": result.disturbed,
        "notes": told.notes,
        "differences": [
            {
                "way": row.found.way.told(result.first, result.second),
                "signature": row.found.signature,
                "title": row.found.title,
                "rules": list(row.found.rules),
                "commands": row.found.length,
                "none-shorter-in-scope": result.shown_shortest(row.found),
                "occurrences": row.found.occurrences,
                "confirmation": row.confirmation.as_json(),
                "case": row.case,
            }
            for row in told.rows
        ],
        "recovered": [finding.as_json() for finding in told.recovered],
    }


@click.command(short_help="Try what becomes of every option when a node is reopened.")
@click.argument("party", metavar="[A]", default=DEFAULT_DIALECT)
@click.option("--driver", "drivers", multiple=True, metavar="D", help="Only this one. Repeatable.")
@trust_option
@json_option
def options(party: str, *, walls: Walls, drivers: tuple[str, ...], as_json: bool) -> NoReturn:
    """Try every option of every driver: what becomes of it when a node is reopened.

    A is a dialect or a build, as for compare. Each option is given to blockdev-add, and the node
    reopened once with the very same options and once without this one. An option that a child
    inherits from its parent, or has of its own, is also tried with a reopen of the other node.
    """
    from checker.giving import trials  # noqa: PLC0415
    from checker.parties import Model, find_party  # noqa: PLC0415
    from checker.verdicts import shown_by, undisturbed  # noqa: PLC0415
    from targets import schema_import  # noqa: PLC0415
    from targets.pool import Target  # noqa: PLC0415

    side = find_party(party, walls)
    found: list[Trial | Untried] = []
    ended = Ended()
    with ExitStack() as opening:
        show: Callable[[Trace], Sequence[Observation]]
        if isinstance(side, Model):
            types: Mapping[str, Any] = side.dialect.schema.types
            show = side.observe
        else:
            build = side.build
            types = schema_import.import_schema(build.argv, build.program, walls)["types"]
            target = opening.enter_context(Target(build))
            shown = shown_by(undisturbed(target.run), undisturbed(target.confirm))
            show = partial(_translated_for, side.dialect.schema, shown)
        unknown = [each for each in drivers if each not in types["blockdev-add.arg"]["variants"]]
        if unknown:
            raise click.UsageError(f"{side.name} has no driver {unknown[0]!r}")
        opened = opening.pop_all()
    with noting(ended), opened, noting(ended):
        for each in trials(types, show, drivers or None):
            found.append(each)  # noqa: PERF402  # one by one: what ends the run loses none
    telling = Telling(ended.trouble)
    telling.attempt(
        lambda: (
            document(_options_document(side.name, found, ended))
            if as_json
            else _show_options(side.name, found, ended)
        )
    )
    telling.end(
        status(failed=False, interrupted=ended.interrupted, trouble=bool(ended.trouble)),
    )


def _translated_for(
    schema: Schema, shown: Callable[[Trace], Sequence[Observation]], trace: Trace
) -> Sequence[Observation]:
    """What a build shows of a trace that is put in the words of its release."""
    return shown(translated(trace, schema))


def _options_document(name: str, found: Sequence[Trial | Untried], ended: Ended) -> Json:
    from checker.giving import Trial  # noqa: PLC0415

    return {
        "party": name,
        "interrupted": ended.interrupted,
        "trouble": ended.trouble,
        "trials": [each.as_json() for each in found if isinstance(each, Trial)],
        "untried": [each.as_json() for each in found if not isinstance(each, Trial)],
    }


def _show_options(name: str, found: Sequence[Trial | Untried], ended: Ended) -> None:
    from checker.giving import HOWS, Trial, grouped  # noqa: PLC0415

    tried = [each for each in found if isinstance(each, Trial)]
    untried = [each for each in found if not isinstance(each, Trial)]
    last = ""
    for group in grouped(tried):
        if group.how != last:
            say(f"{HOWS[group.how]}:")
            last = group.how
        say(f"  {group.outcome}")
        for line in textwrap.wrap(", ".join(group.options), 100, break_on_hyphens=False):
            say(f"      {line}")
    for title, refuses in (("never reopened", True), ("not tried", False)):
        say(f"{title}:")
        for each in untried:
            if each.refuses is refuses:
                say(f"  {' '.join(filter(None, (each.driver, each.option)))}: {each.why}")
    say(f"{len(tried)} reopens of {name}; those that are not told left everything as it was")
    if ended.interrupted or ended.trouble:
        why = "interrupted" if ended.interrupted else "ended early"
        say(f"{why}: this is what was found so far")

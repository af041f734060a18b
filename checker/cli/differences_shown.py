# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and machines read of a comparison of two subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.cli.options import say
from checker.cli.progress import finding_lines, times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker.compare.differences import Distinction
    from checker.search.breadth_first import Explored
    from checker.search.confirm import Confirmation
    from checker.search.distinguish import Comparison
    from model.values.trace import Json
    from reports.values import Finding


@attrs.frozen
class Row:
    """A distinction with its case, and what real builds showed of it."""

    found: Distinction
    case: str
    confirmation: Confirmation


@attrs.define
class Results:
    """What a comparison has found: its rows, notes on them, and what killed runs have left."""

    rows: list[Row]
    notes: list[str]
    recovered: list[Finding]


def commands(count: int) -> str:
    """So many commands, in words."""
    return "1 command" if count == 1 else f"{count} commands"


def show(result: Comparison, results: Results, *, exhaustive: bool) -> None:
    """Print what was found, for people."""
    say(
        f"compare {result.first} {result.second}: "
        + ("" if exhaustive else f"seed {result.seed}, {result.examples} examples, ")
        + f"{result.seconds:.0f} s"
    )
    for line in _remarks(result, results):
        say(f"  {line}")
    for way, found in result.rows():
        say()
        say(way.told(result.first, result.second))
        for row in results.rows:
            if row.found.way is way and row.found in found:
                _show_row(result, row)
    for finding in results.recovered:
        for line in finding_lines("recovered from an earlier run", finding):
            say(line)
    say()
    count = len(results.rows)
    if count:
        say("1 difference" if count == 1 else f"{count} differences")
    elif exhaustive and result.explored is not None and result.explored.whole:
        say(f"{result.first} and {result.second} agree in this scope")
    else:
        say("no difference")
    unconfirmed = sum(bool(row.confirmation.problems) for row in results.rows)
    if unconfirmed:
        say(f"{unconfirmed} not confirmed: there the spec is not what QEMU does")


def _remarks(result: Comparison, results: Results) -> Iterator[str]:
    """What is to be said of the search before what it found."""
    if result.explored is not None:
        yield scope(result.explored)
    yield from result.left_out()
    yield from results.notes
    if result.interrupted or result.trouble:
        why = "interrupted" if result.interrupted else "ended early"
        yield f"{why}: this is what was found so far"


def _show_row(result: Comparison, row: Row) -> None:
    found = row.found
    say(f"  {found.title}")
    shortest = ", none shorter in the scope" if result.shown_shortest(found) else ""
    seen = f"; seen {times(found.occurrences)}" if result.examples else ""
    say(f"      {found.rules[0]} | {found.rules[1]}; {commands(found.length)}{shortest}{seen}")
    for line in row.confirmation.told():
        say(f"      {line}")
    say(f"      {row.case}")


def _images(explored: Explored) -> str:
    return "1 image" if explored.scope.images == 1 else f"{explored.scope.images} images"


def scope(explored: Explored) -> str:
    """What was tried without leaving anything out, in words."""
    tried = f"{explored.transitions} commands in {explored.states} states, {explored.seconds:.1f} s"
    if explored.broken:
        tried += f"; the spec broke at {explored.broken} of them"
    if explored.exhausted:
        return f"every sequence over {_images(explored)} was tried ({tried})"
    whole = f"every sequence of up to {commands(explored.complete)}"
    at_end = explored.complete == explored.scope.depth
    beyond = "" if at_end else f", and some of {explored.complete + 1}"
    return f"{whole} over {_images(explored)} was tried{beyond} ({tried})"


def as_document(result: Comparison, results: Results) -> Json:
    """What was found, for machines."""
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
        "notes": results.notes,
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
            for row in results.rows
        ],
        "recovered": [finding.as_json() for finding in results.recovered],
    }

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that tells two dialects apart: compare."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from checker.case import from_finding, write
from checker.options import (
    FAILED,
    HELD,
    INTERRUPTED,
    any_seed,
    budget_option,
    cases_option,
    document,
    json_option,
    say,
    steps_option,
    tell,
)
from checker.output import check_directory
from checker.tally import Amount
from model.dialects import find_dialect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checker.diff import Generator
    from checker.distinguish import Comparison, Distinction
    from model.dialect import Dialect
    from model.trace import Json

_AT_A_TIME = 40
"""Examples that are written for one side before it is the other's turn."""
_BUDGET = 60.0


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@budget_option
@steps_option
@click.option("--examples", type=click.IntRange(min=1), metavar="N", help="End after this many.")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Repeats a search.")
@cases_option
@json_option
def compare(
    first: str,
    second: str,
    *,
    budget: float | None,
    steps: int,
    examples: int | None,
    seed: int | None,
    cases: Path,
    as_json: bool,
) -> NoReturn:
    """Search for sequences that tell dialects A and B apart, and make each as short as can be.

    Status 0: nothing was found in the time (60 s, or --budget); 1: they differ.
    """
    from checker.distinguish import run_compare  # noqa: PLC0415  # Hypothesis costs 0.3 s

    one, other = find_dialect(first), find_dialect(second)
    check_directory(cases)
    chosen = any_seed() if seed is None else seed
    invocation = f"reopencheck compare {first} {second} --steps {steps} --seed {chosen}"
    files: dict[str, str] = {}

    def keep(found: Distinction) -> None:
        case = from_finding(
            found.as_finding(one.name, other.name, chosen), {"found-by": invocation}
        )
        files[found.signature] = str(write(case, cases))
        tell(f"  {found.length} commands: {found.title}")

    result = run_compare(
        one,
        other,
        _generators((one, other), steps, chosen, examples),
        seed=chosen,
        budget=_BUDGET if budget is None else budget,
        keep=keep,
    )
    if as_json:
        document(_document(result, files))
    else:
        _show(result, files)
    if result.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(FAILED if result.distinctions else HELD)


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


def _show(result: Comparison, files: dict[str, str]) -> None:
    say(
        f"compare {result.first} {result.second}: seed {result.seed}, {result.examples} examples, "
        f"{result.seconds:.0f} s"
    )
    for way, found in result.rows():
        say()
        say(way.told(result.first, result.second))
        for each in found:
            say(f"  {each.title}")
            say(
                f"      {each.rules[0]} | {each.rules[1]}; {each.length} commands, "
                f"seen in {each.occurrences} traces"
            )
            say(f"      {files[each.signature]}")
    say()
    say(f"{len(result.distinctions)} differences" if result.distinctions else "no difference")


def _document(result: Comparison, files: dict[str, str]) -> Json:
    return {
        "first": result.first,
        "second": result.second,
        "seed": result.seed,
        "examples": result.examples,
        "seconds": round(result.seconds, 3),
        "interrupted": result.interrupted,
        "differences": [
            {
                "way": way.told(result.first, result.second),
                "signature": each.signature,
                "title": each.title,
                "rules": list(each.rules),
                "commands": each.length,
                "occurrences": each.occurrences,
                "case": files[each.signature],
            }
            for way, found in result.rows()
            for each in found
        ],
    }

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that tries out what becomes of options: options."""

from __future__ import annotations

import textwrap
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from checker.cli.ending import Telling, status
from checker.cli.options import DEFAULT_DIALECT, document, json_option, say, trust_option
from checker.trouble import Ended, noting
from model.release.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from checker.search.option_trials import Trial, Untried
    from model.release.schema import Schema
    from model.values.trace import Json, Observation, Trace
    from targets.walls.standing import Walls


@click.command(short_help="Show what happens to every option when a node is reopened.")
@click.argument("subject", metavar="[A]", default=DEFAULT_DIALECT)
@click.option("--driver", "drivers", multiple=True, metavar="D", help="Only this one. Repeatable.")
@trust_option
@json_option
def options(subject: str, *, walls: Walls, drivers: tuple[str, ...], as_json: bool) -> NoReturn:
    """Try every option of every driver: what happens to it when a node is reopened.

    A is a dialect or a build, as for compare. Each option is given to blockdev-add, and the node
    reopened once with the very same options and once without this one. An option that a child
    inherits from its parent, or has of its own, is also tried with a reopen of the other node.
    """
    from checker.compare.seen_again import shown_by, undisturbed  # noqa: PLC0415
    from checker.search.option_trials import trials  # noqa: PLC0415
    from checker.search.subjects import Model, find_subject  # noqa: PLC0415
    from targets.daemons.target import Target  # noqa: PLC0415
    from targets.schemas import importing  # noqa: PLC0415

    side = find_subject(subject, walls)
    found: list[Trial | Untried] = []
    ended = Ended()
    with ExitStack() as opening:
        show: Callable[[Trace], Sequence[Observation]]
        if isinstance(side, Model):
            types: Mapping[str, Any] = side.dialect.schema.types
            show = side.observe
        else:
            build = side.build
            types = importing.import_schema(build.argv, build.program, walls)["types"]
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
    from checker.search.option_trials import Trial  # noqa: PLC0415

    return {
        "party": name,
        "interrupted": ended.interrupted,
        "trouble": ended.trouble,
        "trials": [each.as_json() for each in found if isinstance(each, Trial)],
        "untried": [each.as_json() for each in found if not isinstance(each, Trial)],
    }


def _show_options(name: str, found: Sequence[Trial | Untried], ended: Ended) -> None:
    from checker.search.option_trials import HOWS, Trial, grouped  # noqa: PLC0415

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
    say(f"{len(tried)} reopens of {name}; those that are not listed left everything as it was")
    if ended.interrupted or ended.trouble:
        why = "interrupted" if ended.interrupted else "ended early"
        say(f"{why}: this is what was found so far")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that answer at once: replay, rules, doctor and qemu."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import attrs
import click

from checker.cases.case import load, load_known
from checker.cli import doctor as doctoring
from checker.cli.options import (
    DEFAULT_DIALECT,
    FAILED,
    HELD,
    OUTSIDE,
    WRONG,
    document,
    json_option,
    put,
    say,
    tell,
    trust_option,
)
from checker.compare.dialect_of import dialect_for
from checker.compare.observations import MASKS, NORMALISATIONS
from checker.compare.verdict import as_json
from checker.errors import CheckerError
from model.commands.coverage import table
from model.release.dialects import DIALECTS, find_dialect
from model.release.rules import all_rules
from reports.limits import MOST_VALUE
from reports.markdown import reply as reply_line
from reports.outside import render as render_outside
from reports.shown import shown
from targets.builds import debian
from targets.builds.binaries import DAEMON, EMULATOR
from targets.builds.debian import find_build
from targets.errors import TargetError
from targets.gate import allowed_page

if TYPE_CHECKING:
    from checker.runs.replay_case import Replayed
    from model.values.trace import Json
    from targets.walls.standing import Walls


_STATUSES = {"agrees": HELD, "differs": FAILED, "disturbed": WRONG, "outside the spec": OUTSIDE}


def _known_directory() -> Path:
    """Where known issues stand: beside the packages in a checkout, else below the current one."""
    beside = Path(__file__).resolve().parents[2] / "cases" / "known"
    return beside if beside.is_dir() else Path("cases/known")


@click.command()
@click.argument("case_file", metavar="CASE", type=click.Path(path_type=Path))
@click.option("--qemu", metavar="BIN", help="Replay it on this build of QEMU; see diff --help.")
@trust_option
@click.option("--dialect", metavar="D", help="Replay it on the model, in this dialect.")
@json_option
def replay(
    case_file: Path, qemu: str | None, walls: Walls, dialect: str | None, *, as_json: bool
) -> NoReturn:
    """Replay a case on the model, or on a real daemon with --qemu.

    Status 0: every step is answered as the case expects (a case of kind "property": the
    model breaks no law); 1: one is not; 2: each time, something outside ended or stopped the
    daemon; 4: the case leaves the spec, and up to there every step is answered as it expects.
    Where a step does not say what is expected, the model does, in the dialect of the case.
    """
    from checker.compare.seen_again import DisturbedError, undisturbed  # noqa: PLC0415
    from checker.runs.replay_case import check_case, compare_case, disturbed, on_model  # noqa: PLC0415

    if qemu is not None and dialect is not None:
        raise click.UsageError("--qemu and --dialect exclude each other")
    case = load(case_file)
    other_release = ""
    if qemu is not None:
        from targets.daemons.target import Target  # noqa: PLC0415

        build = find_build(qemu, walls)
        for note in doctoring.notes_on(walls):
            tell(f"reopencheck: {note}")
        if dialect_for(build)[0].name != case.dialect:
            other_release = (
                f"the case says what {case.dialect} does, and this is {build.version}:"
                " a difference may be one between releases"
            )
        with Target(build) as target:
            try:
                seen = undisturbed(target.confirm)(case.trace())
            except DisturbedError as error:
                result = disturbed(case, build.text, str(error))
            else:
                result = compare_case(case, build.text, seen.observations, seen.death)
    else:
        chosen = find_dialect(dialect or case.dialect)
        if case.kind == "property":
            from properties import law_for  # noqa: PLC0415

            result = check_case(case, chosen, law_for(chosen))
        else:
            result = on_model(case, chosen)
    if as_json:
        document(result.as_json())
    else:
        _show_replay(result)
    if other_release and result.verdict == "differs":
        tell(f"reopencheck: {other_release}")
    sys.exit(_STATUSES[result.verdict])


def _show_replay(result: Replayed) -> None:
    for number, step in enumerate(result.steps):
        say(shown(f"{number + 1}  {json.dumps(step.command)}", MOST_VALUE))
        say(shown(f"   expected  {reply_line(step.expected)}", MOST_VALUE))
        say(shown(f"   got       {reply_line(step.got)}", MOST_VALUE))
        if result.mismatch is not None and result.mismatch.step == number:
            say(f"   DIFFERS at {result.mismatch.path}:")
            say(shown(f"   expected  {json.dumps(as_json(result.mismatch.expected))}", MOST_VALUE))
            say(shown(f"   got       {json.dumps(as_json(result.mismatch.got))}", MOST_VALUE))
    if result.death is not None:
        death = result.death
        say(f"the daemon died at step {death.step + 1}: {death.kind} {death.signal or ''}".rstrip())
        for line in death.stderr:
            say(f"   {line}")
    if result.violation is not None:
        broken = result.violation
        say(f"step {broken.step + 1} breaks {broken.law}: {broken.text}")
    if result.verdict == "outside the spec" and result.outside is not None:
        say(f"step {result.outside + 1} is outside the spec: {result.subject}")
    if result.verdict == "disturbed":
        say(result.disturbed)
    verdict = "DIFFERS" if result.verdict == "differs" else result.verdict
    say(f"{verdict}: {result.side}")


@click.command(short_help="List the rules of a dialect.")
@click.option(
    "--dialect",
    metavar="D",
    default=DEFAULT_DIALECT,
    show_default=True,
    help="List the rules of this release or proposal.",
)
@click.option("--outside", is_flag=True, help="Print the page of what is outside the spec.")
@click.option("--allowed", is_flag=True, help="Print the page of what a trace may contain.")
@json_option
def rules(dialect: str, *, outside: bool, allowed: bool, as_json: bool) -> None:
    """List the rules of a dialect: what each decides, in a sentence, and where it comes from.

    What is outside the spec, in all releases, is no rule of a dialect and has a page of its own.
    So has what a trace may hold at all, for which there is no --json.
    """
    if allowed:
        if outside or as_json:
            raise click.UsageError("--allowed excludes --outside and --json")
        click.echo(allowed_page.page(), nl=False)
        return
    if outside:
        _tell_outside(as_json=as_json)
        return
    chosen = find_dialect(dialect)
    every = chosen.rules()
    if as_json:
        listed = [attrs.asdict(rule) for rule in every]
        document({"dialect": chosen.name, "rules_total": len(every), "rules": listed})
        return
    for rule in every:
        say(f"{rule.id} ({rule.kind})")
        say(f"    {rule.sentence}")
        if rule.text:
            say(f"    says: {chosen.texts.get(rule.id, rule.text)}")
        if rule.unreachable:
            say(f"    no client gets there: {rule.unreachable}")
        say(f"    from: {rule.source}")
    guards = sum(rule.kind == "guard" for rule in every)
    ends = sum(rule.kind == "outside" for rule in all_rules())
    say(f"{ends} more say where the spec ends, in all dialects: reopencheck rules --outside")
    say(f"{len(every)} rules of {chosen.name}, {guards} of them can refuse")


def _tell_outside(*, as_json: bool) -> None:
    tables = {name: table(dialect.schema) for name, dialect in DIALECTS.items()}
    if not as_json:
        put(render_outside(tables, all_rules()).rstrip("\n"))
        return
    document(
        {
            name: [attrs.asdict(entry) for entry in entries if entry.kind != "used"]
            for name, entries in tables.items()
        }
    )


@click.command(short_help="Say what was found and what is missing.")
@click.option("--masks", is_flag=True, help="List what is not compared, and every hazard.")
@json_option
def doctor(*, masks: bool, as_json: bool) -> NoReturn:
    """Say what was found, which release it is, and what is missing.

    Status 2 if a program or package is missing. A wall that does not work here changes no status.
    """
    known = load_known(_known_directory())
    hazards = [rule for rule in all_rules() if rule.kind == "hazard"]
    count = (
        f"{len(MASKS)} masks, {len(NORMALISATIONS)} normalisations and {len(hazards)} hazards"
        " are all the exceptions of the comparison"
    )
    if masks and not as_json:
        for mask in MASKS:
            say(f"mask    {mask.member}: {mask.reason}")
        for rid in NORMALISATIONS:
            say(f"without {rid.what}: {rid.reason}")
        for hazard in hazards:
            say(f"{hazard.id}: {hazard.sentence}")
            say(f"        {hazard.source}")
            say(f"        shown by {', '.join(known.get(hazard.id, ['no case here']))}")
        say(count)
        sys.exit(HELD)
    every = doctoring.parts()
    walls = doctoring.walls()
    if as_json:
        document(doctoring.as_json(every, known, walls))
    else:
        for part in every:
            say(f"{'ok      ' if part.present else 'MISSING '} {part.name}: {part.found}")
            if not part.present:
                say(f"         get it with: {part.hint}")
        for wall in walls:
            say(f"{'wall    ' if wall.stands else 'NO WALL '} {wall.name}: {wall.keeps}")
            if not wall.stands:
                say(f"         {wall.why}; {wall.hint}" if wall.hint else f"         {wall.why}")
        say(f"{count}; doctor --masks lists them")
    sys.exit(HELD if all(part.present for part in every) else WRONG)


@click.group()
def qemu() -> None:
    """Work with QEMU builds."""


@qemu.command("import-schema", short_help="Make the schema document of a build.")
@click.argument("binary", metavar="BIN", default=DAEMON)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write there instead of printing.",
)
def import_schema(binary: str, output: Path | None) -> None:
    """Make the schema document of a build of QEMU, as the model reads it."""
    from checker.cases.files import write_atomically  # noqa: PLC0415
    from targets.schemas.importing import import_schema as asked  # noqa: PLC0415
    from targets.schemas.importing import render  # noqa: PLC0415
    from targets.schemas.monitor import SchemaImportError  # noqa: PLC0415

    build = find_build(binary)
    try:
        schema = asked(build.argv, build.program, build.walls)
        text = render(schema)
    except SchemaImportError as error:
        raise CheckerError(f"cannot import the schema of {build.text}: {error}") from None
    if output is None:
        put(text.rstrip("\n"))
    else:
        write_atomically(output, text.encode())
        say(f"{output}: schema of {build.text}")


@qemu.command("install", short_help="Fetch builds of other releases.")
@click.argument("releases", metavar="RELEASE...", nargs=-1, required=True)
def install(releases: tuple[str, ...]) -> None:
    """Fetch builds of other releases from Debian's archive: 5.2, 10.0, 11.1.

    They are unpacked into the user's cache; the system is not changed, and what has been fetched
    already is left alone. After that, --qemu takes the release as a name (--qemu 10.0).
    """
    for release in releases:
        build, new = debian.install(release)
        say(f"{release}: {build.text}, {'now' if new else 'already'} in {debian.cache() / release}")


@qemu.command("list", short_help="List the builds that --qemu can be given.")
@click.argument("binaries", metavar="[BIN]...", nargs=-1)
@json_option
def list_builds(binaries: tuple[str, ...], *, as_json: bool) -> NoReturn:
    """List the builds that --qemu can be given: in PATH, fetched, or named here.

    Status 2 if one that is named here cannot be used.
    """
    rows = [_build_row(name) for name in (DAEMON, EMULATOR, *debian.SOURCES, *binaries)]
    if as_json:
        document({"builds": rows})
    else:
        for row in rows:
            if row["usable"]:
                say(f"ok       {row['name']}: {row['text']}; {row['dialect']}")
            else:
                say(f"MISSING  {row['name']}: {row['text']}")
    named = [row for row in rows if row["name"] in binaries]
    sys.exit(HELD if all(row["usable"] for row in named) else WRONG)


def _build_row(name: str) -> dict[str, Json]:
    try:
        build = find_build(name)
    except TargetError as error:
        return {"name": name, "usable": False, "text": str(error), "dialect": None}
    dialect, note = dialect_for(build)
    return {"name": name, "usable": True, "text": build.text, "dialect": note or dialect.name}

# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of what is outside the spec, made from the table of what it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.sizes import MOST, MOST_MEMORY, MOST_WORK
from model.release.rules import NOT_MODELLED
from model.release.wire import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from model.release.rules import Rule
    from model.release.scope import Entry

_HEAD = f"""# What is outside the spec

Made by `reopencheck rules --outside`; a test holds it against the code.

What the spec does not model gets a reply of its own kind: an error of the class
`{NOT_MODELLED}`, which no QEMU has, its text begins with `reopencheck:`, the state stays as it was,
and `outcome.unmodelled` names the entry below. That is no statement about QEMU. What the schema of
a release refuses, it refuses in the release's own words before.

Every member of every command, driver and object of each release is one of three: *used* by a rule;
*outside*, and listed here; or *inert*, which means that giving it changes nothing that the spec
shows, and listed at the end. Nothing else is accepted.
"""


def render(tables: Mapping[str, Sequence[Entry]], rules: Iterable[Rule]) -> str:
    """The page. ``tables`` has the lines of each release, by the name of its dialect."""
    parts = [_HEAD, *_commands(tables), *_members(tables), *_inert(tables)]
    parts += _limits(rules)
    return "\n".join(parts)


def _merged(tables: Mapping[str, Sequence[Entry]], kind: str) -> dict[str, tuple[Entry, list[str]]]:
    """The lines of a kind by their subjects, each with the releases that have it."""
    found: dict[str, tuple[Entry, list[str]]] = {}
    for name, entries in tables.items():
        for entry in entries:
            if entry.kind == kind:
                found.setdefault(entry.subject, (entry, []))[1].append(name)
    return {
        subject: (entry, names)
        for subject, (entry, names) in sorted(found.items())
        if not _goes_without_saying(entry, found)
    }


def _goes_without_saying(entry: Entry, found: Mapping[str, tuple[Entry, list[str]]]) -> bool:
    """Whether the same is said of the member that this one is within."""
    whole = entry.subject.rpartition(".")[0]
    return whole in found and found[whole][0].reason == entry.reason != ""


def _where(names: list[str], every: int) -> str:
    return "all" if len(names) == every else ", ".join(name.removeprefix("qemu-") for name in names)


def _is_member(subject: str) -> bool:
    return "." in subject


def _commands(tables: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    yield "## Commands, drivers and types as a whole\n"
    yield "| what | releases |\n|---|---|"
    rows: dict[tuple[str, str], list[str]] = {}
    for subject, (_, names) in _merged(tables, "outside").items():
        if not _is_member(subject):
            command, slash, variant = subject.partition("/")
            where = _where(names, len(tables))
            rows.setdefault((command + slash, where), []).append(variant)
    for (command, where), variants in rows.items():
        which = ", ".join(f"`{each}`" for each in variants if each)
        yield f"| `{command}`{' ' if which else ''}{which} | {where} |"
    yield ""


def _members(tables: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    yield "## Members of what is modelled\n"
    yield (
        "A member may be given with the values named, which mean what leaving it out does. Where "
        "it says when, it is taken, and answered as not modelled only then.\n"
    )
    yield "| member | what it is about | taken with | not modelled when | releases |"
    yield "|---|---|---|---|---|"
    for subject, (entry, names) in _merged(tables, "outside").items():
        if _is_member(subject):
            about = entry.about
            values = ", ".join(f"`{_json(each)}`" for each in about.unless) if about else ""
            when = about.when if about else ""
            where = _where(names, len(tables))
            yield f"| `{subject}` | {entry.reason} | {values} | {when} | {where} |"
    yield ""


def _json(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _inert(tables: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    yield "## What changes nothing\n"
    yield (
        "So it was seen on each release: what the generator writes differs freely between the "
        "commands that `diff` compares, and the rest was tried one by one. The options of a node "
        "are kept all the same, and a reopen asks for them.\n"
    )
    yield "| member | why | releases |\n|---|---|---|"
    for subject, (entry, names) in _merged(tables, "inert").items():
        yield f"| `{subject}` | {entry.reason} | {_where(names, len(tables))} |"
    yield ""


def _limits(rules: Iterable[Rule]) -> Iterator[str]:
    yield "## Limits\n"
    yield f"* A request nests at most {DEEPEST} levels deep, which is QEMU's own limit."
    for what, most in MOST.items():
        yield f"* A state has at most {most} {what}."
    yield (
        f"* A command, with the jobs that it sets going, takes at most {MOST_WORK} pieces of work: "
        "requests to a node, and questions to it."
    )
    yield f"* A buffer, a cache or a bitmap takes at most {MOST_MEMORY} bytes."
    yield "\n## The rules that say so\n"
    yield "| rule | what the spec takes for granted |\n|---|---|"
    for rule in rules:
        if rule.kind == "outside":
            yield f"| `{rule.id}` | {rule.sentence} |"
    yield ""

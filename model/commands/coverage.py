# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what the spec covers of a release: its schema, and beside it what the code says.

Nothing here knows a command or a driver by name: which there are is the schema's to say, and what
is done with their members stands beside their code (:mod:`model.release.scope`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs

from model.commands import COMMANDS
from model.release.scope import LISTS, SCOPES, Entry, Outside, Scope, leave_if_any, scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model.release.rules import Evaluation
    from model.release.schema import Schema
    from model.values.trace import Json

_ABOUT_THE_MONITOR = {
    "qmp_capabilities": scope(
        outside={
            "enable": Outside(
                "a monitor with out-of-band commands", ([],), "it is the first command of all"
            )
        }
    ),
    "query-commands": scope(),
    "query-version": scope(),
}
"""What the monitor answers by itself."""


@attrs.frozen(eq=False)
class Coverage:
    """What is done with the members of a command of one release."""

    name: str
    scope: Scope
    tag: str

    def check(self, ev: Evaluation, arguments: Mapping[str, Json]) -> None:
        """Raise ``NotModelledError`` for a member that makes a difference nobody knows."""
        for member, variant in self.scope.beyond(arguments, tag=self.tag):
            leave_if_any(ev, [_subject(self.name, variant, member)])

    def told(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments without those that change nothing."""
        inert = self.scope.inert
        if inert and not inert.keys().isdisjoint(arguments):
            return {key: value for key, value in arguments.items() if key not in inert}
        return arguments


def _subject(command: str, variant: str, member: str) -> str:
    where = f"{command}/{variant}" if variant else command
    return f"{where}.{member}" if member else where


@lru_cache
def coverage_of(schema: Schema) -> dict[str, Coverage]:
    """What is done with the members of each command of a release that is modelled."""
    return {
        name: Coverage(_told(name, kind), scope_of(name), schema.types[kind].get("tag", ""))
        for name, kind in schema.commands.items()
        if (name in COMMANDS or name in _ABOUT_THE_MONITOR) and kind != UNCHECKED
    }


def scope_of(command: str) -> Scope:
    """What a command that is modelled does with its members."""
    known = _ABOUT_THE_MONITOR.get(command)
    return SCOPES[COMMANDS[command]] if known is None else known


def table(schema: Schema) -> list[Entry]:
    """Every command of a release, with every member of those that are modelled, by name."""
    entries = [Entry(name, "outside") for name in schema.other_commands]
    known = coverage_of(schema)
    for name, kind in schema.commands.items():
        if kind == UNCHECKED and name in COMMANDS:
            lines = LISTS.get(COMMANDS[name])
            entries.append(Entry(name, "used"))
            entries += lines(schema.devices) if lines else ()
        elif name in known:
            entries += [Entry(name, "used"), *_command(schema, known[name], kind)]
        else:
            entries.append(Entry(name, "outside"))
    return sorted({entry.subject: entry for entry in entries}.values(), key=lambda e: e.subject)


def _told(command: str, kind: str) -> str:
    """What a command is called in the table: two with the same arguments are told of as one."""
    own = kind.removesuffix(_ARGUMENTS)
    return command if own == kind else own


def _command(schema: Schema, known: Coverage, kind: str) -> Iterator[Entry]:
    for member in _members(schema, kind, ""):
        yield _entry(known, known.scope, "", member)
    if not known.tag:
        return
    variants = schema.types[kind]["variants"]
    tag = next(each for each in schema.types[kind]["members"] if each["name"] == known.tag)
    for case in schema.values(tag["type"]):
        inner = known.scope.variants.get(case)
        yield Entry(_subject(known.name, case, ""), "outside" if inner is None else "used")
        if inner is not None and case in variants:
            for member in _members(schema, variants[case], ""):
                yield _entry(known, inner, case, member)


def _entry(known: Coverage, inner: Scope, variant: str, member: str) -> Entry:
    reason, about = inner.about(member)
    return Entry(_subject(known.name, variant, member), inner.kind(member), reason, about)


def _members(schema: Schema, kind: str, path: str) -> Iterator[str]:
    """The dotted names of all members of a type; nodes within nodes are told of once."""
    description = schema.types.get(kind.strip("[]"), {})
    for inner in description.get("alternate", ()):
        yield from _members(schema, inner, path)
    if kind.strip("[]") == _NODE and path:
        return
    for member in description.get("members", ()):
        name = f"{path}.{member['name']}" if path else member["name"]
        yield name
        yield from _members(schema, member["type"], name)
    if path:
        for case, inner in description.get("variants", {}).items():
            yield from _members(schema, inner, f"{path}/{case}")


UNCHECKED = "any"
"""The type of arguments that no schema checks: what they may be is the command's own business."""
_ARGUMENTS = ".arg"
"""The end of the name of a type of arguments."""
_NODE = "blockdev-add.arg"
"""The type of a node's options."""

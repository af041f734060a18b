# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the gate know every member that any release has in a place that they allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.commands import COMMANDS as MODELLED
from model.release.dialects import DIALECTS
from targets.allowed import (
    COMMANDS,
    DEVICES,
    EXPORTS,
    OBJECT_REFUSED,
    OBJECTS,
)
from targets.block_options import BLOCK, BLOCK_REFUSED, DRIVERS, OPTIONS
from targets.holding import EVERY_OTHER, Kind

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from model.release.schema import Schema

SCHEMAS = [dialect.schema for dialect in DIALECTS.values()]
UNTYPED = {"blockdev-create", "chardev-add", "query-blockstats", "query-iothreads", "query-status",
           "quit"}  # fmt: skip
"""Allowed commands whose arguments no schema document describes: they take nothing else."""
TEXTS = {"name", "text", "file", "short file", "socket", "image", "image for a header"}
NUMBERS = {"number", "any number", "rate"}
FLAGS = {"flag", "false"}
OF_A_STRING = {"str": TEXTS, "bool": FLAGS, "null": {"name", "node", "either"}}
SELECTING = {"driver": DRIVERS, "qom-type": OBJECTS, "type": EXPORTS | {"unix", "null"}}


def unclassified(schema: Schema, kind_of: str, kind: Kind, place: str) -> Iterator[str]:
    """The places below a type that the tables do not know, or take for something else."""
    if kind.name == "either":
        fits = [list(unclassified(schema, kind_of, part, place)) for part in kind.parts]
        branches = schema.types.get(kind_of, {}).get("alternate", [kind_of])
        if branches == [kind_of]:
            yield from min(fits, key=len)
            return
        for branch in branches:
            yield from min(
                (list(unclassified(schema, branch, part, place)) for part in kind.parts), key=len
            )
        return
    if kind_of.startswith("["):
        if kind.name != "list":
            yield f"{place}: a list is taken for {kind.name}"
        else:
            yield from unclassified(schema, kind_of[1:-1], kind.parts[0], f"{place}[]")
    elif kind_of in schema.types:
        yield from _of_type(schema, kind_of, kind, place)
    else:
        expected = OF_A_STRING.get(kind_of, NUMBERS)
        if kind.name not in expected:
            yield f"{place}: {kind_of} is taken for {kind.name}"


def _of_type(schema: Schema, kind_of: str, kind: Kind, place: str) -> Iterator[str]:
    description = schema.types[kind_of]
    if "enum" in description:
        if kind.name not in {"word", "driver", "object type", "export type", "address"}:
            yield f"{place}: a word is taken for {kind.name}"
    elif "alternate" in description:
        for branch in description["alternate"]:
            if branch != "null":
                yield from unclassified(schema, branch, kind, place)
    elif kind.name == "node":
        assert kind_of.startswith("blockdev-add.arg"), place
    elif kind.members is None:
        yield f"{place}: an object is taken for {kind.name}"
    else:
        yield from of_object(schema, kind_of, kind.members, kind.refused, place)


def of_object(
    schema: Schema, kind_of: str, members: Mapping[str, Kind], refused: Container[str], place: str
) -> Iterator[str]:
    """The same of an object's members, those of its variants included."""
    description = schema.types[kind_of]
    for member in description["members"]:
        name = member["name"]
        if name in members:
            yield from unclassified(schema, member["type"], members[name], f"{place}.{name}")
        elif name not in refused:
            yield f"{place}.{name}: in none of the tables"
    chosen = SELECTING.get(description.get("tag", ""))
    for case, variant in description.get("variants", {}).items():
        if chosen is None or case in chosen:
            yield from of_object(schema, variant, members, refused, place)
        else:
            for name in _names(schema, variant):
                if name not in members and name not in refused:
                    yield f"{place}.{name}: in none of the tables"


def _names(schema: Schema, kind_of: str) -> Iterator[str]:
    description = schema.types[kind_of]
    for member in description["members"]:
        yield member["name"]
    for variant in description.get("variants", {}).values():
        yield from _names(schema, variant)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda each: each.name)
def test_every_member_of_every_release_is_in_a_table(schema: Schema) -> None:
    found: list[str] = []
    for command, allowed in COMMANDS.items():
        if command in schema.commands:
            found += (
                of_object(
                    schema, schema.commands[command], allowed.members, allowed.refused, command
                )
                if schema.commands[command] in schema.types
                else []
            )
    assert found == []


def test_a_new_member_is_noticed() -> None:
    """The walk sees members of options, of objects, of inner objects, and a wrong kind."""
    schema = SCHEMAS[1]
    for lost in ("filename", "latency-ns", "cache", "vote-threshold"):
        rest = {name: kind for name, kind in BLOCK.items() if name != lost}
        found = list(of_object(schema, "blockdev-add.arg", rest, BLOCK_REFUSED, "add"))
        assert found
        assert all(f".{lost}: in none" in each for each in found)
    swapped = {**BLOCK, "filename": BLOCK["size"]}
    (found_one, *_) = of_object(schema, "blockdev-add.arg", swapped, BLOCK_REFUSED, "add")
    assert found_one == "add.filename: str is taken for any number"
    without_server = BLOCK_REFUSED - {"server"}
    (server, *_) = of_object(schema, "blockdev-add.arg", BLOCK, without_server, "add")
    assert server == "add.server: in none of the tables"


def test_every_modelled_command_is_allowed() -> None:
    assert MODELLED.keys() <= COMMANDS.keys()


def test_what_no_schema_describes_takes_nothing_else() -> None:
    described = {command for schema in SCHEMAS for command in schema.commands}
    assert COMMANDS.keys() - described == UNTYPED
    for command in UNTYPED:
        members = COMMANDS[command].members
        assert (
            not members
            or COMMANDS[command].refused is EVERY_OTHER
            or set(members) == {"query-nodes"}
        )
    assert COMMANDS["device_add"].refused is EVERY_OTHER


def test_what_is_refused_is_somewhere() -> None:
    """A table that lists what there is not has been written from memory."""
    options = {n for s in SCHEMAS for n in _names(s, "blockdev-add.arg")}
    assert options >= BLOCK_REFUSED
    assert not BLOCK_REFUSED & BLOCK.keys()
    objects = {
        name for s in SCHEMAS if "object-add" in s.commands for name in _names(s, "object-add.arg")
    }
    assert objects >= OBJECT_REFUSED


def test_what_is_allowed_is_somewhere() -> None:
    drivers = {v for s in SCHEMAS for v in s.values("blockdev-add.arg.driver")}
    assert drivers >= DRIVERS
    assert BLOCK.keys() <= {n for s in SCHEMAS for n in _names(s, "blockdev-add.arg")}
    exports = {v for s in SCHEMAS for v in s.values("block-export-add.arg.type")}
    assert exports > EXPORTS
    assert OPTIONS.name == "node"
    assert not any("vhost" in each or "vfio" in each or "net" in each for each in DEVICES)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Input checking and dictionary order, compared with the installed release.

Every request carries a member that no release knows, so that none of them is
ever executed: what is compared is the first thing that the visitor objects to,
or that it objects to nothing but that member.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest

from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.schema import (
    Member,
    Schema,
    SchemaError,
    UnmodelledCommandError,
    answer,
    check_envelope,
)
from model.values import qdict
from targets.schemas.importing import import_schema, render
from targets.schemas.monitor import BareMonitor, bare_monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.dialect import Dialect
    from targets.builds.binaries import Build

Json: TypeAlias = Any
Puts: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

UNKNOWN = "zz-probe"
VALUES: tuple[Json, ...] = (
    "x",
    "",
    "a\0b",
    True,
    None,
    0,
    -1,
    255,
    256,
    65536,
    2**31,
    -(2**31) - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    -(2**63) - 1,
    1.5,
    1e3,
    [],
    ["x"],
    [1],
    [{}],
    {},
    {"driver": "null-co"},
    {"driver": 1},
    {"driver": "null-co", "size": "x", "odd": 1},
)


@pytest.fixture(scope="module")
def daemon(build_of: Callable[[Dialect], Build]) -> Iterator[BareMonitor]:
    with bare_monitor(build_of(QEMU_7_2).argv) as monitor:
        yield monitor


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.load("qemu-7.2")


@attrs.frozen
class Place:
    """An object type, and how to put one of its kind into a command."""

    type_name: str
    build: Puts


def minimal(schema: Schema, name: str) -> Json:
    """The smallest value that the type accepts."""
    if name.startswith("["):
        return []
    description = schema.types.get(name, {})
    if "members" in description:
        return complete(schema, name, {})
    if "enum" in description:
        return schema.values(name)[0]
    if "alternate" in description:
        return "x"
    return {"str": "x", "bool": False, "null": None, "any": None}.get(name, 0)


def complete(schema: Schema, name: str, given: dict[str, Json]) -> dict[str, Json]:
    """``given`` with the members that the type requires besides."""
    value = dict(given)
    for member in schema.members(name):
        if not member.optional and member.name not in value:
            value[member.name] = minimal(schema, member.type)
    variants = schema.types[name].get("variants", {})
    tag = value[schema.types[name]["tag"]] if variants else None
    variant = variants.get(tag) if isinstance(tag, str) else None
    return complete(schema, variant, value) if variant else value


def inside(place: Place, member: Member) -> Puts:
    """Puts an object into a member of another."""
    listed = member.type.startswith("[")
    return lambda value: place.build({member.name: [value] if listed else value})


def with_tag(place: Place, tag: str, case: str) -> Puts:
    """Puts the members of a variant into the union."""
    return lambda value: place.build({tag: case, **value})


def as_request(command: str) -> Puts:
    """Puts arguments into a request."""
    return lambda value: {"execute": command, "arguments": value}


def places(schema: Schema) -> list[Place]:
    """Every object type that the commands reach, each once."""
    found: dict[str, Place] = {}

    def walk(name: str, build: Puts) -> None:
        if name in found:
            return
        place = found[name] = Place(name, lambda value: build(complete(schema, name, value)))
        for member in schema.members(name):
            kind = member.type.strip("[]")
            for each in (kind, *schema.types.get(kind, {}).get("alternate", ())):
                if "members" in schema.types.get(each, {}):
                    walk(each, inside(place, member))
        for case, variant in schema.types[name].get("variants", {}).items():
            walk(variant, with_tag(place, schema.types[name]["tag"], case))

    for command, kind in schema.commands.items():
        walk(kind, as_request(command))
    return list(found.values())


def model_reply(schema: Schema, request: Json) -> dict[str, Json]:
    """The model's reply to a request that is not to be executed."""
    try:
        name, arguments, _ = check_envelope(request)
        schema.check(name, arguments)
    except SchemaError as error:
        return answer(request, error.reply)
    raise AssertionError(f"accepted: {request}")


def differences(
    schema: Schema, daemon: BareMonitor, requests: list[Json]
) -> list[tuple[Json, Json, Json]]:
    """(request, model's reply, daemon's reply) wherever the two differ."""
    return [
        (request, expected, got)
        for request, got in zip(requests, daemon.send_all(requests), strict=True)
        if (expected := model_reply(schema, request)) != got
    ]


def test_the_document_is_what_this_release_says(build_of: Callable[[Dialect], Build]) -> None:
    document = import_schema(build_of(QEMU_7_2).argv)
    packaged = Path(__file__).parents[2] / "model" / "release" / "schemas" / "qemu-7.2.json"
    assert render(document) == packaged.read_text(encoding="utf-8")


def test_every_value_for_every_member(schema: Schema, daemon: BareMonitor) -> None:
    requests = [
        place.build({member.name: value, UNKNOWN: 1})
        for place in places(schema)
        for member in schema.members(place.type_name)
        for value in VALUES
    ]
    assert len(requests) > 10_000
    assert differences(schema, daemon, requests) == []


def test_every_enum_value_is_known(schema: Schema, daemon: BareMonitor) -> None:
    requests = [
        place.build({member.name: value, UNKNOWN: 1})
        for place in places(schema)
        for member in schema.members(place.type_name)
        if "enum" in schema.types.get(member.type, {})
        for value in schema.values(member.type)
    ]
    assert differences(schema, daemon, requests) == []


def test_every_missing_member(schema: Schema, daemon: BareMonitor) -> None:
    requests = []
    for place in places(schema):
        whole = complete(schema, place.type_name, {})
        for name in whole:
            # `build` would put it back, so it is taken out of the finished request.
            request = place.build({**whole, UNKNOWN: 1})
            taken_out(request["arguments"], name)
            requests.append(request)
    assert len(requests) > 100
    assert differences(schema, daemon, requests) == []


def taken_out(value: Json, name: str) -> bool:
    """Remove ``name`` from the dictionary that has the unknown member."""
    if isinstance(value, dict):
        if UNKNOWN in value:
            value.pop(name, None)
            return True
        return any(taken_out(each, name) for each in value.values())
    return isinstance(value, list) and any(taken_out(each, name) for each in value)


def test_the_first_of_several_errors(schema: Schema, daemon: BareMonitor) -> None:
    rng = random.Random(72)  # noqa: S311 - reproducible, not secret
    every = places(schema)
    letters = "abcdefgxyz-_.0123456789éß\0"
    requests = []
    for _ in range(3_000):
        place = rng.choice(every)
        members = schema.members(place.type_name)
        tag = schema.types[place.type_name].get("tag")
        names = [member.name for member in members]
        if tag and rng.random() < 0.7:
            case = rng.choice(list(schema.types[place.type_name]["variants"]))
            members = schema.members(place.type_name, case)
            names = [member.name for member in members if member.name != tag]
        value: dict[str, Json] = {UNKNOWN: 1}
        if tag and len(names) < len(members):
            value[tag] = case
        chosen = rng.sample(members, rng.randint(0, len(members)))
        for member in chosen:
            if member.name in names:
                good = rng.random() < 0.9
                value[member.name] = minimal(schema, member.type) if good else rng.choice(VALUES)
        for _ in range(rng.choice([0, 1, 2, 5, 12, 25])):
            value["".join(rng.choices(letters, k=rng.randint(1, 8)))] = 1
        keys = list(value)
        rng.shuffle(keys)
        requests.append(place.build({key: value[key] for key in keys}))
    assert differences(schema, daemon, requests) == []


def test_nested_errors(schema: Schema, daemon: BareMonitor) -> None:
    """Faults at any depth of a tree of inline nodes."""
    rng = random.Random(27)  # noqa: S311
    drivers = [
        *("qcow2", "raw", "file", "null-co", "null-aio", "throttle", "copy-on-read"),
        *("quorum", "blkverify", "blkdebug", "compress", "preallocate", "nbd"),
    ]

    def node(depth: int) -> Json:
        if depth == 0 or rng.random() < 0.1:
            return rng.choice(["hd0", None, *VALUES])
        driver = rng.choice(drivers)
        members = schema.members("blockdev-add.arg", driver)
        value: dict[str, Json] = {"driver": driver}
        for member in members:
            if member.name == "driver" or (member.optional and rng.random() < 0.7):
                continue
            kind = member.type
            if rng.random() < 0.04:
                value[member.name] = rng.choice(VALUES)
            elif kind.startswith("BlockdevRef"):
                value[member.name] = node(depth - 1)
            elif kind == "[BlockdevRef]":
                value[member.name] = [node(depth - 1) for _ in range(rng.randint(0, 3))]
            elif rng.random() < 0.98:
                value[member.name] = minimal(schema, kind)
        if rng.random() < 0.1:
            value["odd"] = 1
            value["odder"] = 1
        return value

    requests: list[Json] = [
        {"execute": "blockdev-add", "arguments": {"driver": "raw", "file": node(4), UNKNOWN: 1}}
        for _ in range(1_000)
    ]
    requests += [
        {
            "execute": "blockdev-reopen",
            "arguments": {"options": [node(3) for _ in range(rng.randint(0, 4))], UNKNOWN: 1},
        }
        for _ in range(1_000)
    ]
    assert differences(schema, daemon, requests) == []


ENVELOPES: tuple[Json, ...] = (
    [],
    "x",
    1,
    {},
    {"execute": 5},
    {"execute": None, "id": None},
    {"execute": "no-such-command", "id": [1, {"a": 2}]},
    {"execute": "no\0such", "arguments": {}},
    {"exec-oob": "blockdev-del"},
    {"execute": "blockdev-del", "exec-oob": "x", "id": "x"},
    {"execute": "blockdev-del", "arguments": []},
    {"execute": "blockdev-del", "arguments": None, "id": 0},
    {"arguments": 1, "execute": 1, "foo": 1},
    {"arguments": {}, "id": 1},
    {"execute": "blockdev-del"},
    {"execute": "blockdev-del", "arguments": {}},
    {"execute": "x-debug-query-block-graph", "arguments": {"a": 1, "b": 2}},
)


def test_envelopes(schema: Schema, daemon: BareMonitor) -> None:
    rng = random.Random(3)  # noqa: S311
    requests = list(ENVELOPES)
    members = ["execute", "arguments", "id", "exec-oob", "a", "b", "control", "foo", "bar"]
    for _ in range(500):
        keys = rng.sample(members, rng.randint(0, len(members)))
        requests.append({key: rng.choice(VALUES) for key in keys})
    assert differences(schema, daemon, requests) == []


def test_command_names(schema: Schema, daemon: BareMonitor) -> None:
    listed = daemon.send({"execute": "query-commands"})["return"]
    assert {each["name"] for each in listed} == set(schema.commands) | schema.other_commands
    with pytest.raises(UnmodelledCommandError):
        schema.check("query-chardev", {})


# The order of QDict, as it shows in file names and in the first unchangeable option


def test_json_file_names(daemon: BareMonitor, tmp_path: Path) -> None:
    odd = tmp_path / 'a"b\\c:\u00e9\u20ac\U0001f600\t\x01\x7f'
    odd.write_bytes(bytes(65536))
    nodes: list[dict[str, Json]] = [
        {"driver": "raw", "offset": 512, "file": {"driver": "file", "filename": str(odd)}},
        {"driver": "null-co", "size": 65536, "read-zeroes": True},
        {
            "driver": "quorum",
            "vote-threshold": 1,
            "children": [
                {"driver": "null-co", "size": 65536},
                {"driver": "null-co", "size": 65536, "read-zeroes": True},
            ],
        },
        {"driver": "raw", "offset": 512, "size": 1024, "file": {"driver": "null-co"}},
        {
            "driver": "raw",
            "offset": 512,
            "file": {"driver": "raw", "size": 4096, "file": {"driver": "null-co", "size": 65536}},
        },
    ]
    for node in nodes:
        assert daemon.send(
            {"execute": "blockdev-add", "arguments": {**node, "node-name": "n"}}
        ) == {"return": {}}
        seen = daemon.send({"execute": "query-named-block-nodes", "arguments": {"flat": True}})[
            "return"
        ]
        (file,) = [each["file"] for each in seen if each["node-name"] == "n"]
        assert file == "json:" + qdict.to_json(node)
        assert daemon.send({"execute": "blockdev-del", "arguments": {"node-name": "n"}}) == {
            "return": {}
        }


def test_the_first_option_that_cannot_change(daemon: BareMonitor) -> None:
    """Several changed options: the first in the dictionary's order is named."""
    before = {
        "driver": "null-co",
        "node-name": "n",
        "size": 65536,
        "latency-ns": 0,
        "read-zeroes": False,
    }
    after = {"size": 131072, "latency-ns": 5, "read-zeroes": True}
    assert daemon.send({"execute": "blockdev-add", "arguments": before}) == {"return": {}}
    for chosen in (("size", "latency-ns"), ("size", "read-zeroes"), ("latency-ns", "read-zeroes")):
        options = {**before, **{key: after[key] for key in chosen}}
        reply = daemon.send({"execute": "blockdev-reopen", "arguments": {"options": [options]}})
        first = next(key for key in qdict.in_order(qdict.flatten(options)) if key in chosen)
        assert reply == {
            "error": {"class": "GenericError", "desc": f"Cannot change the option '{first}'"}
        }
    assert daemon.send({"execute": "blockdev-del", "arguments": {"node-name": "n"}}) == {
        "return": {}
    }

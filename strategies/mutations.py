# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that nobody would send: what the schema allows, with a few things wrong with it.

The machine writes what a client might; this writes what a broken or hostile one does. It is plain
and seeded: the same seed gives the same commands, so that one of them is told by its number.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

from model.commands.harness import DRIVING
from model.values.trace import OBJECT, READ, WAIT, WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.schema import Schema
    from model.values.trace import Json

    from model import Dialect

NAMES: Final = ("n0", "n1", "f0", "io0", "tg0", "j0", "e0", "hd0.qcow2", "hd1.raw", "missing")
"""Names that commands give to things and call them by, so that some of them meet."""

_DEEPEST = 6
_ALTERNATE = 0.5
_OPTIONAL = 0.4
_MUTATIONS = (0, 1, 1, 1, 2, 3, 5)
_OWN: Final[dict[str, dict[str, Json]]] = {
    WAIT: {"id": "j0", "status": "concluded", "progress": 1},
    READ: {"node": "n0"},
    WRITE: {"node": "n0", "offset": 0, "length": 512, "pattern": 7},
    OBJECT: {"qom-type": "throttle-group", "id": "tg0", "x-iops-total": 1},
}


def _nested(levels: int, *, dictionary: bool) -> Json:
    value: Json = 1
    for _ in range(levels):
        value = {"a": value} if dictionary else [value]
    return value


def odd_values() -> list[Json]:
    """Values that fit nowhere, or hardly; made anew, since they are changed further."""
    return [
        None,
        True,
        False,
        0,
        -1,
        1,
        512,
        2**31,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63) - 1,
        10**400,
        -(10**400),
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "\0",
        "\ud800",
        "\udfff x",
        "\uffff",
        "é",
        "\U0001f600",
        "x" * 5000,
        "json:{}",
        "json:[",
        "json:" + "[" * 1000,
        "json:{'driver':'null-co'}",
        'json:{"driver": "nbd"}',
        "nbd:127.0.0.1:1",
        "/dev/null",
        "../x",
        "on",
        [],
        {},
        [None],
        [[]],
        {"": None},
        {"driver": {}},
        {"a.b": 1, "a": {"b": 2}},
        _nested(30, dictionary=False),
        _nested(300, dictionary=True),
        _nested(900, dictionary=False),
        _nested(1100, dictionary=False),
        _nested(1100, dictionary=True),
        *NAMES,
    ]


def sample(schema: Schema, kind: str, rng: Random, depth: int = 0) -> Json:
    """A value of a type of the schema."""
    if kind.startswith("["):
        count = 0 if depth > _DEEPEST else rng.choice((0, 1, 1, 2, 3))
        return [sample(schema, kind[1:-1], rng, depth + 1) for _ in range(count)]
    description = schema.types.get(kind)
    if description is None:
        return _builtin(kind, rng)
    if "enum" in description:
        return rng.choice(description["enum"])
    if "alternate" in description:
        kinds = description["alternate"]
        simple = [each for each in kinds if "members" not in schema.types.get(each, {})]
        return sample(
            schema, rng.choice(simple if simple and depth > _DEEPEST else kinds), rng, depth + 1
        )
    return _object(schema, description, rng, depth)


def _builtin(kind: str, rng: Random) -> Json:
    if kind == "str":
        return rng.choice(NAMES)
    if kind == "bool":
        return rng.random() < _ALTERNATE
    if kind == "null":
        return None
    if kind == "any":
        return {name: rng.choice(odd_values()) for name in ("driver", "id", "drive", "bus")}
    most = 1 << 7 if kind.endswith("8") else 1 << 15 if kind.endswith("16") else 1 << 31
    return rng.choice([value for value in (0, 1, 512, 4096, 65536, 1 << 20) if value < most])


def _object(schema: Schema, description: dict[str, Any], rng: Random, depth: int) -> Json:
    chosen: dict[str, Json] = {}
    part: dict[str, Any] | None = description
    while part is not None:
        for member in part["members"]:
            if member.get("optional") and (depth > _DEEPEST or rng.random() > _OPTIONAL):
                continue
            chosen[member["name"]] = sample(schema, member["type"], rng, depth + 1)
        variants, tag = part.get("variants", {}), part.get("tag")
        kind = variants.get(chosen[tag]) if tag else None
        part = None if kind is None else schema.types[kind]
    return chosen


def valid(dialect: Dialect, rng: Random) -> dict[str, Json]:
    """A command that the schema lets through, or one of our own."""
    schema = dialect.schema
    name = rng.choice([*schema.commands, *DRIVING, rng.choice(sorted(schema.other_commands))])
    command: dict[str, Json] = {"execute": name}
    if name in DRIVING:
        command["arguments"] = dict(_OWN[name])
    elif name in schema.commands:
        command["arguments"] = sample(schema, schema.commands[name], rng)
    if rng.random() < _OPTIONAL / 2:
        command["id"] = rng.choice(odd_values())
    return command


def mutate(value: Json, rng: Random) -> Json:
    """The value with one thing wrong with it, somewhere inside or on the whole."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 1 / 8:
        return rng.choice(odd_values())
    key = rng.choice(list(value) if isinstance(value, dict) else list(range(len(value))))
    changed = value.copy()
    way = rng.choice(("take", "add", "replace", "within", "within"))
    if way == "take":
        del changed[key]
    elif way == "add" and isinstance(changed, dict):
        changed[rng.choice((*NAMES, "", "\0", "driver", "id", "x-new"))] = rng.choice(odd_values())
    elif way == "replace":
        changed[key] = rng.choice(odd_values())
    else:
        changed[key] = mutate(changed[key], rng)
    return changed


def mutated(dialect: Dialect, seed: int, count: int) -> Iterator[Json]:
    """So many commands, each with up to a few things wrong."""
    rng = Random(seed)  # noqa: S311  # nothing secret
    for _ in range(count):
        command: Json = valid(dialect, rng)
        for _ in range(rng.choice(_MUTATIONS)):
            command = mutate(command, rng)
        yield command

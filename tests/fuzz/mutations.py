# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to spoil a command, a document, a line: one place for all tests that need bad input."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from model.values.trace import Command, Json

HUGE: Final = 10**400
"""No double holds it."""

SCALARS: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    511,
    512,
    65536,
    2**31,
    2**32,
    2**53 + 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    -(2**63) - 1,
    HUGE,
    -HUGE,
    0.5,
    1e300,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    "",
    "zz",
    "1",
    "on",
    "null",
    "n0",
    "#block000",
    "\0",
    "a\0b",
    "\x1b[2J",
    "\n",
    "\r\n",
    "\ud800",
    "\udcff\ud800x",
    "\u202e",
    "'",
    '"',
    "%s%n",
    "{text}",
    "a" * 5000,
    "json:" + "[" * 1000,
    "json:{",
    'json:{"driver": "null-co"}',
    "json:{'driver':'null-co'}",
)
"""Values of every kind with what is special about each."""

NAMES: Final = (
    *("", "zz", "driver", "file", "backing", "node-name", "filename", "options", "id", "execute"),
    *("size", "device", "qom-type", "bus", "drive", "server", "children", "file.filename"),
    *("..", ".", "a.b.c", "file.", ".0", "0", "\0", "\ud800", "\x1b[31m", "x" * 300),
)
"""Names of members."""

DEPTHS: Final = (3, 60, 200, 900, 1100, 5000)
"""How deep values are nested: below, around and above what parsers and interpreters take."""

DRIVING: Final = ("wait", "read", "write", "object", "zz", "")
"""What may follow ``reopencheck-`` in the name of a command."""


def nested(depth: int, *, lists: bool) -> Json:
    """A value that is ``depth`` lists or objects inside each other."""
    value: Json = None
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


class Mutator:
    """Spoils values; ``others`` are commands from which parts are taken over."""

    def __init__(self, random: Random, others: Sequence[Command] = ()) -> None:
        self._random = random
        self._others = others
        self._seen: dict[str, list[Json]] = {}
        for other in others:
            for container in _containers(other):
                if isinstance(container, dict):
                    for name, value in container.items():
                        self._seen.setdefault(name, []).append(value)

    def value(self) -> Json:
        """Any JSON value, mostly a small one."""
        kind = self._random.randrange(20)
        if kind == 0:
            return nested(self._random.choice(DEPTHS), lists=self._random.random() < 0.5)
        if kind == 1:
            return [self.value() for _ in range(self._random.randrange(4))]
        if kind == 2:
            return {self.name(): self.value() for _ in range(self._random.randrange(4))}
        if kind <= 4 and self._others:
            return _copied(self._random.choice(_containers(self._random.choice(self._others))))
        if kind == 5:
            return self._random.choice((-1, 1)) * 2 ** self._random.randrange(70)
        return self._random.choice(SCALARS)

    def name(self) -> str:
        """The name of a member."""
        if self._seen and self._random.random() < 0.5:
            return self._random.choice(list(self._seen))
        return self._random.choice(NAMES)

    def likely(self, name: Any) -> Json:
        """What a member of that name is elsewhere, if there are others; else any value."""
        seen = self._seen.get(name) if isinstance(name, str) else None
        return _copied(self._random.choice(seen)) if seen else self.value()

    def tree(self, value: Json, changes: int = 1) -> Json:
        """A copy of a value with some places of it spoiled."""
        top = [_copied(value)]
        for _ in range(changes):
            self._spoil(top)
        return top[0]

    def command(self, command: Command) -> Command:
        """A copy of a command, spoiled: mostly within its arguments.

        What comes may be no object at all, as what comes from a monitor's client may be.
        """
        kind = self._random.randrange(24)
        if kind == 0:
            return {**_copied(command), "id": self.value()}
        if kind == 1:
            return self._envelope(command)
        if kind == 2:
            other = self._random.choice(self._others) if self._others else command
            return {**_copied(command), "execute": other.get("execute")}
        if kind == 3:
            return self._driving(command)
        arguments = command.get("arguments", {})
        return {
            **command,
            "arguments": self.tree(arguments, self._random.choice((1, 1, 1, 1, 2, 4))),
        }

    def data(self, data: bytes) -> bytes:
        """Some bytes with a few of them spoiled."""
        for _ in range(self._random.choice((1, 1, 2, 5))):
            data = self._random.choice(_ON_BYTES)(self._random, data)
        return data

    def _envelope(self, command: Command) -> Command:
        odd: Command = self._random.choice(
            (
                {},
                {"execute": self.value()},
                {**command, "arguments": self.value()},
                {**command, self.name(): self.value()},
                {"exec-oob": command.get("execute"), "arguments": command.get("arguments", {})},
                {name: value for name, value in command.items() if name != "execute"},
                {name: value for name, value in command.items() if name != "arguments"},
                self.value(),
            )
        )
        return odd

    def _driving(self, command: Command) -> Command:
        arguments = command.get("arguments")
        names = ("id", "node", "status", "progress", "offset", "length", "pattern", "qom-type")
        plausible = {
            name: self._random.choice((self.value(), 0, 512, "n0", "hd0", "null", "running"))
            for name in names
            if self._random.random() < 0.6
        }
        return {
            "execute": f"reopencheck-{self._random.choice(DRIVING)}",
            "arguments": self._random.choice((plausible, plausible, arguments, self.value())),
        }

    def _spoil(self, top: list[Json]) -> None:
        """Change one place, anywhere below the only element of a list."""
        containers = _containers(top)
        container = self._random.choice(containers)
        if isinstance(container, list):
            if container:
                self._at(container, self._random.randrange(len(container)))
            if container is not top and self._random.random() < 0.2:
                container.append(_copied(self._random.choice(container)) if container else None)
            return
        if not container or self._random.random() < 0.25:
            name = self.name()
            container[name] = self.likely(name) if self._random.random() < 0.7 else self.value()
            return
        key = self._random.choice(list(container))
        kind = self._random.randrange(16)
        if kind <= 3:
            del container[key]
        elif kind == 4:
            container[self.name()] = container.pop(key)
        elif kind == 5:
            # The names of two members, perhaps those of two nodes, become one.
            self._swap(container, key, containers)
        else:
            self._at(container, key)

    def _swap(self, container: Json, key: Any, containers: list[Json]) -> None:
        other = self._random.choice([each for each in containers if each])
        keys = list(other) if isinstance(other, dict) else list(range(len(other)))
        place = self._random.choice(keys)
        container[key], other[place] = _copied(other[place]), _copied(container[key])

    def _at(self, container: Json, key: Any) -> None:
        value = container[key]
        kind = self._random.randrange(12)
        if kind == 0:
            container[key] = self._random.choice(([value], {self.name(): value}))
        elif kind <= 2 and isinstance(value, bool):
            container[key] = not value
        elif kind <= 2 and isinstance(value, int):
            container[key] = value + self._random.choice((-1, 1, -512, 512, 2**32, HUGE))
        elif kind == 1 and isinstance(value, str):
            container[key] = value + self._random.choice(("\0", "\ud800", "zz", ":", "/", "\x1b"))
        elif kind <= 9:
            container[key] = self.likely(key)
        else:
            container[key] = self.value()


def _containers(value: Json) -> list[Json]:
    """Every list and object in a value, itself first (without recursion: it may be deep)."""
    found: list[Json] = [value]
    for each in found:
        if isinstance(each, dict | list):
            inside = each.values() if isinstance(each, dict) else each
            found.extend(item for item in inside if isinstance(item, dict | list))
    return [each for each in found if isinstance(each, dict | list)] or [[value]]


def _copied(value: Json) -> Json:
    """A copy that shares nothing; what is nested too deeply for that is taken as it is."""
    try:
        return _copy(value, 100)
    except RecursionError:
        return value


def _copy(value: Json, depth: int) -> Json:
    if not isinstance(value, dict | list):
        return value
    if not depth:
        raise RecursionError
    if isinstance(value, dict):
        return {name: _copy(each, depth - 1) for name, each in value.items()}
    return [_copy(each, depth - 1) for each in value]


def _span(random: Random, data: bytes, most: int = 40) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.randrange(1, most))


def _flip(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


def _cut(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _double(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:end] + data[start:end] + data[end:]


def _insert(random: Random, data: bytes) -> bytes:
    start, _ = _span(random, data)
    return data[:start] + random.choice(GARBAGE) + data[start:]


def _end_early(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _exchange(random: Random, data: bytes) -> bytes:
    """One of two spans of bytes, such as a name or a number, in the place of the other."""
    start, end = _span(random, data, 12)
    other, its_end = _span(random, data, 12)
    return data[:start] + data[other:its_end] + data[end:]


GARBAGE: Final = (
    *(b"\0", b"\xff\xfe", b"\x1b[2J", b"\n", b"\r\n", b'"', b"'", b"\\", b"\\ud800", b"\\u0000"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"Infinity", b"-0", b"1e999", b"0x1"),
    *(b"1" * 500, b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"/* */", b"\xed\xa0\x80", b"{}"),
    *(b'"id": 7,', b'"execute": "quit",', json.dumps("\u2028").encode(), "\ufeff".encode()),
)
"""Bytes that readers stumble over."""

_ON_BYTES: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (
    *(_flip, _cut, _double, _insert, _end_early, _exchange),
)

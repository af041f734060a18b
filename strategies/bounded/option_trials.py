# SPDX-License-Identifier: GPL-2.0-or-later
"""For each driver, a node that can be opened with nothing but files, and values for its options.

The schema says which options there are; how to get a node of a driver at all is what this adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.values.trace import WAIT, ImageSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model.values.trace import Command, Json

NODE, CHILD = "n", "f"
IMAGES = (
    ImageSpec("hd0.raw", "raw", 1048576),
    ImageSpec("hd1.raw", "raw", 1048576),
    ImageSpec("hd2.qcow2", "qcow2", 1048576),
    ImageSpec("hd3.raw", "raw", 0),
)

Options = dict[str, Any]


@attrs.frozen
class Opening:
    """How to open a node of a driver: what goes before, and its options but for its name."""

    options: Options
    before: tuple[Command, ...] = ()

    def read_only(self) -> Opening:
        """The same, read-only."""
        return attrs.evolve(self, options={**self.options, "read-only": True})


def _file(number: int = 0, name: str = CHILD) -> Options:
    image = IMAGES[number].name
    return {"driver": "file", "node-name": name, "filename": image}


def _command(name: str, **arguments: Json) -> Command:
    return {"execute": name, "arguments": arguments}


def _made(driver: str, **making: Json) -> Opening:
    """A format that the daemon itself can put into an empty file."""
    what = {"driver": driver, "file": CHILD, "size": 1048576, **making}
    return Opening(
        {"driver": driver, "file": CHILD},
        (
            _command("blockdev-add", **_file(3)),
            _command("blockdev-create", **{"job-id": "j", "options": what}),
            _command(WAIT, id="j", status="concluded"),
            _command("job-dismiss", id="j"),
        ),
    )


_QCOW2: Options = {
    "driver": "qcow2",
    "file": _file(2),
    "backing": {"driver": "null-co", "node-name": "z", "read-zeroes": True},
}
_GROUP = _command("object-add", **{"qom-type": "throttle-group", "id": "tg0"})
_ZEROES: Options = {"driver": "null-co", "node-name": "z", "size": 1048576, "read-zeroes": True}

OPENINGS: dict[str, Opening] = {
    "blkdebug": Opening({"driver": "blkdebug", "image": _file()}),
    "blkverify": Opening({"driver": "blkverify", "test": _file(), "raw": _file(1, "g")}),
    "compress": Opening({"driver": "compress", "file": {**_QCOW2, "node-name": "q"}}),
    "copy-before-write": Opening(
        {"driver": "copy-before-write", "file": _file(), "target": _ZEROES}
    ),
    "copy-on-read": Opening({"driver": "copy-on-read", "file": _file()}),
    "file": Opening({key: value for key, value in _file().items() if key != "node-name"}),
    "null-aio": Opening({"driver": "null-aio"}),
    "null-co": Opening({"driver": "null-co"}),
    "preallocate": Opening({"driver": "preallocate", "file": _file()}),
    "qcow": _made("qcow"),
    "qcow2": Opening(_QCOW2),
    "quorum": Opening({"driver": "quorum", "children": [_file()], "vote-threshold": 1}),
    "raw": Opening({"driver": "raw", "file": _file()}),
    "replication": Opening({"driver": "replication", "mode": "primary", "file": _file()}),
    "throttle": Opening(
        {"driver": "throttle", "throttle-group": "tg0", "file": _file()}, (_GROUP,)
    ),
    "vpc": _made("vpc", **{"force-size": True}),
}
"""The other drivers need a device, a server, or an image that is not made in a moment, or are none
that a trace may use (docs/containment.md)."""

_VALUES: dict[str, tuple[Json, ...]] = {
    "bool": (True, False),
    "str": ("x",),
}
_NUMBERS: tuple[Json, ...] = (65536, 131072, 4096, 512, 1048576, 600, 2, 1, 0)
_SPECIAL: dict[str, tuple[Json, ...]] = {
    "inject-error": ([{"event": "cow_read"}],),
    "set-state": ([{"event": "cow_read", "state": 1, "new_state": 2}],),
    "bottom": (CHILD,),
}
_CHILDREN = frozenset({"BlockdevRef", "BlockdevRefOrNull", "[BlockdevRef]"})


@attrs.frozen
class Choice:
    """An option, by the members that lead to it, and values to try for it."""

    path: tuple[str, ...]
    values: tuple[Json, ...]

    @property
    def name(self) -> str:
        """The option as QEMU calls it."""
        return ".".join(self.path)


def choices(types: Mapping[str, Any], driver: str) -> Iterator[Choice]:
    """Every optional option of a driver that is no child, from the types of a schema."""
    base = types["blockdev-add.arg"]
    given = {"driver", "node-name", *OPENINGS[driver].options}
    for each in (base, types.get(base["variants"].get(driver, ""), {})):
        for member in each.get("members", ()):
            if member["name"] not in given:
                yield from _below(types, (member["name"],), member["type"])


def _below(types: Mapping[str, Any], path: tuple[str, ...], kind: str) -> Iterator[Choice]:
    if kind in _CHILDREN:
        return
    if path[-1] in _SPECIAL:
        yield Choice(path, _SPECIAL[path[-1]])
        return
    if kind.startswith("["):
        items = types.get(kind[1:-1], {}).get("enum")
        yield Choice(path, ([items[0]],) if items else ())
        return
    described = types.get(kind)
    if described is None:
        yield Choice(path, _VALUES.get(kind, _NUMBERS if "int" in kind or kind == "size" else ()))
    elif "enum" in described:
        yield Choice(path, tuple(described["enum"]))
    elif "alternate" in described:
        for each in described["alternate"]:
            yield from _below(types, path, each)
    elif described.get("tag"):
        yield Choice(path, ())  # encryption, servers: a world of their own
    else:
        for member in described["members"]:
            yield from _below(types, (*path, member["name"]), member["type"])


def with_option(options: Options, path: tuple[str, ...], value: Json) -> Options:
    """The options with one more, at any depth."""
    first, *rest = path
    if not rest:
        return {**options, first: value}
    return {**options, first: with_option(options.get(first, {}), tuple(rest), value)}


def again(options: Options) -> Options:
    """The options as a reopen gives them: children that have a name are named."""
    return {key: _named(value) for key, value in options.items()}


def _named(value: Json) -> Json:
    if isinstance(value, list):
        return [_named(each) for each in value]
    if isinstance(value, dict) and "driver" in value and "node-name" in value:
        return value["node-name"]
    return value

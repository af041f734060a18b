# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a schema document from a build of QEMU: what it says, and what it only shows.

``query-qmp-schema`` lists the members of every type in the order in which the
daemon visits them, but it hides four things that its error texts depend on:
the width of integers, the names of alternates, which commands look at their
arguments themselves, and the wording. Those
are found by experiment. Every experiment carries a member that no release
knows, so that no command is ever executed.

Use: ``python -m targets.schema_import ARGV... > model/schemas/qemu-X.Y.json``,
where ARGV starts a storage daemon or a system emulator.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

import attrs
from model.values.programs import STORAGE_DAEMON, Program
from model.values.trace import Json

from model.commands import COMMANDS as MODELLED
from targets.binaries import ALL, DAEMON, find_driven
from targets.connection import Connection, ConnectionLostError, SilenceError
from targets.errors import TargetError
from targets.messages import Message, ProtocolError, TooMuchError, greeting, quoted, read
from targets.process import Process, descriptor_to_pass
from targets.scratch import Scratch
from targets.walls import Walls

Build: TypeAlias = Callable[[Json], tuple[str, dict[str, Json]]]
"""Puts a value of some type where a command takes it: (command, arguments)."""

COMMANDS = tuple(sorted((*MODELLED, "qmp_capabilities", "query-commands", "query-version")))
"""The commands whose arguments are imported with all their types."""

DEVICES = ("scsi-hd", "virtio-blk-pci", "virtio-scsi-pci")
"""The devices whose properties are imported."""

FORMAT = 1
"""The version of the document's layout."""

PROBE = "zz-probe"
"""A member, and a value, that no release knows."""

_REPLY_SECONDS = 20.0
_PIPELINED = 50
_SEES_FILES = Walls(frozenset({"mount"}))
_VALUES_ON_A_LINE = 6

_SENSELESS = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What is raised where a daemon's answers are not of the form that they have in every release."""

_NAME = re.compile(r'^name "([^"]+)"', re.MULTILINE)
_ALIAS = re.compile(r'name "([^"]+)".*, alias "([^"]+)"')
_BUS = re.compile(r"^ *bus: (\S+)\n *type (\S+)$", re.MULTILINE)


class SchemaImportError(TargetError):
    """The daemon could not be asked, or answered what cannot be interpreted."""


class BareMonitor:
    """A connection that sends any request and drops events. ``release`` is like "7.2.22"."""

    def __init__(self, connection: socket.socket, program: str) -> None:
        self._connection = Connection(connection)
        self._lines: deque[bytes] = deque()
        self._program = program
        with self._understood():
            version: Any = greeting(self._receive())["version"]
            self.release = "{major}.{minor}.{micro}".format(**version["qemu"])
        self.send({"execute": "qmp_capabilities"})

    def send(self, request: Json) -> Message:
        """The reply to one request, whatever that is. Raises `SchemaImportError`."""
        return self.send_all([request])[0]

    def send_all(self, requests: Sequence[Json]) -> list[Message]:
        """The replies to requests that are sent without waiting for each other's."""
        replies: list[Message] = []
        for start in range(0, len(requests), _PIPELINED):
            chunk = requests[start : start + _PIPELINED]
            lines = b"".join(
                json.dumps(request, separators=(",", ":")).encode() + b"\n" for request in chunk
            )
            self._connection.send(lines)
            while len(replies) < start + len(chunk):
                message = self._receive()
                if "event" not in message:
                    replies.append(message)
        return replies

    def _receive(self) -> Message:
        with self._understood():
            while not self._lines:
                self._lines += self._connection.receive(_REPLY_SECONDS)
            return read(self._lines.popleft())

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise `SchemaImportError` where the daemon is silent, gone, or says what is no QMP."""
        try:
            yield
        except SilenceError as error:
            raise SchemaImportError(f"{self._program} does not answer") from error
        except ConnectionLostError as error:
            raise SchemaImportError(f"{self._program} closed the connection") from error
        except (ProtocolError, TooMuchError) as error:
            raise SchemaImportError(f"{self._program} says {error}") from error
        except _SENSELESS as error:
            raise SchemaImportError(f"{self._program} does not speak QMP") from error


@contextmanager
def bare_monitor(
    argv: Sequence[str], program: Program = STORAGE_DAEMON, walls: Walls = _SEES_FILES
) -> Iterator[BareMonitor]:
    """Start a build of a program in an empty scratch directory, and end it after use.

    By default it sees the files of whoever sends the requests.

    Raises `SchemaImportError` when it cannot be started or asked.
    """
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        stack.enter_context(ours)
        with theirs:
            passed = descriptor_to_pass(theirs.fileno())
        try:
            command = (*argv, *program.arguments(f"socket,fd={passed}"))
            scratch = stack.enter_context(Scratch())
            process = Process(command, walls, scratch.path, pass_fds=(passed,))
        except TargetError as error:
            raise SchemaImportError(str(error)) from error
        finally:
            os.close(passed)
        stack.callback(process.close)
        monitor = BareMonitor(ours, argv[0])
        yield monitor
        # Where it is killed instead, `unshare` says on our standard error that it cannot follow.
        with suppress(SchemaImportError):
            monitor.send({"execute": "quit"})
            process.wait(_REPLY_SECONDS)


@attrs.define
class _Site:
    """A place where a command takes an object: how to get there, and its name in texts."""

    build: Build
    path: str


class _Importer:
    """One import: the daemon's own types, their stable names, and where to reach them."""

    def __init__(self, entries: list[dict[str, Json]], monitor: BareMonitor) -> None:
        self.monitor = monitor
        self.entries = {entry["name"]: entry for entry in entries}
        self.names: dict[str, str] = {}
        self.types: dict[str, dict[str, Json]] = {}
        self.sites: dict[str, _Site] = {}
        self.queue: list[tuple[str, _Site]] = []
        self.alternates: set[str] = set()
        self.narrow: tuple[_Site, str, str] | None = None

    # Values that a visitor accepts

    def minimal(self, name: str) -> Json:
        """The smallest value that the type of this (masked) name accepts."""
        entry = self.entries[name]
        kind = entry["meta-type"]
        if kind == "array":
            return []
        if kind == "enum":
            return _values(entry)[0]
        if kind == "object":
            return self.fill(name, {})
        if kind == "alternate":
            branches = [member["type"] for member in entry["members"]]
            plain = [branch for branch in branches if self.json_type(branch) != "object"]
            return self.minimal((plain or branches)[0])
        return {"str": "", "bool": False, "int": 0, "number": 0, "null": None, "any": None}[name]

    def fill(self, name: str, given: dict[str, Json]) -> dict[str, Json]:
        """``given`` with what the object type of this (masked) name requires besides."""
        entry = self.entries[name]
        value = dict(given)
        for member in entry["members"]:
            if "default" not in member and member["name"] not in value:
                value[member["name"]] = self.minimal(member["type"])
        for variant in entry.get("variants", ()):
            if variant["case"] == value[entry["tag"]]:
                return self.fill(variant["type"], value)
        return value

    def json_type(self, name: str) -> str:
        """The kind of JSON value that the type of this (masked) name takes."""
        entry = self.entries[name]
        kinds = {"object": "object", "array": "array", "enum": "string", "builtin": ""}
        return kinds[entry["meta-type"]] or entry["json-type"]

    # Experiments

    def refusal(self, site: _Site, value: Json) -> str:
        """The text with which the daemon refuses ``value`` there."""
        command, arguments = site.build(value)
        reply = self.monitor.send({"execute": command, "arguments": arguments})
        if "error" not in reply:
            raise SchemaImportError(f"{command} accepted {json.dumps(arguments)}")
        text: str = reply["error"]["desc"]
        return text

    def integer(self, site: _Site, member: str, wrap: Callable[[Json], Json]) -> str:
        """The width of an integer: "int64", "uint64", "uint32" and so on."""

        def tried(value: Json) -> str:
            return self.refusal(site, {member: wrap(value), PROBE: 1})

        text = tried(1.5)
        if text.endswith("expected: integer"):
            sign = "int"
        elif text.endswith("expects uint64"):
            sign = "uint"
        else:
            raise SchemaImportError(f"no integer text for {member}: {text}")
        text = tried(-(2**62))
        if PROBE in text:
            return sign + "64"
        word = text.rsplit(" ", 1)[1].removesuffix("_t")
        if not word.startswith(sign):
            raise SchemaImportError(f"no integer range text for {member}: {text}")
        # The texts are tried out inside of a blockdev-add, so that is where it has to be.
        if wrap(0) == 0 and self.narrow is None and site.build({})[0] == "blockdev-add":
            self.narrow = (site, member, word)
        return word

    def alternate(self, site: _Site, member: str, wrap: Callable[[Json], Json], name: str) -> str:
        """The daemon's own name of an alternate, which only its error text tells."""
        taken = {self.json_type(branch["type"]) for branch in self.entries[name]["members"]}
        wrong = {"array": [], "boolean": True, "object": {}, "null": None}
        value = next(value for kind, value in wrong.items() if kind not in taken)
        text = self.refusal(site, {member: wrap(value), PROBE: 1})
        if "expected: " not in text:
            raise SchemaImportError(f"no alternate text for {member}: {text}")
        return text.rsplit(" ", 1)[1]

    # Naming, breadth first, so that each type is named after its shortest path

    def use(self, name: str, site: _Site, owner: str, member: str) -> str:
        """The stable name of a member's type, importing the type when it is new."""

        def same(value: Json) -> Json:
            return value

        def listed(value: Json) -> Json:
            return [value]

        entry = self.entries[name]
        if entry["meta-type"] == "array":
            return f"[{self.element(entry['element-type'], site, owner, member, listed)}]"
        return self.element(name, site, owner, member, same)

    def element(
        self, name: str, site: _Site, owner: str, member: str, wrap: Callable[[Json], Json]
    ) -> str:
        """As `use`, for a type that is no list; ``wrap`` makes the member's value of one."""
        entry = self.entries[name]
        kind = entry["meta-type"]
        if kind == "array":
            raise SchemaImportError(f"{owner}.{member} is a list of lists")
        if kind == "builtin":
            return self.integer(site, member, wrap) if name == "int" else name
        if name in self.names:
            return self.names[name]
        if kind == "alternate":
            stable = self.alternate(site, member, wrap, name)
            self.names[name] = stable
            self.alternates.add(stable)
            self.types[stable] = {
                "alternate": [
                    self.branch(branch["type"], site, stable, member, wrap)
                    for branch in entry["members"]
                ]
            }
            return stable
        # A branch of an alternate has no name of its own; its kind will do.
        stable = self.names[name] = f"{owner}.{kind if owner in self.alternates else member}"
        if kind == "enum":
            self.types[stable] = {"enum": _values(entry)}
        else:
            self.queue.append((name, self.inner(site, member, wrap)))
        return stable

    def branch(
        self, name: str, site: _Site, owner: str, member: str, wrap: Callable[[Json], Json]
    ) -> str:
        """As `element`, for a branch of an alternate, which may be a list."""
        entry = self.entries[name]
        if entry["meta-type"] != "array":
            return self.element(name, site, owner, member, wrap)
        inner = self.element(
            entry["element-type"], site, owner, member, lambda value: wrap([value])
        )
        return f"[{inner}]"

    def inner(self, site: _Site, member: str, wrap: Callable[[Json], Json]) -> _Site:
        """The place of a member that takes an object."""
        suffix = member if wrap(0) == 0 else f"{member}[0]"
        path = f"{site.path}.{suffix}" if site.path else suffix
        return _Site(lambda value: site.build({member: wrap(value)}), path)

    def objects(self) -> None:
        """Import every object type in the queue, and those that it leads to."""
        while self.queue:
            name, outer = self.queue.pop(0)
            entry = self.entries[name]
            stable = self.names[name]

            def build(
                value: Json, outer: _Site = outer, name: str = name
            ) -> tuple[str, dict[str, Json]]:
                return outer.build(self.fill(name, value))

            site = self.sites[stable] = _Site(build, outer.path)
            document: dict[str, Json] = {"members": []}
            self.types[stable] = document
            for member in entry["members"]:
                described = {
                    "name": member["name"],
                    "type": self.use(member["type"], site, stable, member["name"]),
                }
                if "default" in member:
                    described["optional"] = True
                if "features" in member:
                    described["features"] = member["features"]
                document["members"].append(described)
            if "tag" not in entry:
                continue
            tag = document["tag"] = entry["tag"]
            cases = document["variants"] = {}
            for variant in sorted(entry["variants"], key=lambda variant: str(variant["case"])):
                kind = variant["type"]
                if not self.entries[kind]["members"]:
                    continue
                if kind not in self.names:
                    self.names[kind] = f"{stable}/{variant['case']}"
                    self.queue.append((kind, self.variant(site, tag, variant["case"])))
                cases[variant["case"]] = self.names[kind]

    def command(self, command: str) -> _Site:
        """The place of a command's arguments."""
        return _Site(lambda value: (command, value), "")

    def variant(self, site: _Site, tag: str, case: str) -> _Site:
        """The place of one variant's members: the union's own, with the tag set."""
        return _Site(lambda value: site.build({tag: case, **value}), site.path)

    def takes_all(self, command: str, kind: str) -> bool:
        """Whether a command looks at its arguments itself, so that the schema refuses none."""
        return PROBE not in self.refusal(self.command(command), self.fill(kind, {PROBE: 1}))

    def commands(self, offered: set[str]) -> dict[str, str]:
        """Import the arguments of the commands of interest; command -> stable type name.

        ``offered`` are those that the daemon executes: its schema may list more.
        """
        found: dict[str, str] = {}
        for command in COMMANDS:
            if command not in offered:
                continue
            kind = self.entries[command]["arg-type"]
            if self.takes_all(command, kind):
                found[command] = "any"
                continue
            if kind not in self.names:
                empty = not self.entries[kind]["members"]
                self.names[kind] = "empty" if empty else f"{command}.arg"
                self.queue.append((kind, self.command(command)))
            found[command] = self.names[kind]
        self.objects()
        return found

    def texts(self) -> dict[str, str]:
        """The wording of each refusal, as a template over path, name, value and type."""
        outer = _Site(
            lambda file: ("blockdev-add", {"driver": "raw", "file": file, PROBE: 1}), "file"
        )
        good = {"driver": "null-co"}
        tries: dict[str, tuple[_Site, Json, str, str, str]] = {
            "missing": (outer, {}, "driver", "", ""),
            "unexpected": (outer, {**good, PROBE: 1}, PROBE, "", ""),
            "type": (outer, {**good, "read-only": 1}, "read-only", "", "boolean"),
            "alternate": (outer, {"driver": "raw", "file": 1}, "file", "", "BlockdevRef"),
            "enum": (outer, {**good, "discard": PROBE}, "discard", PROBE, ""),
            "unsigned": (outer, {**good, "latency-ns": 1.5}, "latency-ns", "", "uint64"),
        }
        if self.narrow is None or self.narrow[0].path:
            raise SchemaImportError("blockdev-add has no integer below 64 bits")
        site, member, word = self.narrow
        _, deep = site.build({member: -(2**62)})
        tries["range"] = (outer, deep, member, "", f"{word}_t")
        wording: dict[str, str] = {}
        for kind, (place, value, member, refused, expected) in sorted(tries.items()):
            text = self.refusal(place, value)
            text = text.replace(f"'{place.path}.{member}'", "'{path}'")
            text = text.replace(f"'{member}'", "'{name}'")
            if refused:
                text = text.replace(f"'{refused}'", "'{value}'")
            if expected:
                text = text.replace(expected, "{expected}")
            wording[kind] = text
        return wording


def _devices(monitor: BareMonitor, fresh: BareMonitor) -> dict[str, Json]:
    """What the machine has to offer to device_add; see :class:`model.catalogue.Catalogue`.

    Asking for lists loads modules with more types; what is refused is asked of a ``fresh`` one.
    """
    found = _asked(monitor, "qom-list-types", implements="device", abstract=True)
    lines = _human(monitor, "device_add help")
    offered = set(_NAME.findall(lines))
    types = sorted(each["name"] for each in found if each["name"] in offered)
    others = sorted({each["name"] for each in found} - offered)
    return {
        "types": types,
        "refused": _refused(fresh, others),
        "aliases": dict(sorted((alias, name) for name, alias in _ALIAS.findall(lines))),
        "buses": dict(sorted(_BUS.findall(_human(monitor, "info qtree")))),
        "places": sorted(_places(monitor)),
        "properties": {
            driver: dict(
                sorted(
                    (each["name"], each["type"])
                    for each in _asked(monitor, "qom-list-properties", typename=driver)
                )
            )
            for driver in DEVICES
        },
    }


def _refused(monitor: BareMonitor, drivers: list[str]) -> dict[str, list[str]]:
    """Types of devices that the machine never takes, by what it says that it expects instead."""
    probes = [_request("device_add", driver=driver, **{PROBE: 1}) for driver in drivers]
    found: dict[str, list[str]] = {}
    for driver, reply in zip(drivers, monitor.send_all(probes), strict=True):
        text: str = reply.get("error", {}).get("desc", "")
        _, refused, expected = text.partition("Parameter 'driver' expects ")
        if refused:
            found.setdefault(expected, []).append(driver)
        elif "is not a valid device model name" not in text:
            raise SchemaImportError(f"device_add takes {driver}, which it does not list")
    return dict(sorted(found.items()))


def _places(monitor: BareMonitor) -> set[str]:
    """The names in the tree of objects without those that are numbered."""
    found: set[str] = set()
    paths = ["/"]
    while paths:
        replies = monitor.send_all([_request("qom-list", path=path) for path in paths])
        below = []
        for path, reply in zip(paths, replies, strict=True):
            for each in reply["return"]:
                kind = each["type"].partition("<")[0]
                if kind in ("child", "link") and not each["name"].endswith("]"):
                    found.add(each["name"])
                if kind == "child":
                    below.append(f"{path.rstrip('/')}/{each['name']}")
        paths = below
    return found


def _request(command: str, **arguments: Json) -> dict[str, Json]:
    return {"execute": command, "arguments": arguments}


def _asked(monitor: BareMonitor, command: str, **arguments: Json) -> Json:
    reply = monitor.send(_request(command, **arguments))
    if "error" in reply:
        raise SchemaImportError(f"{command}: {reply['error']['desc']}")
    return reply["return"]


def _human(monitor: BareMonitor, line: str) -> str:
    """What a command for people prints: no other tells these things."""
    text: str = _asked(monitor, "human-monitor-command", **{"command-line": line})
    return text.replace("\r", "")


def _values(entry: dict[str, Json]) -> list[str]:
    """The values of an enum; the older key is still there in every release."""
    values: list[str] = entry["values"]
    return values


_OBJECT_TYPES = {"execute": "qom-list-types", "arguments": {"implements": "user-creatable"}}


def import_schema(
    argv: Sequence[str], program: Program = STORAGE_DAEMON, walls: Walls = ALL
) -> dict[str, Any]:
    """Ask the build of a program that ``argv`` starts for its schema.

    The result has ``release``, ``commands`` (name to the name of the type of its
    arguments, "any" where no schema checks them), ``other_commands`` (names only), ``objects``
    (the types of objects that clients can make in this program),
    ``texts`` (templates) and ``types``: a type is ``{"members": [...]}`` with an optional
    ``tag`` and
    ``variants``, ``{"enum": [...]}`` or ``{"alternate": [...]}``; ``[T]`` is a
    list of T. Members stand in the order in which they are visited. Where there is a machine,
    ``devices`` has what device_add takes. Raises
    `SchemaImportError`.
    """
    try:
        return _imported(argv, program, walls)
    except _SENSELESS as error:
        kind = type(error).__name__
        text = f"what it says of itself is no schema ({kind}: {quoted(str(error).encode())})"
        raise SchemaImportError(text) from error


def _imported(argv: Sequence[str], program: Program, walls: Walls) -> dict[str, Any]:
    with bare_monitor(argv, program, walls) as monitor:
        names = ["query-qmp-schema", "query-commands"]
        replies = monitor.send_all([*({"execute": name} for name in names), _OBJECT_TYPES])
        for reply in replies:
            if "error" in reply:
                raise SchemaImportError(f"no schema: {reply['error']['desc']}")
        entries, listed, creatable = (reply["return"] for reply in replies)
        offered = {each["name"] for each in listed}
        importer = _Importer(entries, monitor)
        commands = importer.commands(offered)
        document = {
            "format": FORMAT,
            "release": monitor.release,
            "commands": commands,
            "other_commands": sorted(offered - set(commands)),
            "objects": sorted(each["name"] for each in creatable),
            "texts": importer.texts(),
            "types": dict(sorted(importer.types.items())),
        }
        if "device_add" in offered:
            with bare_monitor(argv, program, walls) as fresh:
                document["devices"] = _devices(monitor, fresh)
        return document


def render(document: dict[str, Any]) -> str:
    """The document as JSON text with one command, text or member on a line."""

    def lines(value: dict[str, Json]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items())

    def one_type(name: str, description: dict[str, Json]) -> str:
        parts = []
        for key, value in description.items():
            long = key == "members" or (key == "enum" and len(value) > _VALUES_ON_A_LINE)
            if long and value:
                body = ",\n".join(f"   {json.dumps(each)}" for each in value)
                parts.append(f'"{key}": [\n{body}\n  ]')
            elif key == "variants":
                cases = ",\n".join(f"   {json.dumps(c)}: {json.dumps(t)}" for c, t in value.items())
                parts.append(f'"variants": {{\n{cases}\n  }}')
            else:
                parts.append(f'"{key}": {json.dumps(value)}')
        return f"  {json.dumps(name)}: {{{', '.join(parts)}}}"

    others = ",\n".join(f"  {json.dumps(name)}" for name in document["other_commands"])
    objects = ",\n".join(f"  {json.dumps(name)}" for name in document["objects"])
    types = ",\n".join(one_type(name, each) for name, each in document["types"].items())
    return (
        f'{{\n "format": {document["format"]},\n "release": {json.dumps(document["release"])},\n'
        f' "commands": {{\n{lines(document["commands"])}\n }},\n'
        f' "other_commands": [\n{others}\n ],\n'
        f' "objects": [\n{objects}\n ],\n'
        f' "texts": {{\n{lines(document["texts"])}\n }},\n'
        f' "types": {{\n{types}\n }}{_render_devices(document)}\n}}\n'
    )


def _render_devices(document: dict[str, Any]) -> str:
    """The part of the devices, if there is one: a list, or what belongs to a device, on a line."""
    if "devices" not in document:
        return ""
    parts = []
    for key, value in document["devices"].items():
        if key in ("refused", "properties"):
            body = ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f"  {json.dumps(key)}: {{\n{body}\n  }}")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return ',\n "devices": {\n' + ",\n".join(parts) + "\n }"


def main() -> int:
    """Print the schema document of the daemon that the command line starts."""
    try:
        build = find_driven(shlex.join(sys.argv[1:]) or DAEMON)
        sys.stdout.write(render(import_schema(build.argv, build.program)))
    except TargetError as error:
        sys.stderr.write(f"schema import: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of a schema: what a daemon says of them, and what only experiments show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from model.commands import COMMANDS as MODELLED
from model.values.trace import Json
from targets.schemas.monitor import PROBE, SchemaImportError

if TYPE_CHECKING:
    from targets.schemas.monitor import BareMonitor

Build: TypeAlias = Callable[[Json], tuple[str, dict[str, Json]]]
"""Puts a value of some type where a command takes it: (command, arguments)."""

COMMANDS = tuple(sorted((*MODELLED, "qmp_capabilities", "query-commands", "query-version")))
"""The commands whose arguments are imported with all their types."""


@attrs.define
class _Site:
    """A place where a command takes an object: how to get there, and its name in texts."""

    build: Build
    path: str


class TypeImport:
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


def _values(entry: dict[str, Json]) -> list[str]:
    """The values of an enum; the older key is still there in every release."""
    values: list[str] = entry["values"]
    return values

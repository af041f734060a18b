# SPDX-License-Identifier: GPL-2.0-or-later
"""What a release accepts as the input of a QMP command, and how it refuses the rest.

The types, the names of their members in the order of visiting, and the wording
of refusals are data, imported from the release itself (``schemas/qemu-X.Y.json``,
made by ``targets.schemas.importing``). This module turns them into functions that
visit a value as QEMU's generated input visitors do: members in order of
declaration, the base's first, then those of the variant that the tag selects;
the first thing wrong is what the client hears of; a member that nobody visited
is found when the visitor leaves the object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from importlib import resources
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import attrs

from model.release.catalogue import NO_MACHINE, Catalogue
from model.values.qdict import hash_table_order, in_order
from model.values.trace import Json

if TYPE_CHECKING:
    from model.values.trace import Reply

Visit: TypeAlias = Callable[[Json], Json]
"""Checks one value and returns it as the visitor sees it; raises `_Refusal`."""

FORMAT = 1
"""The version of the schema documents that this module reads."""

COMMAND_NOT_FOUND = "CommandNotFound"
"""The error class of a command that the release does not have."""


class SchemaError(Exception):
    """Input that the release refuses: its error text and class, and the kind of what is wrong.

    ``kind`` is "envelope", "command", or a key of the schema's ``texts``.
    """

    def __init__(self, text: str, cls: str = "GenericError", kind: str = "envelope") -> None:
        super().__init__(text)
        self.text = text
        self.cls = cls
        self.kind = kind

    @property
    def reply(self) -> Reply:
        """The reply without an ``id``."""
        return {"error": {"class": self.cls, "desc": self.text}}


class UnmodelledCommandError(LookupError):
    """A command that the release has, and this schema has no types for."""


class UnknownSchemaError(LookupError):
    """No schema of that name comes with the model."""


@attrs.frozen
class Member:
    """One member of an object type.

    ``type`` is the name of a type in the schema, a builtin ("str", "bool",
    "number", "null", "any", "int64", "uint32", ...), or "[T]" for a list of T.
    """

    name: str
    type: str
    optional: bool


class Envelope(NamedTuple):
    """What a request asks for. ``id`` is `NO_ID` where it has none (null is one)."""

    name: str
    arguments: dict[str, Json]
    id: Json


NO_ID: Any = type("NoId", (), {"__slots__": (), "__repr__": lambda _: "NO_ID"})()
"""Stands for the id of a request without one."""


def check_envelope(request: Json) -> Envelope:
    """Take a request apart, with QEMU's refusals of what is no request at all.

    Members are looked at in the order in which QEMU walks them. Whether the
    command exists is `Schema.check`'s to say. Raises `SchemaError`; `answer`
    gives the reply its id in either case.
    """
    if not isinstance(request, dict):
        raise SchemaError("QMP input must be a JSON object")
    for key in in_order(request):
        if key == "execute":
            if not isinstance(request[key], str):
                raise SchemaError("QMP input member 'execute' must be a string")
        elif key == "arguments":
            if not isinstance(request[key], dict):
                raise SchemaError("QMP input member 'arguments' must be an object")
        elif key != "id":
            raise SchemaError(f"QMP input member '{key}' is unexpected")
    if "execute" not in request:
        raise SchemaError("QMP input lacks member 'execute'")
    return Envelope(request["execute"], request.get("arguments", {}), request.get("id", NO_ID))


def answer(request: Json, reply: Reply) -> Reply:
    """``reply`` with the id of the request, if it has one."""
    if isinstance(request, dict) and "id" in request:
        return {**reply, "id": _as_parsed(request["id"])}
    return reply


def _as_parsed(value: Json) -> Json:
    """A value as QEMU's parser reads it: integers beyond 64 bits are floating-point."""
    top = [value]
    containers: list[Any] = [top]
    while containers:
        container = containers.pop()
        pairs = container.items() if isinstance(container, dict) else enumerate(container)
        for key, each in list(pairs):
            if isinstance(each, (dict, list)):
                container[key] = each.copy()
                containers.append(container[key])
            elif isinstance(each, int) and not -(2**63) <= each < 2**64:
                container[key] = float(each)
    return top[0]


class _Refusal(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong, found deep inside; each container adds its part of the path."""

    def __init__(self, kind: str, expected: str = "", value: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.expected = expected
        self.value = value
        self.name: str | None = None
        self.path = ""

    def inside_member(self, name: str) -> None:
        """The value is the member of this name."""
        if self.name is None:
            self.name = name
        self.path = f".{name}{self.path}"

    def inside_list(self, index: int) -> None:
        """The value is the element of this index."""
        if self.name is None:
            # Elements have no name of their own, and QEMU prints the null pointer like this.
            self.name = "null"
        self.path = f"[{index}]{self.path}"

    def text(self, texts: Mapping[str, str]) -> str:
        """The release's wording."""
        path = self.path.removeprefix(".") if self.path else "<anonymous>"
        return texts[self.kind].format(
            path=path, name=self.name or "null", value=self.value, expected=self.expected
        )


# Visits of the builtin types


def _visit_str(value: Json) -> Json:
    if isinstance(value, str):
        return value
    raise _Refusal("type", "string")


def _visit_bool(value: Json) -> Json:
    if value is True or value is False:
        return value
    raise _Refusal("type", "boolean")


def _visit_null(value: Json) -> Json:
    if value is None:
        return value
    raise _Refusal("type", "null")


def _visit_any(value: Json) -> Json:
    return value


def _visit_number(value: Json) -> Json:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return inf if value > 0 else -inf
    raise _Refusal("type", "number")


def _signed(bits: int) -> Visit:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def visit(value: Json) -> Json:
        if not isinstance(value, int) or value is True or value is False:
            raise _Refusal("type", "integer")
        if low <= value <= high:
            return value
        if -(2**63) <= value < 2**63:
            raise _Refusal("range", f"int{bits}_t")
        raise _Refusal("type", "integer")

    return visit


def _unsigned(bits: int) -> Visit:
    high = (1 << bits) - 1

    def visit(value: Json) -> Json:
        if not isinstance(value, int) or value is True or value is False:
            raise _Refusal("unsigned", "uint64")
        if 0 <= value <= high:
            return value
        if not -(2**63) <= value < 2**64:
            raise _Refusal("unsigned", "uint64")
        # Negative numbers are taken for the unsigned ones of the same bits.
        wrapped = value % 2**64
        if wrapped <= high:
            return wrapped
        raise _Refusal("range", f"uint{bits}_t")

    return visit


_BUILTIN: dict[str, Visit] = {
    "str": _visit_str,
    "bool": _visit_bool,
    "null": _visit_null,
    "any": _visit_any,
    "number": _visit_number,
    **{f"int{bits}": _signed(bits) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": _unsigned(bits) for bits in (8, 16, 32, 64)},
}

_JSON_TYPE = {"str": "str", "bool": "bool", "null": "null", "number": "number"}


def _enum(values: list[str]) -> Visit:
    known = {value: value for value in values}

    def visit(value: Json) -> Json:
        if not isinstance(value, str):
            raise _Refusal("type", "string")
        if value in known:
            return value
        raise _Refusal("enum", value=value)

    return visit


def _list(element: Visit) -> Visit:
    def visit(value: Json) -> Json:
        if not isinstance(value, list):
            raise _Refusal("type", "array")
        seen: list[Json] = []
        try:
            for each in value:
                seen.append(element(each))  # noqa: PERF401 - the length is the failing index
        except _Refusal as refusal:
            refusal.inside_list(len(seen))
            raise
        return seen

    return visit


def _alternate(name: str, branches: Mapping[str, Visit]) -> Visit:
    of_dict, of_str = branches.get("dict"), branches.get("str")
    others = {
        kind: branches[key]
        for kind, key in (
            (bool, "bool"),
            (type(None), "null"),
            (int, "number"),
            (float, "number"),
            (list, "list"),
        )
        if key in branches
    }

    def visit(value: Json) -> Json:
        if isinstance(value, dict):
            chosen = of_dict
        elif isinstance(value, str):
            chosen = of_str
        else:
            chosen = others.get(type(value))
        if chosen is None:
            raise _Refusal("alternate", name)
        return chosen(value)

    return visit


@attrs.define
class _Plan:
    """How to visit the members of an object type: (name, visit, required) in order."""

    members: tuple[tuple[str, Visit, bool], ...] = ()
    tag: str | None = None
    variants: Mapping[str, _Plan] = attrs.Factory(dict)


def _object(plan: _Plan) -> Visit:
    def visit(value: Json) -> Json:
        if not isinstance(value, dict):
            raise _Refusal("type", "object")
        seen: dict[str, Json] = {}
        part: _Plan | None = plan
        name = ""
        try:
            while part is not None:
                for name, check, required in part.members:
                    if name in value:
                        seen[name] = check(value[name])
                    elif required:
                        raise _Refusal("missing")  # noqa: TRY301 - it needs the path, too
                part = None if part.tag is None else part.variants.get(seen[part.tag])
        except _Refusal as refusal:
            refusal.inside_member(name)
            raise
        if len(seen) != len(value):
            _refuse_unexpected(value, seen)
        return seen

    return visit


def _refuse_unexpected(value: Mapping[str, Json], seen: Mapping[str, Json]) -> NoReturn:
    """Name the first member that was not visited, in the order of the hash table they are in."""
    refusal = _Refusal("unexpected")
    refusal.inside_member(hash_table_order(in_order(value), seen)[0])
    raise refusal


def _or_null(check: Visit) -> Visit:
    return lambda value: None if value is None else check(value)


class _Compiler:
    """Turns the types of a schema document into functions.

    With ``nulls`` every optional member may be null, too.
    """

    def __init__(self, types: Mapping[str, dict[str, Json]], *, nulls: bool = False) -> None:
        self.types = types
        self._nulls = nulls
        self.plans = {name: _Plan() for name, each in types.items() if "members" in each}
        self.visits: dict[str, Visit] = dict(_BUILTIN)
        # Objects first, with empty plans, because types refer to each other in circles.
        self.visits.update({name: _object(plan) for name, plan in self.plans.items()})
        for name, plan in self.plans.items():
            self.fill(plan, types[name])

    def fill(self, plan: _Plan, description: dict[str, Json]) -> None:
        """Give a plan its members and variants."""
        plan.members = tuple(
            (member["name"], *self.member(member["type"], optional=member.get("optional", False)))
            for member in description["members"]
        )
        plan.tag = description.get("tag")
        plan.variants = {
            case: self.plans[kind] for case, kind in description.get("variants", {}).items()
        }

    def member(self, kind: str, *, optional: bool) -> tuple[Visit, bool]:
        """The function of a member, and whether it is required."""
        check = self.visit(kind)
        return (_or_null(check) if optional and self._nulls else check), not optional

    def visit(self, name: str) -> Visit:
        """The function of a type, made when it is first asked for."""
        if name not in self.visits:
            if name.startswith("["):
                made = _list(self.visit(name[1:-1]))
            elif "enum" in self.types[name]:
                made = _enum(self.types[name]["enum"])
            else:
                kinds = self.types[name]["alternate"]
                made = _alternate(name, {self.json_type(kind): self.visit(kind) for kind in kinds})
            self.visits[name] = made
        return self.visits[name]

    def json_type(self, name: str) -> str:
        """Which kind of JSON value a type takes, as `_alternate` names them."""
        if name in _BUILTIN:
            return _JSON_TYPE.get(name, "number")
        if name.startswith("["):
            return "list"
        return "str" if "enum" in self.types[name] else "dict"


@attrs.frozen(eq=False)
class Schema:
    """One release's commands with the types of their arguments.

    ``commands`` maps a command to the type of its arguments, ``other_commands``
    are those that the release has and this document has no types for, ``objects`` the types of
    objects that clients can make in the program, ``texts``
    is the wording of refusals: templates over path, name, value and expected,
    ``devices`` is what device_add can be given.
    """

    name: str
    release: str
    commands: Mapping[str, str]
    other_commands: frozenset[str]
    objects: frozenset[str]
    texts: Mapping[str, str]
    types: Mapping[str, dict[str, Json]]
    _visits: Mapping[str, Visit]
    devices: Catalogue = NO_MACHINE

    @staticmethod
    def load(name: str) -> Schema:
        """The schema of a release ("qemu-7.2"); the same object each time.

        Raises `UnknownSchemaError`, or ValueError for a document of another format.
        """
        return _load(name)

    @classmethod
    def from_document(cls, name: str, document: Mapping[str, Json]) -> Schema:
        """A schema from the document that ``targets.schemas.importing`` makes."""
        if document["format"] != FORMAT:
            raise ValueError(f"schema {name} has format {document['format']}, not {FORMAT}")
        compiler = _Compiler(document["types"])
        commands: dict[str, str] = document["commands"]
        return cls(
            name=name,
            release=document["release"],
            commands=commands,
            other_commands=frozenset(document["other_commands"]),
            objects=frozenset(document["objects"]),
            texts=document["texts"],
            types=document["types"],
            visits={command: compiler.visit(kind) for command, kind in commands.items()},
            devices=Catalogue.from_document(document["devices"])
            if "devices" in document
            else NO_MACHINE,
        )

    def taking_nulls(self, commands: Collection[str]) -> Schema:
        """The same, but for some commands all optional members may be null."""
        if not commands:
            return self
        compiler = _Compiler(self.types, nulls=True)
        visits = {command: compiler.visit(self.commands[command]) for command in commands}
        return attrs.evolve(self, visits={**self._visits, **visits})

    def check(self, command: str, arguments: Mapping[str, Json]) -> dict[str, Json]:
        """The arguments as the command gets them: checked, in order of visiting.

        Nothing is added; unsigned and floating-point members have the values
        that QEMU reads. The result shares no dictionary or list with the input
        (except below members of type "any"). Raises `SchemaError` with the
        release's text, or `UnmodelledCommandError`.
        """
        visit = self._visits.get(command)
        if visit is None:
            if command in self.other_commands:
                raise UnmodelledCommandError(command)
            raise SchemaError(
                f"The command {command} has not been found", COMMAND_NOT_FOUND, "command"
            )
        try:
            checked: dict[str, Json] = visit(arguments)
        except _Refusal as refusal:
            raise SchemaError(refusal.text(self.texts), kind=refusal.kind) from None
        return checked

    def knows(self, command: str) -> bool:
        """Whether the release has this command, modelled or not."""
        return command in self._visits or command in self.other_commands

    def members(self, type_name: str, *cases: str) -> tuple[Member, ...]:
        """The members of an object type; ``cases`` choose variants, outermost first.

        ``members("blockdev-add.arg", "qcow2")`` are all options of qcow2.
        """
        description = self.types[type_name]
        found = tuple(
            Member(each["name"], each["type"], each.get("optional", False))
            for each in description["members"]
        )
        if not cases:
            return found
        variant = description["variants"].get(cases[0])
        if variant is not None:
            return found + self.members(variant, *cases[1:])
        if cases[0] in self.values(next(m.type for m in found if m.name == description["tag"])):
            return found
        raise KeyError(cases[0])

    def values(self, type_name: str) -> tuple[str, ...]:
        """The values of an enum type."""
        return tuple(self.types[type_name]["enum"])


@lru_cache
def _load(name: str) -> Schema:
    place = resources.files("model.release.schemas").joinpath(f"{name}.json")
    try:
        text = place.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnknownSchemaError(name) from error
    return Schema.from_document(name, json.loads(text))

# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a release's commands the spec covers, member by member.

Each command, driver and type of object says beside its code what it does with its members
(:class:`Scope`): the spec *uses* a member; or it is *outside*, and answered as not modelled; or it
is *inert*: it changes nothing that the spec shows. What nobody speaks of is outside, too, and a
test finds it. :mod:`model.commands.coverage` lays these beside the schemas; from that come
the answers, the page ``docs/outside.md`` and the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from model.release.rules import outside
from model.values.state import EMPTY, FrozenDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from model.release.catalogue import Catalogue
    from model.release.rules import Evaluation
    from model.values.trace import Json

MEMBER = outside(
    "outside.member",
    "A command is given nothing that would make a difference which the spec does not know.",
    text="{what} is not modelled",
)


@attrs.frozen
class Outside:
    """A member that the spec does not model.

    It may be given all the same with one of the values ``unless``, which mean what leaving it out
    does. With ``when`` it may be given any value: that says when it makes the difference, and is
    answered as not modelled then.
    """

    reason: str
    unless: tuple[Json, ...] = ()
    when: str = ""

    def matters(self, value: Json) -> bool:
        """Whether giving the member this value is answered as not modelled at once."""
        return not self.when and not any(
            type(value) is type(each) and value == each for each in self.unless
        )


@attrs.frozen
class Scope:
    """What is done with the members of a command, or of one of its variants.

    ``used`` names the members that the spec uses. Those within a member that is an object have
    dotted names ("limits.iops-total"), behind the variant if it has any ("addr/unix.data.path");
    "encrypt.*" stands for all that is within. ``outside`` and ``inert`` say of the other members
    why they are so. ``variants`` are the values of the tag that the spec models; what it says of
    others is their own rule's business.
    """

    used: frozenset[str] = frozenset()
    outside: FrozenDict[str, Outside] = EMPTY
    inert: FrozenDict[str, str] = EMPTY
    variants: FrozenDict[str, Scope] = EMPTY
    known: frozenset[str] = attrs.field(init=False)
    nested: frozenset[str] = attrs.field(init=False)

    @known.default
    def _members_that_may_be_given(self) -> frozenset[str]:
        late = (name for name, each in self.outside.items() if each.when)
        return frozenset(name for name in (*self.used, *self.inert, *late) if "." not in name)

    @nested.default
    def _members_with_members(self) -> frozenset[str]:
        names = (*self.used, *self.inert, *self.outside)
        parts = {name.split(".")[0] for name in names if "." in name and "*" not in name}
        # Where a member has variants, they are looked at by whoever tells them apart.
        return frozenset(parts - {name.split("/")[0] for name in names if "/" in name})

    def kind(self, name: str) -> str:
        """The class of a member by its dotted name: "used", "outside", "inert", "" if unknown."""
        entry = self._entry(name)
        classes = {"used": self.used, "outside": self.outside, "inert": self.inert}
        return next((kind for kind, names in classes.items() if entry in names), "")

    def _entry(self, name: str) -> str:
        """What stands for a member: its name, or that of a whole that it belongs to."""
        entry = name
        while not (entry in self.used or entry in self.outside or entry in self.inert):
            name, dot, _ = name.rpartition(".")
            if not dot:
                return ""
            entry = f"{name}.*"
        return entry

    def about(self, name: str) -> tuple[str, Outside | None]:
        """Why a member is inert or outside, and what is outside of it."""
        entry = self._entry(name)
        if entry in self.outside:
            return self.outside[entry].reason, self.outside[entry]
        return self.inert.get(entry, ""), None

    def beyond(self, arguments: Mapping[str, Json], *, tag: str = "") -> Iterator[tuple[str, str]]:
        """The members given that make a difference which is not modelled: dotted name, variant.

        ``tag`` names the member that chooses the variant, if there are any.
        """
        case = str(arguments[tag]) if tag else ""
        variant = self.variants.get(case)
        if tag and variant is None:
            # Whoever answers that the variant is not modelled does so in QEMU's order.
            return
        takes = self.known if variant is None else self.known | variant.known
        looks = self.nested if variant is None else self.nested | variant.nested
        if takes.issuperset(arguments) and looks.isdisjoint(arguments):
            return
        for name, value in arguments.items():
            for part, inner in _parts(name, value) if name in looks else [(name, value)]:
                mine = bool(self.kind(part)) or variant is None
                owner = self if mine or variant is None else variant
                if owner.leaves(part, inner):
                    yield part, "" if mine else case

    def leaves(self, name: str, value: Json) -> bool:
        """Whether giving a member this value is answered as not modelled at once."""
        entry = self._entry(name)
        return self.outside[entry].matters(value) if entry in self.outside else not entry


def _parts(name: str, value: Json) -> list[tuple[str, Json]]:
    """A member's members, the inner ones with them, by their dotted names."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [part for key, inner in value.items() for part in _parts(f"{name}.{key}", inner)]


def scope(
    *used: str,
    outside: Mapping[str, Outside] | None = None,
    inert: Mapping[str, str] | None = None,
    variants: Mapping[str, Scope] | None = None,
) -> Scope:
    """A :class:`Scope` from plain dictionaries."""
    return Scope(
        frozenset(used),
        FrozenDict(outside or {}),
        FrozenDict(inert or {}),
        FrozenDict(variants or {}),
    )


def leave_if_any(ev: Evaluation, subjects: Iterable[str]) -> None:
    """Answer as not modelled if there is a subject. Raises ``NotModelledError``."""
    for subject in subjects:
        ev.leave(MEMBER, subject, what=named(subject))


def named(subject: str) -> str:
    """What an entry of the table is called in an answer."""
    command, _, member = subject.partition(".")
    return f"the member '{member}' of {command}" if member else subject


@attrs.frozen
class Entry:
    """A line of the table: what of a command, and what becomes of it.

    ``kind`` is "used", "outside" or "inert", and "" for what nobody speaks of. ``about`` says what
    is outside of it, where it is not so always.
    """

    subject: str
    kind: str
    reason: str = ""
    about: Outside | None = None


Handler = Callable[[Any, dict[str, Any]], Any]
"""A command: ``(transition, arguments) -> return value or None``."""

SCOPES: dict[Handler, Scope] = {}
"""What each command takes, by its function."""

LISTS: dict[Handler, Callable[[Catalogue], Iterable[Entry]]] = {}
"""The lines of the table about a command whose arguments no schema checks, by its function: made
from what a release says of its devices."""

H = TypeVar("H", bound=Handler)


def listed(lines: Callable[[Catalogue], Iterable[Entry]]) -> Callable[[H], H]:
    """Say of a command whose arguments no schema checks what its lines of the table are."""

    def register(handler: H) -> H:
        LISTS[handler] = lines
        return handler

    return register


def takes(
    *used: str,
    outside: Mapping[str, Outside] | None = None,
    inert: Mapping[str, str] | None = None,
    variants: Mapping[str, Scope] | None = None,
) -> Callable[[H], H]:
    """Say of a command what it does with its members. It never gets to see what is inert."""

    def register(handler: H) -> H:
        SCOPES[handler] = scope(*used, outside=outside, inert=inert, variants=variants)
        return handler

    return register

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a member of a command may hold: the kinds of values that :mod:`targets.allowed` is made of.

A value of another JSON type than a member takes makes QEMU refuse the whole command, and the
generator writes such commands. They may pass as long as nothing in them could be a name or an
address: null, booleans, numbers, plain words, and small containers of these.

Inside of a ``json:`` name QEMU does not check types: it reads numbers from strings ("4G"), and
words as booleans. There, a value is of its member's type or refused: the checks are ``strict``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Mapping
from typing import TYPE_CHECKING, TypeAlias

import attrs

from targets.json_names import PREFIX, parse

if TYPE_CHECKING:
    from model.values.trace import Json

Check: TypeAlias = Callable[["Json", bool], None]
"""Looks at a value, strictly or not; raises :class:`Refused`."""

_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}"
_FILE = re.compile(rf"(?:\./{{1,2}})?{_PLAIN}|\.?|/dev/(?:null|zero)(?:zz)?")
_ONE_LETTER = re.compile(r"([A-Za-z0-9_])\1*(?:zz)?")
_SOCKET = re.compile(rf"{_PLAIN}|missing/nbd\.sock")
_CONFIG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}")
_WORD = re.compile(r"[A-Za-z0-9_-]{0,64}")
_SHORT_WORD = re.compile(r"[A-Za-z0-9_-]{0,16}")
_INNER_TEXT = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_NOBODYS = re.compile(r"|no-?such[a-z-]*|[a-z0-9_-]*zz")
_MADE_UP = re.compile(
    rf"(?:blkdebug:(?:{_CONFIG.pattern})?|blkverify:{_PLAIN}):(?P<rest>.*)", re.DOTALL
)
_NULL_NAME = re.compile(r"null-(?:co|aio)://(?:zz)?")

_END = 2**64
_SMALL = 1024
_MOST_ODD = 4
_DEEPEST_ODD = 3
_LONGEST_HEADER_NAME = 200
_MOST_PREFIXES = 4
_MOST_IN_JSON = 50
_SHOWN = 60
_LONGEST_MEMBER = 64


class _Everything(Container[str]):
    def __contains__(self, _: object) -> bool:
        return True


EVERY_OTHER = _Everything()
"""The refused members of an object that may have no others than those of its table."""


def words(text: str) -> frozenset[str]:
    """The words of a text, as a table has them."""
    return frozenset(text.split())


class Refused(Exception):  # noqa: N818 - it never leaves the gate
    """Why a value may not be where it is; each container adds its part of the place."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.place = ""

    def inside(self, part: str) -> Refused:
        """The same, of something in the member ``part``, or in the element ``[index]``."""
        between = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{part}{between}{self.place}"
        return self


def shown(value: Json) -> str:
    """A value as a message shows it: on one line, without control characters, not too long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@attrs.frozen
class Kind:
    """A kind of values: its name, what it means for a reader, and the check.

    ``members`` and ``refused`` are those of an object; ``parts`` are the kind of a list's elements,
    or the kinds of a string and of anything else.
    """

    name: str
    means: str
    check: Check
    members: Mapping[str, Kind] | None = None
    refused: Container[str] = ()
    parts: tuple[Kind, ...] = ()


def odd(value: Json, strict: bool) -> None:
    """Let a value pass that QEMU refuses for its type, if nothing in it could be a name."""
    if strict:
        raise Refused(f"in a json: name, {shown(value)} is of the wrong type")
    _check_odd(value, _DEEPEST_ODD)


def _check_odd(value: Json, levels: int) -> None:
    if isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise Refused(f"{shown(value)} is of the wrong type, and no plain word either")
    elif isinstance(value, (dict, list)):
        if len(value) > _MOST_ODD or not levels:
            raise Refused("a value of the wrong type may have a few members only")
        for each in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_odd(each, levels - 1)


def nobodys(name: str) -> bool:
    """Whether a name is kept for what no release has: "no-such-...", or with "zz" at its end."""
    return _NOBODYS.fullmatch(name) is not None


def unknown(value: Json, refused: Container[str], strict: bool, name: str) -> None:
    """Let a member pass that no release has, so that QEMU refuses the command, if it is harmless.

    ``refused`` are members that some release does have. A release to come may have any other
    one: so it holds next to nothing.
    """
    if name in refused and not _nothing(value):
        raise Refused(
            "this member may reach out of the scratch directory or take much of the host: "
            "leave it out"
        )
    if strict or "." in name or len(name) > _LONGEST_MEMBER:
        raise Refused(
            "there is no such member here: write nested objects, and members that are known"
        )
    harmless = (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, (int, float)) and not _SMALL < abs(value) < _END)
        or (isinstance(value, str) and _SHORT_WORD.fullmatch(value) is not None)
        or (isinstance(value, (dict, list)) and not value)
    )
    if not harmless:
        raise Refused(f"no known release has this member, so it may not hold {shown(value)}")


def _nothing(value: Json) -> bool:
    """Whether a value names nothing and is no amount; the generator puts such ones anywhere."""
    if isinstance(value, str):
        return nobodys(value)
    return (
        value is None or isinstance(value, bool) or (isinstance(value, (dict, list)) and not value)
    )


def _part(name: str) -> str:
    return name if name and _WORD.fullmatch(name) else shown(name)


def check_members(
    given: Mapping[str, Json], table: Mapping[str, Kind], refused: Container[str], strict: bool
) -> None:
    """Check an object against a table of its members."""
    name = ""
    try:
        for name, value in given.items():
            kind = table.get(name)
            if kind is None:
                unknown(value, refused, strict, name)
            else:
                kind.check(value, strict)
    except Refused as refusal:
        raise refusal.inside(_part(name)) from None


# Kinds of one value


def _any_text(value: Json, strict: bool) -> None:
    if not isinstance(value, str):
        odd(value, strict)
    elif strict and not _INNER_TEXT.fullmatch(value):
        raise Refused(f"in a json: name, {shown(value)} is no plain word")


def _any_word(value: Json, strict: bool) -> None:
    if not isinstance(value, str):
        odd(value, strict)
    elif not _WORD.fullmatch(value):
        raise Refused(f"{shown(value)} is no plain word")


def _any_flag(value: Json, strict: bool) -> None:
    if value is not True and value is not False:
        odd(value, strict)


def _no_flag(value: Json, strict: bool) -> None:
    if value is True:
        raise Refused("a socket that is no file of the scratch directory: leave this out")
    odd(value, strict)


def _file_name(value: Json, strict: bool) -> None:
    if not isinstance(value, str):
        odd(value, strict)
    elif not _FILE.fullmatch(value):
        raise Refused(_no_plain_name("file", value))


def _socket_name(value: Json, strict: bool) -> None:
    if not isinstance(value, str):
        odd(value, strict)
    elif not _SOCKET.fullmatch(value):
        # An empty one is a place of QEMU's own choice, outside of the directory.
        raise Refused(_no_plain_name("socket", value))


def _config_name(value: Json, strict: bool) -> None:
    if not isinstance(value, str):
        odd(value, strict)
    elif not _CONFIG.fullmatch(value):
        raise Refused(_no_plain_name("file", value, most=32))


def _no_plain_name(what: str, value: str, most: int = 200) -> str:
    return (
        f"the {what} name {shown(value)} may lead out of the scratch directory: use letters, "
        f"digits, '_', '.', '+' and '-', at most {most}"
    )


def image_name(options: Check) -> Check:
    """The check of names by which QEMU calls images; ``options`` checks what ``json:`` holds."""

    def check(value: Json, strict: bool) -> None:
        if not isinstance(value, str):
            odd(value, strict)
            return
        rest = value
        for _ in range(_MOST_PREFIXES):
            made_up = _MADE_UP.fullmatch(rest)
            if made_up is None:
                break
            rest = made_up["rest"]
        if rest.startswith(PREFIX):
            if rest.count("{") + rest.count("[") > _MOST_IN_JSON:
                raise Refused(
                    f"a json: name may have {_MOST_IN_JSON} objects and lists: use fewer nodes"
                )
            try:
                # No release takes a name with more behind its JSON: a spoiled one is harmless.
                described = parse(rest.removesuffix("zz"))
            except ValueError as error:
                raise Refused(f"the name {shown(value)} cannot be read as JSON: {error}") from None
            options(described, True)
        elif not _NULL_NAME.fullmatch(rest):
            _file_name(rest, strict)

    return check


def header_name(options: Check) -> Check:
    """The same of names that are written into images, where others may find parts of them."""
    check_image = image_name(options)

    def check(value: Json, strict: bool) -> None:
        if isinstance(value, str) and len(value) > _LONGEST_HEADER_NAME:
            # What is left of it where a part is written over must be no name of a file.
            if not _ONE_LETTER.fullmatch(value):
                raise Refused(_no_plain_name("file", value))
        else:
            check_image(value, strict)

    return check


NAME = Kind("name", "what a node, job, export, object or device is called: any text", _any_text)
TEXT = Kind("text", "any text; nothing looks for a file or an address in it", _any_text)
WORD = Kind("word", "one of QEMU's own words, or another plain one", _any_word)
FLAG = Kind("flag", "true or false", _any_flag)
FALSE = Kind("false", "false", _no_flag)
FILE = Kind(
    "file",
    "a plain file name, `.`, an empty one, `/dev/null` or `/dev/zero`",
    _file_name,
)
CONFIG = Kind("short file", "a plain file name of at most 32 characters", _config_name)
SOCKET = Kind(
    "socket",
    "a plain file name, or `missing/nbd.sock`, in a directory that is not there",
    _socket_name,
)


def _no_number(value: Json, strict: bool) -> bool:
    """Let a value pass that is no number; inside of JSON, no number that QEMU takes is refused."""
    if type(value) is not int:
        odd(value, strict)
        return True
    if strict and not 0 <= value < _END:
        raise Refused(f"in a json: name, {shown(value)} is no number that QEMU takes here")
    return not 0 <= value < _END


def number(most: int, *, refused_from: int = _END) -> Kind:
    """A number up to ``most``; or from ``refused_from`` on, where every release refuses it."""

    def check(value: Json, strict: bool) -> None:
        if _no_number(value, strict) or value <= most:
            return
        if strict or value < refused_from:
            raise Refused(f"{value} is too much: use {most} or less")

    too_large = "" if refused_from == _END else f", or from {refused_from:,} on, which QEMU refuses"
    return Kind("number", f"a number up to {most:,}{too_large}", check)


def rate(least: int) -> Kind:
    """How much there may be in a second: nothing that would make somebody wait."""

    def check(value: Json, strict: bool) -> None:
        if not _no_number(value, strict) and 0 < value < least:
            raise Refused(f"{value} a second is too slow: use {least} or more, or 0 for no limit")

    return Kind("rate", f"a number from {least:,} on, or 0", check)


def piece(least: int) -> Kind:
    """How many bytes count as one operation: a request that counts as thousands takes hours."""

    def check(value: Json, strict: bool) -> None:
        if not _no_number(value, strict) and 0 < value < least:
            raise Refused(f"{value} bytes are too few: use {least} or more, or 0 for no limit")

    return Kind("rate", f"a number from {least:,} on, or 0", check)


def _any_number(value: Json, strict: bool) -> None:
    _no_number(value, strict)


ANY_NUMBER = Kind("any number", "any number: it costs nothing, however large it is", _any_number)


def one_of(what: str, values: Collection[str], instead: str) -> Kind:
    """One of some words, or one that is kept for what no release has."""
    words = frozenset(values)

    def check(value: Json, strict: bool) -> None:
        if not isinstance(value, str):
            odd(value, strict)
        elif value not in words and (strict or not nobodys(value)):
            raise Refused(f"{what} {shown(value)} is not among those that are allowed: {instead}")

    return Kind(what, ", ".join(f"`{word}`" for word in sorted(words)), check)


# Kinds of containers


def record(members: Mapping[str, Kind], refused: Container[str] = ()) -> Kind:
    """An object with these members."""

    def check(value: Json, strict: bool) -> None:
        if isinstance(value, dict):
            check_members(value, members, refused, strict)
        else:
            odd(value, strict)

    inner = "; ".join(f"`{name}`: {kind.means}" for name, kind in members.items())
    return Kind("object", f"an object ({inner})", check, members, refused)


def list_of(element: Kind) -> Kind:
    """A list of values of one kind."""

    def check(value: Json, strict: bool) -> None:
        if not isinstance(value, list):
            odd(value, strict)
            return
        for index, each in enumerate(value):
            try:
                element.check(each, strict)
            except Refused as refusal:
                raise refusal.inside(f"[{index}]") from None

    return Kind("list", f"a list of: {element.means}", check, parts=(element,))


def either(*, text: Kind, other: Kind, means: str) -> Kind:
    """A string of one kind, or anything else of another."""

    def check(value: Json, strict: bool) -> None:
        (text if isinstance(value, str) else other).check(value, strict)

    return Kind("either", means, check, parts=(text, other))

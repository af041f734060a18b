# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's JSON parser takes for a request, and what of that the spec can follow.

A command comes here as a value, and goes to QEMU as text. Values for which there is no such text,
or which QEMU's parser refuses or does not print as JSON again, are outside the spec: what QEMU
then says is about the text, and often says it several times.

Source: 5.2 to 11.1. Surrogates alone and characters that are none are refused, and so is what
nests deeper than 1024 levels; a number beyond the floating-point ones is read, and printed as
``inf``.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Final

from model.release.rules import outside

if TYPE_CHECKING:
    from model.release.rules import Evaluation
    from model.values.trace import Json

DEEPEST: Final = 1024
"""How many levels of lists and dictionaries QEMU's parser follows."""

TEXT = outside(
    "wire.text",
    "A request can be written as JSON that QEMU's parser reads.",
    text="a request with {what} is not modelled: QEMU's parser does not read it",
)
IDENTITY = outside(
    "wire.id",
    "The number of a request can be written as JSON.",
    text="a request whose id has a number beyond 1.8e308 is not modelled: QEMU's reply is no JSON",
)

_NO_CHARACTER = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
_FIRST_TOO_LARGE: Final = 2**1024 - 2**970
"""The first integer that is rounded to infinity."""


ORDINARY: Final = 12
"""Requests that nest no deeper are looked at with less ado."""
_MOST_VALUES: Final = 1_000_000


def check(ev: Evaluation, request: Json) -> int:
    """How deeply a request nests. Raises ``NotModelledError`` for one that has no JSON text."""
    if _is_ordinary(request, ORDINARY):
        return ORDINARY
    depth = count = 0
    level = [request]
    while level:
        depth += 1
        count += len(level)
        if depth > DEEPEST + 1:
            ev.leave(TEXT, "request", what=f"more than {DEEPEST} levels of nesting")
        if count > _MOST_VALUES:
            ev.leave(TEXT, "request", what=f"more than {_MOST_VALUES} values")
        level = _inside(ev, level)
    return depth


def _is_ordinary(value: Json, levels: int) -> bool:
    """Whether a value nests no deeper than that, and nobody could say anything against it."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is dict:
        for key, each in value.items():
            if type(key) is not str or not key.isascii():
                return False
            if type(each) is str:
                if not each.isascii():
                    return False
            elif type(each) is not bool and not (levels and _is_ordinary(each, levels - 1)):
                return False
        return True
    if kind is list:
        return levels > 0 and all(_is_ordinary(each, levels - 1) for each in value)
    return kind is int or kind is bool or value is None


def _inside(ev: Evaluation, level: list[Json]) -> list[Json]:
    """The values within some values, which are looked at themselves."""
    found: list[Json] = []
    for value in level:
        if isinstance(value, str):
            _check_text(ev, value)
        elif isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    ev.leave(TEXT, "request", what="a key that is no string")
                _check_text(ev, key)
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
        elif isinstance(value, float):
            if not isfinite(value):
                ev.leave(TEXT, "request", what=f"the number {value}")
        elif value is not None and not isinstance(value, int):
            ev.leave(TEXT, "request", what=f"a value of Python's type {type(value).__name__}")
    return found


def _check_text(ev: Evaluation, text: str) -> None:
    if not text.isascii() and _NO_CHARACTER.search(text):
        ev.leave(TEXT, "request", what="characters that are none")


def check_id(ev: Evaluation, request: Json) -> None:
    """Raise ``NotModelledError`` where the id of a request cannot be told in a reply."""
    if not isinstance(request, dict) or "id" not in request:
        return
    level = [request["id"]]
    while level:
        inside: list[Json] = []
        for value in level:
            if isinstance(value, dict):
                inside.extend(value.values())
            elif isinstance(value, list):
                inside.extend(value)
            elif isinstance(value, int) and abs(value) >= _FIRST_TOO_LARGE:
                ev.leave(IDENTITY, "request.id")
        level = inside

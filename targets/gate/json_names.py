# SPDX-License-Identifier: GPL-2.0-or-later
r"""File names that are JSON, read as QEMU reads them.

QEMU's parser takes more than the standard has, and less. Seen alike on 5.2, 7.2, 10.0 and 11.1:

* strings stand in double or in single quotes, and ``\'`` is an escape in both;
* there are no comments, no constants but true, false and null, nothing behind the value, and no
  white space but blanks, tabs and line ends;
* a member that is there twice is an error. (Python takes the last one: what was checked would not
  be what is opened.)
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from model.values.trace import Json

PREFIX = "json:"
"""What such a name begins with, in small letters."""

_TOKEN = re.compile(
    r"""
    "(?P<double>(?:[^"\\]|\\.)*)"
    | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<other>[^"']+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE_OR_QUOTE = re.compile(r'\\.|"', re.DOTALL)


def parse(name: str) -> Json:
    """What a ``json:`` name says. ValueError tells why QEMU would not read it, or we do not."""
    try:
        return json.loads(
            _standard(name.removeprefix(PREFIX)),
            object_pairs_hook=_once_each,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _standard(text: str) -> str:
    """The same with all strings in double quotes. Raises ValueError for a string without end."""
    position, parts = 0, []
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError("a string has no end")
        position = token.end()
        if token["other"] is not None:
            parts.append(token["other"])
        else:
            inner = token["double"] if token["double"] is not None else token["single"]
            parts.append(f'"{_ESCAPE_OR_QUOTE.sub(_in_double_quotes, inner)}"')
    return "".join(parts)


def _in_double_quotes(found: re.Match[str]) -> str:
    return {"\\'": "'", '"': '\\"'}.get(found[0], found[0])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a name of a file may be, as a member of a command and as QEMU calls images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from targets.gate.json_names import PREFIX, parse
from targets.gate.kinds import Kind, Refused, odd, shown

if TYPE_CHECKING:
    from model.values.trace import Json
    from targets.gate.kinds import Check

_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}"
_FILE = re.compile(rf"(?:\./{{1,2}})?{_PLAIN}|\.?|/dev/(?:null|zero)(?:zz)?")
_ONE_LETTER = re.compile(r"([A-Za-z0-9_])\1*(?:zz)?")
_SOCKET = re.compile(rf"{_PLAIN}|missing/nbd\.sock")
_CONFIG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}")
_MADE_UP = re.compile(
    rf"(?:blkdebug:(?:{_CONFIG.pattern})?|blkverify:{_PLAIN}):(?P<rest>.*)", re.DOTALL
)
_NULL_NAME = re.compile(r"null-(?:co|aio)://(?:zz)?")
_LONGEST_HEADER_NAME = 200
_MOST_PREFIXES = 4
_MOST_IN_JSON = 50


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

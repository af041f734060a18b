# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what a daemon says: each line is a message of QMP, or it is told what is wrong with it.

The bytes come from the program under test, so anything may come. What has the form of QMP is
handed on whatever it says, to be compared; what has not is a `ProtocolError`.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec

MOST_LINE = 64 << 20
"""Bytes of the longest line that a daemon may send: 64 MiB."""

MOST_ANSWERS = 256 << 20
"""Bytes that a daemon may send in answer to one trace: 256 MiB."""

MOST_EVENTS = 100_000
"""Events that a daemon may send in answer to one trace."""

MOST_LEVELS = 200
"""Objects and lists inside each other that a message may have."""

_SHOWN = 120

Message: TypeAlias = dict[str, Any]

_decode = msgspec.json.Decoder().decode
_LEVELS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_UNQUOTED = bytes(byte for byte in range(256) if byte not in {*_LEVELS, ord('"')})
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class ProtocolError(Exception):
    """A daemon said what is no QMP. The text is one line that says what, shortened."""


class TooMuchError(Exception):
    """A daemon said more than we keep: a limit of ours, and no fault of the daemon's."""


def quoted(line: bytes) -> str:
    """What a daemon said, in few and harmless characters."""
    text = ascii(line[: _SHOWN + 1].decode("utf-8", "backslashreplace"))[1:-1]
    return text if len(line) <= _SHOWN else f"{text[:_SHOWN]}..."


def shortened(message: Message) -> str:
    """A message in few and harmless characters."""
    return quoted(repr(message).encode(errors="replace"))


def read(line: bytes) -> Message:
    """The message of one line: an event, a reply or the greeting. Raises ProtocolError."""
    _check_depth(line)
    try:
        message = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"something that is not JSON: {quoted(line)}") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"something that is not an object: {quoted(line)}")
    if "event" in message:
        _check_event(message, line)
    elif "QMP" not in message:
        _check_reply(message, line)
    return message


def greeting(message: Message) -> dict[str, Any]:
    """What a daemon says of itself when it is spoken to. Raises ProtocolError."""
    told = message.get("QMP")
    if not isinstance(told, dict):
        raise ProtocolError(f"something other than a greeting: {shortened(message)}")
    return told


def capabilities(message: Message) -> None:
    """Take the reply to the choice of capabilities. Raises ProtocolError unless it is one."""
    if "return" not in message:
        raise ProtocolError(
            f"something other than the answer to qmp_capabilities: {shortened(message)}"
        )


def is_shown(value: object) -> bool:
    """Whether a value can be an answer to a query of the graph or its users."""
    return isinstance(value, (list, dict))


def _check_event(message: Message, line: bytes) -> None:
    if not isinstance(message["event"], str) or not isinstance(message.get("data", {}), dict):
        raise ProtocolError(f"something that is not an event: {quoted(line)}")


def _check_reply(message: Message, line: bytes) -> None:
    if ("return" in message) == ("error" in message):
        raise ProtocolError(f"something that is neither an event nor a reply: {quoted(line)}")
    error = message.get("error", {"class": "", "desc": ""})
    named = isinstance(error, dict) and all(
        isinstance(error.get(key), str) for key in ("class", "desc")
    )
    if not named:
        raise ProtocolError(f"an error without a class or a text: {quoted(line)}")


def _check_depth(line: bytes) -> None:
    """Refuse what nests too deeply; cheap for the lines that a daemon usually sends."""
    if line.count(b"[") + line.count(b"{") <= MOST_LEVELS:
        return
    # Strings may hold brackets, too. Most have no escapes, and every second quote ends one.
    if b"\\" in line:
        line = _STRING.sub(b"", line)
    brackets = b"".join(line.translate(None, _UNQUOTED).split(b'"')[::2])
    if max(accumulate(map(_LEVELS.__getitem__, brackets)), default=0) > MOST_LEVELS:
        raise ProtocolError(f"something that is nested too deeply: {quoted(line)}")

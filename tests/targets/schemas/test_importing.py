# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking a daemon for its schema when it says anything at all: an error of ours, in one line."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from targets.errors import TargetError
from targets.schemas import importing
from targets.schemas.importing import import_schema
from targets.schemas.monitor import BareMonitor, SchemaImportError

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 8, "micro": 7}}}}
OK: dict[str, Any] = {"return": {}}
TYPE = {"name": "0", "meta-type": "object", "members": []}


def said(*messages: Any) -> bytes:
    lines = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages)
    return b"".join(line + b"\r\n" for line in lines)


@contextmanager
def speaking(says: bytes) -> Iterator[socket.socket]:
    """A connection to a daemon that has said it all, and hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(says)
        theirs.shutdown(socket.SHUT_WR)
        yield ours


ODD: tuple[Any, ...] = (
    b"\x00\xff\xfe garbage \x1b[31m",
    b'{"return": "\xe2\x82"}',
    b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    [1, 2],
    5,
    None,
    {},
    {"error": {"class": 5, "desc": ["x"]}},
    {"event": 5},
)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("before", [[], [GREETING], [GREETING, OK]])
def test_what_is_no_qmp(odd: Any, before: list[Any]) -> None:
    with speaking(said(*before, odd)) as connection, pytest.raises(SchemaImportError) as raised:
        BareMonitor(connection, "it").send({"execute": "query-version"})
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "version", [None, 5, {}, {"qemu": 5}, {"qemu": []}, {"qemu": {"major": 1}}, [], "x"]
)
def test_a_greeting_without_a_version(version: Any) -> None:
    says = said({"QMP": {"version": version}})
    with speaking(says) as connection, pytest.raises(SchemaImportError, match="does not speak QMP"):
        BareMonitor(connection, "it")


def test_events_and_a_good_answer() -> None:
    with speaking(said(GREETING, OK, {"event": "A"}, {"return": [1]})) as connection:
        monitor = BareMonitor(connection, "it")
        assert monitor.release == "9.8.7"
        assert monitor.send({"execute": "x"}) == {"return": [1]}
        with pytest.raises(SchemaImportError, match="it closed the connection"):
            monitor.send({"execute": "x"})


@pytest.mark.parametrize(
    "answers",
    [
        (5, [], []),
        ([], 5, []),
        ([], [], None),
        ([], [5], []),
        ([{}], [], []),
        ([5], [], []),
        ([], [{"name": "blockdev-add"}], []),
        ([TYPE], [{"name": "blockdev-add"}], [{}]),
        ([{"name": "blockdev-add", "meta-type": "command", "arg-type": "0"}, TYPE], [], []),
        ([{"name": "blockdev-add", "meta-type": 5}], [{"name": "blockdev-add"}], []),
    ],
)
def test_an_answer_that_is_no_schema(
    answers: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def monitor(*_: Any) -> Iterator[BareMonitor]:
        says = said(GREETING, OK, *({"return": each} for each in answers))
        with speaking(says) as connection:
            yield BareMonitor(connection, "it")

    monkeypatch.setattr(importing, "bare_monitor", monitor)
    with pytest.raises(SchemaImportError) as raised:
        import_schema(["it"])
    assert isinstance(raised.value, TargetError)  # which the command line tells in one line
    assert "\n" not in str(raised.value)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon says may be anything: it ends in a value, and never in an exception."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest

from model.release.rules import NOT_MODELLED
from targets.daemons.daemon import OwnServer
from targets.daemons.exchange import Exchange
from targets.daemons.own_commands import Guests, Surroundings, begin
from targets.wire.connection import Connection
from targets.wire.messages import (
    MOST_LEVELS,
    ProtocolError,
    TooMuchError,
    capabilities,
    greeting,
    quoted,
    read,
)
from tests.targets.daemons.scripted import ScriptedDaemon, heard, lines

VERSION = {"execute": "query-version"}
STREAM = {"execute": "block-stream", "arguments": {"job-id": "j0"}}
WAIT = {"execute": "reopencheck-wait", "arguments": {"id": "j0", "status": "ready"}}
READ = {"execute": "reopencheck-read", "arguments": {"node": "n0"}}
OK: dict[str, Any] = {"return": {}}


def deep(levels: int) -> bytes:
    return b'{"return":' + b"[" * levels + b"]" * levels + b',"id":0}'


NO_QMP = [
    b"",
    b"garbage",
    b"\xff\xfe",
    b"[]",
    b"7",
    b"null",
    b'"return"',
    b"{}",
    b'{"return":{},"id":0',
    b'{"ret\xffurn":{}}',
    {"id": 0},
    {"return": {}, "error": {"class": "GenericError", "desc": "no"}, "id": 0},
    {"error": "no", "id": 0},
    {"error": {}, "id": 0},
    {"error": {"class": 1, "desc": "no"}, "id": 0},
    {"error": {"class": "GenericError", "desc": []}, "id": 0},
    {"event": 5},
    {"event": None},
    {"event": "A", "data": []},
    {"event": "A", "data": 7},
    {"return": {}},
    {"return": {}, "id": 1},
    {"return": {}, "id": -1},
    {"return": {}, "id": 10**30},
    {"return": {}, "id": []},
    {"return": {}, "id": {"a": []}},
    {"return": {}, "id": True},
    {"return": {}, "id": 0.0},
    {"return": {}, "id": "own1"},
    {"return": {}, "id": "nobody"},
    {"QMP": {}},
    deep(10_000),
    deep(900),
    deep(MOST_LEVELS),
]


@pytest.mark.parametrize("line", NO_QMP)
def test_what_is_no_qmp_is_told(line: Any) -> None:
    seen = heard(lines(line), (VERSION,))
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step) == ("protocol", 0)
    assert seen.death.detail.startswith("it says ")
    assert len(seen.death.detail) < 400
    assert seen.observations == ()


def test_what_is_good_before_is_kept() -> None:
    seen = heard(lines({**OK, "id": 0}, b"?"), (VERSION, VERSION))
    assert [each.reply for each in seen.observations] == [OK]
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step) == ("protocol", 1)


def test_a_reply_is_taken_once() -> None:
    seen = heard(lines({**OK, "id": 1}, {**OK, "id": 1}), (VERSION, VERSION))
    assert seen.death is not None
    assert "reply to no request" in seen.death.detail


def test_a_deep_answer_that_is_no_deeper_than_the_limit_is_an_answer() -> None:
    assert heard(lines(deep(MOST_LEVELS - 1)), (VERSION,)).death is None
    brackets = {"return": "[" * 1000 + '\\"{' * 1000, "id": 0}
    assert heard(lines(brackets), (VERSION,)).death is None


@pytest.mark.parametrize(
    "event",
    [
        {"event": "JOB_STATUS_CHANGE"},
        {"event": "JOB_STATUS_CHANGE", "data": {}},
        {"event": "JOB_STATUS_CHANGE", "data": {"id": [], "status": {}}},
        {"event": "DEVICE_DELETED", "data": {"path": 5}},
        {"event": "BLOCK_JOB_ERROR"},
        {"event": "BLOCK_JOB_ERROR", "data": {"action": "stop", "device": []}},
        {"event": "BLOCK_EXPORT_DELETED", "data": {"id": {}}},
        {"event": "ODD", "data": {"id": None}, "timestamp": "never"},
    ],
)
def test_an_event_of_another_form_is_there_to_be_compared(event: dict[str, Any]) -> None:
    seen = heard(lines(event, {**OK, "id": 0}), (VERSION,))
    assert seen.death is None
    shown = {key: value for key, value in event.items() if key != "timestamp"}
    assert seen.observations[0].events == (shown,)


@pytest.mark.parametrize("answer", [None, 7, "nodes", True, 1.5])
def test_an_answer_to_a_query_that_is_no_list_is_not_taken_for_no_answer(answer: Any) -> None:
    queries: tuple[Any, ...] = (
        {"return": answer},
        {"error": {"class": "GenericError", "desc": "no"}},
    )
    seen = heard(lines({**OK, "id": 0}, *queries), (VERSION,), observed=1)
    assert seen.death is None
    (shown,) = seen.observations
    assert (shown.nodes, shown.graph) == queries


@pytest.mark.parametrize("jobs", [None, 5, "x", [1], [[]], [{}], [{"id": "j0"}], {"id": 1}])
def test_jobs_of_another_form_are_told_in_our_own_voice(jobs: Any) -> None:
    arguments = {"id": "j0", "status": "running", "progress": 5}
    wait: dict[str, Any] = {"execute": "reopencheck-wait", "arguments": arguments}
    running = {"event": "JOB_STATUS_CHANGE", "data": {"id": "j0", "status": "running"}}
    says = lines(running, {**OK, "id": 0}, {"return": jobs, "id": "own1"})
    seen = heard(says, (STREAM, wait))
    replies = [each.reply for each in seen.observations]
    if len(replies) == 2:
        assert replies[1]["error"]["class"] == "ReopencheckNotModelled"
    else:
        assert seen.death is not None


def test_a_daemon_that_accepts_what_makes_no_sense() -> None:
    arguments: tuple[dict[str, Any], ...] = (
        {},
        {"arguments": 5},
        {"arguments": []},
        {"arguments": {"id": {}}},
    )
    odd: list[dict[str, Any]] = [
        {"execute": name, **more}
        for name in ("job-pause", "job-resume", "job-cancel", "block-job-pause", "device_add")
        for more in arguments
    ]
    moves: dict[str, Any] = {"execute": "x-blockdev-set-iothread", "arguments": {"iothread": "i"}}
    job: dict[str, Any] = {"execute": "block-stream"}
    commands = (moves, job, *odd)
    seen = heard(lines(*({**OK, "id": f"own{n}"} for n in range(1, 40))), commands)
    assert seen.death is not None
    server: dict[str, Any] = {"execute": "nbd-server-start", "arguments": 5}
    assert heard(b"", (*odd, job, server)).death is not None


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.wire.connection.MOST_LINE", 100_000)
    seen = heard(b'{"return":"' + b"x" * 150_000, (VERSION,))
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step) == ("protocol", 0)


def test_more_than_we_keep_is_no_fault_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.wire.connection.MOST_ANSWERS", 50_000)
    seen = heard(lines(*[{"event": "A"}] * 5_000), (VERSION,))
    assert seen.death is not None
    assert (seen.death.kind, "in answer to one trace" in seen.death.detail) == ("disturbed", True)
    monkeypatch.undo()
    monkeypatch.setattr("targets.daemons.exchange.MOST_EVENTS", 100)
    seen = heard(lines(*[{"event": "A"}] * 101), (VERSION,))
    assert seen.death is not None
    assert seen.death.kind == "disturbed"


def test_the_count_begins_anew_with_each_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.wire.connection.MOST_ANSWERS", 1000)
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    with theirs:
        for _ in range(3):
            theirs.sendall(b"x" * 700 + b"\r\n")
            assert len(connection.receive(1)) == 1
            connection.drain()
        theirs.sendall(b"x" * 1001)
        with pytest.raises(TooMuchError):
            connection.receive(1)
    connection.close()


def test_half_a_line_is_still_there_for_its_other_half() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    with theirs:
        theirs.sendall(b"late\r\nha")
        connection.drain()
        theirs.sendall(b"lf\r\n")
        assert connection.receive(1) == [b"half"]
        theirs.sendall(b"one\r")
        assert connection.available() == []
        theirs.sendall(b"\ntwo\r\n")
        assert connection.receive(1) == [b"one", b"two"]
    connection.close()


@pytest.mark.parametrize(
    "message", [{}, {"QMP": []}, {"QMP": None}, {"return": {}}, {"event": "A"}]
)
def test_an_odd_greeting(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="other than a greeting"):
        greeting(message)
    with pytest.raises(ProtocolError, match="other than the answer to qmp_capabilities"):
        capabilities({"error": {"class": "GenericError", "desc": "no"}})


def test_what_is_quoted_is_short_and_harmless() -> None:
    assert quoted(b"\x1b[31m\xff\n") == r"\x1b[31m\\xff\n"
    assert len(quoted(b"\x1b" * 1000)) < 150


def _piece(chance: random.Random) -> bytes:
    values: list[Any] = [0, 1, -1, True, None, "own1", "own2", "j0", [], {}, [{}], 10**25, 1.5]
    pieces: list[Any] = [
        {"return": chance.choice(values), "id": chance.choice(values)},
        {"return": chance.choice(values)},
        {"error": chance.choice([*values, {"class": "GenericError", "desc": "no"}])},
        {
            "event": chance.choice(["JOB_STATUS_CHANGE", "BLOCK_JOB_ERROR", "DEVICE_DELETED", 5]),
            "data": chance.choice([*values, {"id": "j0", "status": chance.choice(values)}]),
        },
        chance.randbytes(chance.randrange(30)),
    ]
    line = lines(chance.choice(pieces))
    if chance.random() < 0.1:
        at = chance.randrange(len(line))
        line = line[:at] + chance.randbytes(1) + line[at + 1 :]
    return line


def test_any_bytes_end_in_a_value() -> None:
    chance = random.Random(10)  # noqa: S311  # repeatable on purpose
    commands = (VERSION, STREAM, WAIT, READ, VERSION)
    kinds = set()
    for _ in range(400):
        says = b"".join(_piece(chance) for _ in range(chance.randrange(8)))
        if chance.random() < 0.3:
            says = lines({**OK, "id": 0}, {**OK, "id": 1}) + says
        seen = heard(says, commands, observed=chance.choice([0, 0, 5]))
        assert len(seen.observations) <= len(commands)
        kinds.add(None if seen.death is None else seen.death.kind)
    assert {"protocol", "exit"} <= kinds


def test_a_message_is_an_object_with_a_form() -> None:
    assert read(b'{"return": [], "id": 7}') == {"return": [], "id": 7}
    assert read(b'{"event": "A"}') == {"event": "A"}


def test_a_thousand_answers_that_each_come_in_time_are_a_limit_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("targets.daemons.exchange.LONGEST", 0.0)
    daemon = ScriptedDaemon(lines({"return": {}, "id": 0}), hangs_up=False)
    try:
        exchange = Exchange(daemon, [{"execute": "query-jobs"}] * 2, observed=0)
        death = exchange.finish(5.0)
    finally:
        daemon.close()
    assert death is not None
    assert (death.kind, death.limit) == ("disturbed", True)
    assert death.detail == "more than 0 s for one trace"


def test_guests_have_one_patience_for_all_disks_of_a_trace() -> None:
    place = Surroundings({}, OwnServer("nowhere"), guests=Guests(left=0.0))
    work = begin(READ, place)
    with pytest.raises(StopIteration) as answer:
        next(work)
    assert answer.value.value["error"]["class"] == NOT_MODELLED


@pytest.mark.parametrize("text", [b"[[[", b'\\"[[[', b"\\\\", b'{\\"[', b""])
def test_brackets_in_strings_are_no_levels(text: bytes) -> None:
    inner = b",".join([b'{"a":"%s"}' % text] * MOST_LEVELS)
    assert len(read(b'{"return":[%s]}' % inner)["return"]) == MOST_LEVELS
    with pytest.raises(ProtocolError, match="nested too deeply"):
        read(b'{"return":[%s,%s]}' % (inner, b"[" * MOST_LEVELS + b"]" * MOST_LEVELS))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands on their way to a daemon, our own among them: what is sent when, what comes back."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from targets.daemons.daemon import Daemon, OwnServer
from targets.daemons.deaths import Death
from targets.daemons.own_commands import (
    OutOfTimeError,
    Surroundings,
    send,
    until_drains_end,
)
from targets.daemons.replay import Exchange
from targets.wire.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeDaemon(Daemon):
    """A daemon that the test plays itself, at the other end of a socket."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.connection = Connection(ours)
        self.nbd = OwnServer("nowhere")
        self.directory = Path("/nowhere")
        self.theirs.settimeout(5)

    def autopsy(self, step: int, *, silent: bool) -> Death:
        return Death("hang" if silent else "exit", step)

    def say(self, *messages: dict[str, Any]) -> None:
        self.theirs.sendall(b"".join(json.dumps(each).encode() + b"\r\n" for each in messages))

    def heard(self) -> list[dict[str, Any]]:
        """What has been sent since the last call."""
        text = self.theirs.recv(1 << 20).decode()
        found, decoder = [], json.JSONDecoder()
        while text:
            value, end = decoder.raw_decode(text)
            found.append(value)
            text = text[end:]
        return found


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.connection.close()
    daemon.theirs.close()


def status(word: str, job: str = "j0") -> dict[str, Any]:
    return {"event": "JOB_STATUS_CHANGE", "data": {"status": word, "id": job}, "timestamp": 1}


def wait(word: str, **more: Any) -> dict[str, Any]:
    return {"execute": "reopencheck-wait", "arguments": {"id": "j0", "status": word, **more}}


def answer(number: int | str, value: Any = None) -> dict[str, Any]:
    return {"return": value or {}, "id": number}


STREAM = {"execute": "block-stream", "arguments": {"job-id": "j0"}}


VERSION = {"execute": "query-version"}


def test_what_follows_a_wait_is_sent_when_the_job_is_there(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (VERSION, STREAM, wait("pending"), VERSION, VERSION), observed=0)
    assert [each["execute"] for each in fake.heard()] == ["query-version", "block-stream"]
    fake.say(answer(0), status("created"), status("running"), answer(1), status("waiting"))
    assert exchange.go_on()
    assert exchange.answered == 2
    fake.say(status("pending"), {"event": "BLOCK_JOB_PENDING", "data": {"device": "j0"}})
    assert exchange.go_on()
    assert [each["id"] for each in fake.heard()] == [3, 4]
    fake.say(answer(3), answer(4))
    assert exchange.finish(1) is None
    assert exchange.done
    assert exchange.replies()[2] == {"return": {"status": "pending"}}
    events = [
        [e["data"].get("status", e["event"]) for e in each.events]
        for each in exchange.observations()
    ]
    # The last one came with the status, but after it.
    assert events == [[], ["created", "running"], ["waiting", "pending"], ["BLOCK_JOB_PENDING"], []]


def test_a_step_that_is_waited_for_is_not_observed(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("null")), observed=2)
    assert [each["execute"] for each in fake.heard()] == ["block-stream"]
    fake.say(answer(0))
    exchange.go_on()
    asked = [each["execute"] for each in fake.heard()]
    assert asked == [
        "query-named-block-nodes",
        "x-debug-query-block-graph",
        "query-block-jobs",
    ]
    node, job = {"node-name": "n0"}, {"device": "j0"}
    graph: dict[str, Any] = {"nodes": [], "edges": []}
    fake.say({"return": [node]}, {"return": graph}, {"return": [job]})
    assert exchange.finish(1) is None
    first, second = exchange.observations()
    assert (first.nodes, first.graph, first.jobs, first.exports) == (None, None, None, None)
    assert (second.nodes, second.graph, second.jobs) == ([node], graph, [job])
    assert second.exports is None


def test_a_job_that_was_never_made_is_not_waited_for(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("ready")), observed=0)
    fake.heard()
    fake.say({"error": {"class": "GenericError", "desc": "no"}, "id": 0})
    assert exchange.finish(1) is None
    desc = "Job 'j0' does not come to the status 'ready' but to 'null'"
    assert exchange.replies()[1] == {"error": {"class": "GenericError", "desc": desc}}


def test_a_concluded_job_is_asked_for_once_more(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("null")), observed=0)
    fake.heard()
    fake.say(answer(0), status("concluded"))
    exchange.go_on()
    (query,) = fake.heard()
    assert query["execute"] == "query-jobs"
    fake.say(status("null"), answer(query["id"], []))
    assert exchange.finish(1) is None
    assert exchange.replies()[1] == {"return": {"status": "null"}}


def test_progress_is_asked_for_until_it_is_there(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("running", progress=10)), observed=0)
    fake.heard()
    fake.say(status("running"), answer(0))
    exchange.go_on()
    for progress in (0, 5, 12):
        (query,) = fake.heard()
        assert not exchange.done
        fake.say(answer(query["id"], [{"id": "j0", "current-progress": progress}]))
        exchange.go_on()
    assert exchange.replies()[1] == {"return": {"status": "running"}}


def test_progress_is_not_waited_for_when_the_job_is_gone(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("running", progress=10)), observed=0)
    fake.heard()
    fake.say(status("running"), answer(0))
    exchange.go_on()
    (query,) = fake.heard()
    fake.say(status("concluded"), status("null"), answer(query["id"], [{"id": "other"}]))
    assert exchange.finish(1) is None
    assert "but to 'null'" in exchange.replies()[1]["error"]["desc"]


def test_a_daemon_that_answers_does_not_hang(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("ready"), VERSION), observed=0, patience=0.05)
    fake.heard()
    fake.say(status("running"), answer(0))
    death: list[Death | None] = []
    thread = threading.Thread(target=lambda: death.append(exchange.finish(2)))
    thread.start()
    (query,) = fake.heard()
    fake.say(answer(query["id"], []))
    assert fake.heard() == [{**VERSION, "id": 2}]
    fake.say(answer(2))
    thread.join()
    assert death == [None]
    assert "but to 'running'" in exchange.replies()[1]["error"]["desc"]


def test_a_daemon_that_is_silent_in_a_wait_hangs(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("ready")), observed=0, patience=0.05)
    fake.say(answer(0), status("running"))
    assert exchange.finish(0.1) == Death("hang", 1)
    assert len(exchange.observations()) == 1


def test_a_daemon_that_goes_in_a_wait_is_lost(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("ready")), observed=0)
    fake.say(answer(0), status("running"))
    fake.theirs.close()
    exchange.go_on()
    assert not exchange.go_on()
    assert exchange.finish(1) == Death("exit", 1)


MOVE = {"execute": "x-blockdev-set-iothread", "arguments": {"node-name": "n", "iothread": "i"}}


QUERIES = ["query-named-block-nodes", "x-debug-query-block-graph", "query-block-jobs"]


def seen(*events: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Answers to the queries."""
    return (*events, {"return": []}, {"return": {}}, {"return": []})


def test_a_job_in_another_thread_goes_on_before_it_is_looked_at(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (STREAM, wait("ready"), MOVE, VERSION), observed=4)
    (stream,) = fake.heard()
    fake.say(status("ready"), answer(stream["id"]))
    exchange.go_on()
    assert [each["execute"] for each in fake.heard()] == QUERIES
    fake.say(*seen())
    exchange.go_on()
    (move,) = fake.heard()
    assert move["execute"] == "x-blockdev-set-iothread"
    fake.say(status("standby"), answer(move["id"]))
    exchange.go_on()
    fake.say(status("ready"))
    exchange.go_on()
    assert [each["execute"] for each in fake.heard()] == QUERIES
    fake.say(*seen())
    exchange.go_on()
    (version,) = fake.heard()
    fake.say(answer(version["id"]), *seen())
    assert exchange.finish(1) is None
    assert len(exchange.observations()[2].events) == 2


def test_a_job_that_a_client_has_paused_is_looked_at(fake: FakeDaemon) -> None:
    pause = {"execute": "job-pause", "arguments": {"id": "j0"}}
    exchange = Exchange(fake, (MOVE, STREAM, pause, VERSION), observed=4)
    for number, events in ((0, ()), (1, (status("running"),)), (2, (status("paused"),)), (3, ())):
        (request,) = fake.heard()
        fake.say(*events, answer(request["id"]))
        exchange.go_on()
        assert [each["execute"] for each in fake.heard()] == QUERIES
        assert exchange.answered == number
        fake.say(*seen())
        exchange.go_on()
    assert exchange.done


def test_a_job_that_stays_paused_is_looked_at_in_the_end(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (MOVE, STREAM), observed=2, patience=0.05)
    (move,) = fake.heard()
    fake.say(status("paused"), answer(move["id"]))
    assert exchange.finish(0.1) == Death("hang", 0)
    assert [each["execute"] for each in fake.heard()] == QUERIES


def test_a_request_that_cannot_be_read_has_a_reply_without_a_name(fake: FakeDaemon) -> None:
    exchange = Exchange(fake, (MOVE, STREAM), observed=2)
    fake.heard()
    fake.say({"error": {"class": "GenericError", "desc": "no"}})
    exchange.go_on()
    fake.heard()
    fake.say(*seen())
    exchange.go_on()
    assert exchange.answered == 1
    assert "error" in exchange.replies()[0]


def test_a_refused_export_is_the_reply_to_a_read(fake: FakeDaemon) -> None:
    read = {"execute": "reopencheck-read", "arguments": {"node": "n0"}}
    exchange = Exchange(fake, (read,), observed=0)
    (start,) = fake.heard()
    assert start["execute"] == "nbd-server-start"
    fake.say(answer(start["id"]))
    exchange.go_on()
    (export,) = fake.heard()
    assert export["arguments"]["node-name"] == "n0"
    refused = {"error": {"class": "GenericError", "desc": "no"}}
    fake.say({**refused, "id": export["id"]})
    assert exchange.finish(1) is None
    assert exchange.replies() == [refused]
    assert fake.nbd.running


def test_own_server_makes_way_for_the_one_of_a_trace(fake: FakeDaemon) -> None:
    fake.nbd.running = True
    exchange = Exchange(fake, ({"execute": "nbd-server-start"},), observed=0)
    stop, start = fake.heard()
    assert (stop["execute"], start["execute"]) == ("nbd-server-stop", "nbd-server-start")
    fake.say(answer(stop["id"]), answer(0, 7))
    assert exchange.finish(1) is None
    assert exchange.replies() == [{"return": 7}]
    assert not fake.nbd.running


@pytest.mark.parametrize("arguments", [{}, {"id": "j0"}, {"id": [], "status": "ready"}])
def test_a_command_of_ours_that_makes_no_sense_is_refused(
    fake: FakeDaemon, arguments: dict[str, Any]
) -> None:
    command = {"execute": "reopencheck-wait", "arguments": arguments}
    exchange = Exchange(fake, (command,), observed=0)
    assert exchange.done
    assert "cannot be carried out" in exchange.replies()[0]["error"]["desc"]


def test_a_job_that_does_not_go_on_is_waited_for_once() -> None:
    command = {"execute": "query-jobs"}
    own = OwnServer("nowhere")
    place = Surroundings({"j0": "standby"}, own)
    for waits in (True, False):
        work = until_drains_end(send(command), command, place)
        assert next(work) == command
        if waits:
            assert work.send({"return": []}) is None
        with pytest.raises(StopIteration, match="return"):
            work.throw(OutOfTimeError) if waits else work.send({"return": []})
    assert place.stuck == {"j0"}

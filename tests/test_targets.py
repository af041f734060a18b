# SPDX-License-Identifier: GPL-2.0-or-later
"""What `targets` refuses without any daemon: wrong binaries, wrong images, lost connections."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import OBJECT
from model.values.programs import EMULATOR
from model.values.trace import Command, ImageSpec, Trace
from targets.binaries import find_daemon, find_driven, find_qemu_img
from targets.connection import Connection, ConnectionLostError, SilenceError
from targets.daemon import Daemon, OwnServer
from targets.deaths import Death
from targets.driving import OutOfTimeError, Surroundings, objects_of, send, settled
from targets.errors import TargetError
from targets.images import ImageStore, contained_name
from targets.nbd import Runs, add_runs
from targets.pool import Pool
from targets.replay import Exchange
from targets.reset import makes_users, needs_restart, removals

if TYPE_CHECKING:
    from collections.abc import Iterator


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_binary_that_does_not_exist() -> None:
    with pytest.raises(TargetError, match=r"^no such binary in PATH: no-such-daemon$"):
        find_daemon("no-such-daemon")
    with pytest.raises(TargetError, match=r"^no such binary: /nowhere/qsd$"):
        find_daemon("/nowhere/qsd")
    with pytest.raises(TargetError, match="empty"):
        find_daemon("")
    with pytest.raises(TargetError, match="cannot read the command line"):
        find_daemon("'unbalanced")


def test_a_binary_that_is_not_executable(tmp_path: Path) -> None:
    plain = tmp_path / "qsd"
    plain.write_text("")
    with pytest.raises(TargetError, match="not executable: "):
        find_daemon(str(plain))
    with pytest.raises(TargetError, match="a directory"):
        find_daemon(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "echo hello",
        "exit 3",
        "echo qemu-img version 7.2.22",
        "echo qemu-storage-daemon version 7.2.22; exit 1",
        "echo qemu-storage-daemon version banana",
        "kill -SEGV $$",
    ],
)
def test_a_binary_that_is_no_storage_daemon(tmp_path: Path, text: str) -> None:
    wrong = script(tmp_path / "wrong", text)
    with pytest.raises(TargetError, match="not a storage daemon: ") as caught:
        find_daemon(str(wrong))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    with pytest.raises(TargetError, match="cannot run "):
        find_daemon(str(broken))


def test_versions_and_spaces_in_paths(tmp_path: Path) -> None:
    text = "qemu-storage-daemon version 11.1.0-rc2 (Debian 1:11.1.0~rc2)"
    path = script(tmp_path / "with space", f"echo '{text}'; echo Copyright")
    build = find_daemon(str(path))
    assert (build.version, build.release, build.text) == ("11.1.0-rc2", "11.1", text)
    assert build.argv == (str(path),)
    again = find_daemon(f"'{path}' --extra")
    assert again.argv == (str(path), "--extra")


def test_the_system_emulator_is_driven_but_is_no_storage_daemon(tmp_path: Path) -> None:
    text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
    path = str(script(tmp_path / "emulator", f"echo '{text}'"))
    build = find_driven(path)
    assert (build.version, build.program) == ("7.2.22", EMULATOR)
    with pytest.raises(TargetError, match="not a storage daemon: "):
        find_daemon(path)
    other = str(script(tmp_path / "other", "echo qemu-img version 7.2.22"))
    with pytest.raises(TargetError, match="not a storage daemon or a system emulator: "):
        find_driven(other)
    daemon = str(script(tmp_path / "daemon", "echo qemu-storage-daemon version 7.2.22"))
    assert find_driven(daemon) == find_daemon(daemon)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool", "echo qemu-img version 7.2.22")
    monkeypatch.chdir(tmp_path)
    assert find_qemu_img("./tool").argv == (str(tmp_path / "tool"),)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../hd0", "/etc/passwd", "a/b", "a/../b", "-hd0", ".hd0", "nbd:x"),
        *("json:{}", "nbd://host/x", "hd0\n", "hd0\0", "hd 0", "~", "x" * 300, "a\\b", "$HOME"),
    ],
)
def test_a_name_that_could_leave_the_scratch_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(TargetError, match="scratch directory"):
        contained_name(name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = ImageStore()
    for image in (ImageSpec(name, "raw", 0), ImageSpec("hd0", "qcow2", 0, name, "raw")):
        with pytest.raises(TargetError):
            store.create(scratch, [image])
    assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == [scratch]


@pytest.mark.parametrize("name", ["hd0.qcow2", "a", "A_1-b.raw", "_x", "x" * 200])
def test_a_name_that_stays(name: str) -> None:
    assert contained_name(name) == name


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (ImageSpec("hd0", "vhdx", 0), "unknown format"),
        (ImageSpec("hd0", "raw", -1), "size"),
        (ImageSpec("hd0", "raw", 1 << 60), "size"),
    ],
)
def test_an_image_that_is_not_made(tmp_path: Path, image: ImageSpec, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        ImageStore().create(tmp_path, [image])


def test_a_missing_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no such binary in PATH: qemu-img"):
        ImageStore().create(tmp_path, [ImageSpec("hd0", "raw", 0)])


def test_a_pool_needs_a_daemon(tmp_path: Path) -> None:
    build = find_daemon(str(script(tmp_path / "x", "echo qemu-storage-daemon version 7.2.22")))
    with pytest.raises(TargetError, match="pool of 0"):
        Pool[int](build, 0)


def test_lines_are_put_together_and_sending_never_blocks() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    with theirs:
        with pytest.raises(SilenceError):
            connection.receive(0.01)
        theirs.sendall(b"one\r\ntw")
        assert connection.receive(1) == [b"one"]
        theirs.sendall(b"o\r\nthree\r\n")
        assert connection.receive(1) == [b"two", b"three"]
        connection.send(b"x" * 5_000_000)  # far more than a socket holds
        received = len(theirs.recv(1 << 20))
        theirs.sendall(b"go on\r\n")
        assert connection.receive(1) == [b"go on"]
        theirs.settimeout(1)
        while received < 5_000_000:
            received += len(theirs.recv(1 << 20))
            theirs.sendall(b".\r\n")
            connection.receive(1)
        theirs.sendall(b"last\r\n")
    connection.send(b"to nobody")
    assert connection.receive(1)[-1] == b"last"
    with pytest.raises(ConnectionLostError):
        connection.receive(1)
    connection.close()


def test_removals_go_by_the_names_in_the_trace() -> None:
    trace = Trace(
        (),
        (
            {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "t0"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "a"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "b"}},
            {"execute": "blockdev-add", "arguments": {"node-name": 7}},
            {"execute": "blockdev-add"},
            {"execute": "blockdev-add", "arguments": []},
            {},
        ),
    )
    assert [list(each.get("arguments", {}).values()) for each in removals(trace)] == [
        ["b"],
        ["a"],
        ["t0"],
        [True],
    ]


def test_only_effects_that_stay_need_a_restart() -> None:
    trace = Trace((), ({"execute": "chardev-add"}, {"execute": "query-jobs"}, {"foo": 1}))
    error = {"error": {"class": "GenericError", "desc": ""}}
    assert not needs_restart(trace, [error, {"return": []}, error], {"JOB_STATUS_CHANGE"})
    assert needs_restart(trace, [{"return": {}}], ())
    assert needs_restart(trace, [error], {"QUORUM_REPORT_BAD"})


def test_objects_of_a_trace_are_words_of_a_command_line() -> None:
    group = {"qom-type": "throttle-group", "id": "tg0", "x-iops-total": 9}
    commands: list[Command] = [
        {"execute": OBJECT, "arguments": group},
        {"execute": "query-jobs"},
    ]
    assert objects_of(commands) == ("--object", "throttle-group,id=tg0,x-iops-total=9")
    assert objects_of(commands[1:]) == ()


def test_a_daemon_whose_own_object_may_be_gone_is_not_used_again() -> None:
    own = {"execute": OBJECT, "arguments": {"qom-type": "iothread", "id": "io0"}}
    gone = {"execute": "object-del", "arguments": {"id": "io0"}}
    assert needs_restart(Trace((), (own, gone)), [{"return": {}}] * 2, ())
    assert not needs_restart(Trace((), (own,)), [{"return": {}}], ())


def test_jobs_exports_and_threads_are_removed_by_themselves() -> None:
    assert not makes_users(Trace((), ({"execute": "blockdev-add"}, {"execute": "query-jobs"})))
    for name in ("block-stream", "block-export-add", "x-blockdev-set-iothread"):
        assert makes_users(Trace((), ({"execute": name},)))


def test_runs_are_merged_across_pieces() -> None:
    found: Runs = []
    add_runs(found, 0, bytes(5000) + b"\1" * 8000 + b"\2\n\n" + bytes(10))
    add_runs(found, 13013, bytes(10) + b"\3")
    add_runs(found, 13024, b"\3" * 9000)
    assert found == [
        [5000, 13000, 1],
        [13000, 13001, 2],
        [13001, 13003, 10],
        [13023, 22024, 3],
    ]


def test_runs_of_nothing() -> None:
    found: Runs = []
    add_runs(found, 0, b"")
    add_runs(found, 0, bytes(100_000))
    assert found == []


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
        work = settled(send(command), command, place)
        assert next(work) == command
        if waits:
            assert work.send({"return": []}) is None
        with pytest.raises(StopIteration, match="return"):
            work.throw(OutOfTimeError) if waits else work.send({"return": []})
    assert place.stuck == {"j0"}

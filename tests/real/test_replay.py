# SPDX-License-Identifier: GPL-2.0-or-later
"""A replay returns what each command showed, in order, and how far it got."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import READ, WAIT, WRITE
from model.values.trace import Command, ImageSpec, Observation, Trace
from targets.replay import Exchange, replay

if TYPE_CHECKING:
    from targets.daemon import Daemon
    from targets.images import ImageStore

MIB = 1 << 20


def qmp(execute: str, **arguments: Any) -> Command:
    return {
        "execute": execute,
        "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
    }


def null(name: str) -> Command:
    return qmp("blockdev-add", driver="null-co", node_name=name)


def hd(index: int, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": f"hd{index}.qcow2"}
    return {"driver": "qcow2", "node-name": f"hd{index}", "file": file, **more}


def test_replies_graph_and_refusal(daemon: Daemon, images: ImageStore) -> None:
    specs = (ImageSpec("hd0.qcow2", "qcow2", MIB), ImageSpec("hd1.qcow2", "qcow2", MIB))
    images.create(daemon.directory, specs)
    trace = Trace(
        specs,
        (
            {"execute": "blockdev-add", "arguments": hd(0)},
            {"execute": "blockdev-add", "arguments": hd(1, backing="hd0")},
            qmp("blockdev-reopen", options=[hd(1)]),
            qmp("blockdev-reopen", options=[hd(1, backing=None)]),
        ),
    )
    seen = replay(daemon, trace)
    assert seen.death is None
    added, chained, refused, detached = seen.observations
    assert added.reply == chained.reply == detached.reply == {"return": {}}
    desc = "backing is missing for 'hd1'"
    assert refused.reply == {"error": {"class": "GenericError", "desc": desc}}
    assert (refused.nodes, refused.graph) == (chained.nodes, chained.graph)
    assert chained.nodes is not None
    assert chained.graph is not None
    assert detached.graph is not None
    assert [n["node-name"] for n in chained.nodes if n["drv"] == "qcow2"] == ["hd1", "hd0"]
    assert [edge["name"] for edge in chained.graph["edges"]].count("backing") == 1
    assert [edge["name"] for edge in detached.graph["edges"]].count("backing") == 0


def test_without_observation_only_replies_come(daemon: Daemon) -> None:
    seen = replay(daemon, Trace((), (null("n"), null("n"))), observe=False)
    assert [list(each.reply) for each in seen.observations] == [["return"], ["error"]]
    assert all(each.nodes is None and each.graph is None for each in seen.observations)


@pytest.mark.parametrize("lockstep", [False, True])
def test_answers_belong_to_their_commands(daemon: Daemon, *, lockstep: bool) -> None:
    trace = Trace((), tuple(null(f"n{index}") for index in range(50)))
    seen = replay(daemon, trace, lockstep=lockstep)
    assert [len(each.nodes or ()) for each in seen.observations] == list(range(1, 51))


def test_five_hundred_commands_with_large_answers_do_not_block(daemon: Daemon) -> None:
    commands = [null(f"n{index}") for index in range(60)]
    commands += [qmp("blockdev-reopen", options=[{"driver": "null-co", "node-name": "n0"}])] * 440
    seen = replay(daemon, Trace((), tuple(commands)))
    assert seen.death is None
    assert len(seen.observations) == 500
    assert len(seen.observations[-1].nodes or ()) == 60


def test_a_request_larger_than_any_buffer_gets_through(daemon: Daemon) -> None:
    long = qmp("blockdev-add", driver="null-co", node_name="x" * 300_000)
    # The daemon is slow with such a name, and slower on a busy host.
    seen = replay(daemon, Trace((), (long, null("n"))), timeout=120.0)
    assert ["error" in each.reply for each in seen.observations] == [True, False]


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"foo": 1},
        {"execute": 1},
        {"execute": "nope", "arguments": {"number": 10**40}},
        {"execute": "nope", "arguments": {"text": "\ud800 \u00e9 \x01"}},
        {"execute": "query-version", "id": {"own": "id"}, "arguments": {"x": [1.5, None, True]}},
        {"exec-oob": "query-version"},
    ],
)
def test_whatever_is_sent_gets_its_own_refusal(daemon: Daemon, command: Command) -> None:
    seen = replay(daemon, Trace((), (null("a"), command, null("b"))))
    before, odd, after = seen.observations
    assert before.reply == after.reply == {"return": {}}
    assert list(odd.reply) == ["error"]
    assert len(odd.nodes or ()) == 1
    assert len(after.nodes or ()) == 2


def test_events_count_for_the_step_during_which_they_came(
    daemon: Daemon, images: ImageStore
) -> None:
    specs = (ImageSpec("hd0.qcow2", "qcow2", MIB),)
    images.create(daemon.directory, specs)
    create = {"driver": "qcow2", "file": "f", "size": MIB}
    trace = Trace(
        specs,
        (
            qmp("blockdev-add", driver="file", node_name="f", filename="hd0.qcow2"),
            qmp("blockdev-create", job_id="job0", options=create),
            {"execute": "query-jobs"},
        ),
    )
    seen = replay(daemon, trace)
    assert seen.observations[0].events == ()
    names = [event["event"] for each in seen.observations[1:] for event in each.events]
    assert names
    assert set(names) == {"JOB_STATUS_CHANGE"}


def test_an_exit_in_a_trace_keeps_what_came_before(daemon: Daemon) -> None:
    trace = Trace((), (null("a"), null("b"), {"execute": "quit"}, null("c"), null("d")))
    seen = replay(daemon, trace, lockstep=True)
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step, seen.death.status) == ("exit", 2, 0)
    assert len(seen.observations) in {2, 3}  # the reply to quit may or may not come out
    assert len(seen.observations[1].nodes or ()) == 2
    assert all(each.nodes is None for each in seen.observations[2:])


@pytest.mark.parametrize(
    ("number", "kind", "timeout"),
    [(signal.SIGSEGV, "crash", 60.0), (signal.SIGSTOP, "disturbed", 0.5)],
)
def test_a_loss_in_the_middle_of_a_trace_is_a_value(
    daemon: Daemon, number: signal.Signals, kind: str, timeout: float
) -> None:
    commands = (null("n"), *[{"execute": "query-version"}] * 20_000)
    exchange = Exchange(daemon, commands, observed=len(commands))
    while exchange.answered < 100:
        assert exchange.go_on()
    os.kill(daemon.pid, number)
    death = exchange.finish(timeout)
    assert death is not None
    assert death.kind == kind
    assert 100 <= death.step < 20_000
    observations = exchange.observations()
    assert len(observations) - death.step in {0, 1}
    assert all(each.nodes for each in observations[: death.step])
    assert not daemon.alive


CHAIN = (
    ImageSpec("hd0.qcow2", "qcow2", MIB, data=((0, MIB, 1),)),
    ImageSpec("hd1.qcow2", "qcow2", MIB, "hd0.qcow2", "qcow2", ((0, 65_536, 2),)),
    ImageSpec("hd2.qcow2", "qcow2", MIB),
)
ADD_CHAIN: tuple[Command, ...] = (
    {"execute": "blockdev-add", "arguments": hd(0)},
    {"execute": "blockdev-add", "arguments": hd(1, backing="hd0")},
    {"execute": "blockdev-add", "arguments": hd(2)},
)


def wait(status: str, **more: Any) -> Command:
    return qmp(WAIT, id="j0", status=status, **more)


def seen_of(daemon: Daemon, images: ImageStore, *commands: Command) -> tuple[Observation, ...]:
    """What commands show on the chain, without what adds it."""
    images.create(daemon.directory, CHAIN)
    seen = replay(daemon, Trace(CHAIN, (*ADD_CHAIN, *commands)))
    assert seen.death is None
    return seen.observations[len(ADD_CHAIN) :]


def statuses(observation: Observation) -> list[str]:
    return [e["data"]["status"] for e in observation.events if e["event"] == "JOB_STATUS_CHANGE"]


def test_a_mirror_is_waited_for(daemon: Daemon, images: ImageStore) -> None:
    start = qmp("blockdev-mirror", job_id="j0", device="hd1", target="hd2", sync="full")
    seen = seen_of(
        daemon,
        images,
        *(start, wait("ready")),
        *(qmp("job-pause", id="j0"), wait("standby"), wait("standby")),
        *(qmp("job-resume", id="j0"), wait("ready")),
        *(qmp("job-complete", id="j0"), wait("null"), wait("ready")),
        qmp(READ, node="hd2"),
    )
    waited = [0, 2, 3, 5, 7, 8]
    assert [number for number, each in enumerate(seen) if each.nodes is None] == waited
    ready, paused = seen[1], seen[4]
    assert ready.reply == {"return": {"status": "ready"}}
    assert ready.jobs is not None
    assert (ready.jobs[0]["status"], ready.jobs[0]["busy"]) == ("ready", False)
    assert paused.jobs is not None
    assert (paused.jobs[0]["status"], paused.jobs[0]["paused"]) == ("standby", True)
    assert statuses(seen[0]) == ["created", "running"]
    assert statuses(seen[1]) == ["ready"]
    assert seen[8].reply == {"return": {"status": "null"}}
    desc = "Job 'j0' does not come to the status 'ready' but to 'null'"
    assert seen[9].reply == {"error": {"class": "GenericError", "desc": desc}}
    assert (seen[9].jobs, seen[9].exports) == ([], None)
    assert seen[10].reply == {"return": [[0, 65_536, 2], [65_536, MIB, 1]]}


def test_a_slow_commit_is_waited_for_until_it_sleeps(daemon: Daemon, images: ImageStore) -> None:
    half = 524_288
    start = qmp("block-commit", job_id="j0", device="hd1", top_node="hd1", base_node="hd0")
    slow = qmp("block-stream", job_id="j0", device="hd1", speed=1)
    seen = seen_of(
        daemon,
        images,
        *(slow, wait("running", progress=half)),
        *(qmp("job-pause", id="j0"), wait("paused"), qmp("job-cancel", id="j0"), wait("null")),
        *(start, wait("ready"), qmp("job-cancel", id="j0"), wait("null")),
        qmp(READ, node="hd0"),
    )
    assert [each.reply for each in seen if "error" in each.reply] == []
    running = seen[1].jobs
    assert running is not None
    assert (running[0]["status"], running[0]["busy"]) == ("running", False)
    assert running[0]["offset"] >= half
    assert seen[-1].reply == {"return": [[0, 65_536, 2], [65_536, MIB, 1]]}


def test_a_status_that_does_not_come_is_no_hang(daemon: Daemon, images: ImageStore) -> None:
    images.create(daemon.directory, CHAIN)
    start = qmp("blockdev-mirror", job_id="j0", device="hd1", target="hd2", sync="full")
    ready = Exchange(daemon, (*ADD_CHAIN, start, wait("ready")), observed=0)
    assert ready.finish() is None
    commands = (wait("pending"), {"execute": "query-jobs"})
    exchange = Exchange(daemon, commands, observed=0, patience=0.2, statuses=ready.statuses)
    assert exchange.finish() is None
    desc = "Job 'j0' does not come to the status 'pending' but to 'ready'"
    assert exchange.replies()[-2] == {"error": {"class": "GenericError", "desc": desc}}
    assert exchange.replies()[-1]["return"][0]["status"] == "ready"


def test_a_daemon_that_is_stopped_in_a_wait_is_disturbed(
    daemon: Daemon, images: ImageStore
) -> None:
    images.create(daemon.directory, CHAIN)
    start = qmp("blockdev-mirror", job_id="j0", device="hd1", target="hd2", sync="full")
    exchange = Exchange(
        daemon, (*ADD_CHAIN, start, wait("ready"), wait("pending")), observed=0, patience=0.2
    )
    while exchange.answered < 5:
        assert exchange.go_on()
    os.kill(daemon.pid, signal.SIGSTOP)
    death = exchange.finish(0.3)
    assert death is not None
    assert (death.kind, death.step) == ("disturbed", 5)


def test_a_guest_reads_and_writes(daemon: Daemon, images: ImageStore) -> None:
    seen = seen_of(
        daemon,
        images,
        qmp("blockdev-add", driver="file", node_name="file", filename="hd2.qcow2", read_only=True),
        qmp(WRITE, node="hd1", offset=1, length=700_000, pattern=9),
        qmp(READ, node="hd1"),
        qmp(READ, node="hd2"),
        qmp(READ, node="no-such-node"),
        qmp(WRITE, node="file", offset=0, length=1, pattern=1),
        qmp(WRITE, node="hd2", offset=MIB, length=1, pattern=1),
    )
    written, top, empty, nowhere, read_only, behind = (each.reply for each in seen[1:])
    assert written == {"return": {}}
    assert top == {"return": [[0, 1, 2], [1, 700_001, 9], [700_001, MIB, 1]]}
    assert empty == {"return": []}
    assert "Cannot find device=" in nowhere["error"]["desc"]
    assert "read-only" in read_only["error"]["desc"]
    assert behind["error"]["desc"].startswith("NBD error")
    assert all(each.events == () and each.exports is None for each in seen)
    graph = seen[1].graph
    assert graph is not None
    assert {vertex["type"] for vertex in graph["nodes"]} == {"block-driver"}


def test_a_guest_uses_the_server_of_the_trace(daemon: Daemon, images: ImageStore) -> None:
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    seen = seen_of(
        daemon,
        images,
        qmp(READ, node="hd0"),
        qmp("nbd-server-start", addr=address),
        qmp("block-export-add", type="nbd", id="e0", node_name="hd0"),
        qmp(READ, node="hd0"),
        qmp("block-export-del", id="e0"),
        qmp("nbd-server-stop"),
        qmp(READ, node="hd0"),
    )
    assert [each.reply for each in seen if "error" in each.reply] == []
    assert seen[0].reply == seen[3].reply == seen[6].reply == {"return": [[0, MIB, 1]]}
    assert [len(each.exports or ()) for each in seen] == [0, 0, 1, 1, 0, 0, 0]
    assert [e["event"] for each in seen for e in each.events] == ["BLOCK_EXPORT_DELETED"]


def test_a_node_in_a_thread_is_read(daemon: Daemon, images: ImageStore) -> None:
    seen = seen_of(
        daemon,
        images,
        qmp("object-add", qom_type="iothread", id="i0"),
        qmp("x-blockdev-set-iothread", node_name="hd1", iothread="i0"),
        *[qmp(READ, node=node) for node in ("hd1", "hd0", "hd2") * 5],
    )
    assert [each.reply for each in seen if "error" in each.reply] == []
    assert seen[-2].reply == {"return": [[0, MIB, 1]]}

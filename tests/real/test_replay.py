# SPDX-License-Identifier: GPL-2.0-or-later
"""A replay returns what each command showed, in order, and how far it got."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from model.trace import Command, ImageSpec, Trace
from targets.replay import replay

if TYPE_CHECKING:
    from targets.daemon import StorageDaemon
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


def test_replies_graph_and_refusal(daemon: StorageDaemon, images: ImageStore) -> None:
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


def test_without_observation_only_replies_come(daemon: StorageDaemon) -> None:
    seen = replay(daemon, Trace((), (null("n"), null("n"))), observe=False)
    assert [list(each.reply) for each in seen.observations] == [["return"], ["error"]]
    assert all(each.nodes is None and each.graph is None for each in seen.observations)


@pytest.mark.parametrize("lockstep", [False, True])
def test_answers_belong_to_their_commands(daemon: StorageDaemon, *, lockstep: bool) -> None:
    trace = Trace((), tuple(null(f"n{index}") for index in range(50)))
    seen = replay(daemon, trace, lockstep=lockstep)
    assert [len(each.nodes or ()) for each in seen.observations] == list(range(1, 51))


def test_five_hundred_commands_with_large_answers_do_not_block(daemon: StorageDaemon) -> None:
    commands = [null(f"n{index}") for index in range(60)]
    commands += [qmp("blockdev-reopen", options=[{"driver": "null-co", "node-name": "n0"}])] * 440
    seen = replay(daemon, Trace((), tuple(commands)))
    assert seen.death is None
    assert len(seen.observations) == 500
    assert len(seen.observations[-1].nodes or ()) == 60


def test_a_request_larger_than_any_buffer_gets_through(daemon: StorageDaemon) -> None:
    long = qmp("blockdev-add", driver="null-co", node_name="x" * 300_000)
    seen = replay(daemon, Trace((), (long, null("n"))))
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
def test_whatever_is_sent_gets_its_own_refusal(daemon: StorageDaemon, command: Command) -> None:
    seen = replay(daemon, Trace((), (null("a"), command, null("b"))))
    before, odd, after = seen.observations
    assert before.reply == after.reply == {"return": {}}
    assert list(odd.reply) == ["error"]
    assert len(odd.nodes or ()) == 1
    assert len(after.nodes or ()) == 2


def test_events_count_for_the_step_during_which_they_came(
    daemon: StorageDaemon, images: ImageStore
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


def test_an_exit_in_a_trace_keeps_what_came_before(daemon: StorageDaemon) -> None:
    trace = Trace((), (null("a"), null("b"), {"execute": "quit"}, null("c"), null("d")))
    seen = replay(daemon, trace, lockstep=True)
    assert seen.death is not None
    assert (seen.death.kind, seen.death.step, seen.death.status) == ("exit", 2, 0)
    assert len(seen.observations) in {2, 3}  # the reply to quit may or may not come out
    assert len(seen.observations[1].nodes or ()) == 2
    assert all(each.nodes is None for each in seen.observations[2:])


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSEGV, "crash"), (signal.SIGSTOP, "hang")])
def test_a_loss_in_the_middle_of_a_trace_is_a_value(
    daemon: StorageDaemon, number: signal.Signals, kind: str
) -> None:
    trace = Trace((), (null("n"), *[{"execute": "query-version"}] * 20_000))
    timer = threading.Timer(1.5, os.kill, (daemon.pid, number))
    timer.start()
    seen = replay(daemon, trace, timeout=1.0)
    timer.join()
    assert seen.death is not None
    assert seen.death.kind == kind
    assert 0 < seen.death.step < 20_000
    assert len(seen.observations) - seen.death.step in {0, 1}
    assert all(each.nodes for each in seen.observations[: seen.death.step])
    assert not daemon.alive

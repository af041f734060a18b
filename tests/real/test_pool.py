# SPDX-License-Identifier: GPL-2.0-or-later
"""A target starts every trace from nothing; a pool returns results in order."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import OBJECT, WAIT
from model.values.trace import Command, ImageSpec, Trace
from targets.errors import TargetError
from targets.pool import Finished, Pool, Target
from targets.replay import replay

if TYPE_CHECKING:
    from pathlib import Path

    from targets.binaries import Build

MIB = 1 << 20
LOOK = Trace((), ({"execute": "query-named-block-nodes"}, {"execute": "query-block-exports"}))


def add(name: str, **more: Any) -> Command:
    return {"execute": "blockdev-add", "arguments": {"node-name": name, **more}}


def chain() -> Trace:
    """Nodes that have to go in another order than the one they came in, and objects in use."""
    specs = tuple(ImageSpec(f"hd{i}.qcow2", "qcow2", MIB) for i in range(4))
    commands: list[Command] = [
        {"execute": "object-add", "arguments": {"qom-type": "throttle-group", "id": "group0"}},
        {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "iothread0"}},
    ]
    for index, spec in enumerate(specs):
        file = {"driver": "file", "filename": spec.name}
        commands.append(add(f"hd{index}", driver="qcow2", backing=None, file=file))
    for index in range(3):
        options = {
            "driver": "qcow2",
            "node-name": f"hd{index}",
            "backing": f"hd{index + 1}",
            "file": {"driver": "file", "filename": specs[index].name},
        }
        commands += [{"execute": "blockdev-reopen", "arguments": {"options": [options]}}]
    commands.append(add("limit", driver="throttle", **{"throttle-group": "group0"}, file="hd0"))
    commands.append(add("cor", driver="copy-on-read", file="limit"))
    return Trace(specs, tuple(commands))


def test_nothing_is_left_for_the_next_trace_in_the_same_process(target: Target) -> None:
    seen = target.run(chain())
    assert seen.death is None
    assert all("return" in each.reply for each in seen.observations)
    assert len(seen.observations) == len(chain().commands)
    pid = target.daemon.pid
    after = target.run(LOOK)
    assert after.observations[0].nodes == []
    assert list(target.daemon.directory.iterdir()) == []
    again = target.run(chain())
    assert [each.reply for each in again.observations] == [each.reply for each in seen.observations]
    assert (target.daemon.pid, target.starts) == (pid, 1)


def test_objects_are_removed_too(target: Target) -> None:
    target.run(chain())
    objects = replay(target.daemon, Trace((), chain().commands[:2]), observe=False)
    assert [each.reply for each in objects.observations] == [{"return": {}}, {"return": {}}]


def test_what_cannot_be_removed_costs_a_fresh_process(target: Target) -> None:
    chardev = {"id": "c0", "backend": {"type": "null", "data": {}}}
    trace = Trace((), ({"execute": "chardev-add", "arguments": chardev},))
    assert "return" in target.run(trace).observations[0].reply
    assert target.run(LOOK).observations[1].reply == {"return": []}
    assert target.starts == 2


IMAGES = (
    ImageSpec("hd0.qcow2", "qcow2", MIB, data=((0, MIB, 1),)),
    ImageSpec("hd1.qcow2", "qcow2", MIB, "hd0.qcow2", "qcow2", ((0, 65_536, 2),)),
    ImageSpec("hd2.qcow2", "qcow2", MIB),
)


def qmp(execute: str, **arguments: Any) -> Command:
    return {
        "execute": execute,
        "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
    }


def wait(status: str, **more: Any) -> Command:
    return qmp(WAIT, id="j0", status=status, **more)


def disks() -> tuple[Command, ...]:
    return tuple(
        add(f"hd{i}", driver="qcow2", backing=backing, file={"driver": "file", "filename": f.name})
        for i, (f, backing) in enumerate(zip(IMAGES, (None, "hd0", None), strict=True))
    )


COMMIT = {"job_id": "j0", "device": "hd1", "top_node": "hd1", "base_node": "hd0"}
MIRROR = {"job_id": "j0", "device": "hd1", "target": "hd2", "sync": "full"}
SERVER = qmp("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
THREAD = qmp("object-add", qom_type="iothread", id="i0")
LEFT: dict[str, tuple[Command, ...]] = {
    "ready": (qmp("blockdev-mirror", **MIRROR), wait("ready")),
    "standby": (
        qmp("blockdev-mirror", **MIRROR, filter_node_name="flt"),
        wait("ready"),
        qmp("job-pause", id="j0"),
        wait("standby"),
    ),
    "pending": (
        qmp("block-stream", job_id="j0", device="hd1", auto_finalize=False),
        wait("pending"),
    ),
    "concluded": (
        qmp("block-commit", **COMMIT, auto_dismiss=False),
        wait("ready"),
        qmp("job-cancel", id="j0"),
        wait("concluded"),
    ),
    "running": (qmp("blockdev-backup", **{**MIRROR, "sync": "none"}), wait("running")),
    "paused": (
        qmp("block-stream", job_id="j0", device="hd1", speed=1),
        wait("running", progress=589824),
        qmp("job-pause", id="j0"),
        wait("paused"),
    ),
    "exports": (
        SERVER,
        qmp("block-export-add", type="nbd", id="e0", node_name="hd1", writable=True),
        qmp("block-export-add", type="nbd", id="e1", node_name="hd2"),
    ),
    "thread": (
        THREAD,
        qmp("x-blockdev-set-iothread", node_name="hd1", iothread="i0"),
        qmp("blockdev-mirror", **MIRROR),
        wait("ready"),
    ),
    "export in a thread": (
        THREAD,
        SERVER,
        qmp(
            "block-export-add",
            type="nbd",
            id="e0",
            node_name="hd1",
            iothread="i0",
            fixed_iothread=True,
        ),
    ),
}


@pytest.mark.parametrize("left", LEFT)
def test_jobs_exports_and_threads_are_removed(target: Target, left: str) -> None:
    trace = Trace(IMAGES, (*disks(), *LEFT[left]))
    first = target.run(trace)
    assert first.death is None
    assert [each.reply for each in first.observations if "error" in each.reply] == []
    for _ in range(3):
        empty = Trace(
            (), (THREAD, *LOOK.commands, SERVER, {"execute": "query-jobs"}, qmp("block-stream"))
        )
        seen = target.run(empty).observations
        assert seen[0].reply == {"return": {}}
        assert (seen[1].nodes, seen[2].reply, seen[3].reply) == ([], {"return": []}, {"return": {}})
        assert (seen[4].reply, seen[4].jobs) == ({"return": []}, [])
        assert list(target.daemon.directory.iterdir()) == []
        again = target.run(trace)
        assert [each.reply for each in again.observations] == [
            each.reply for each in first.observations
        ]
        assert [each.jobs for each in again.observations] == [
            each.jobs for each in first.observations
        ]
    assert target.starts == 1


def test_a_pool_keeps_traces_with_waits_at_work(build: Build, tmp_path: Path) -> None:
    traces = [Trace(IMAGES, (*disks(), *LEFT[name])) for name in LEFT] * 3
    with Pool[int](build, 2, parent=tmp_path) as pool:
        found: list[Finished[int]] = []
        for number, trace in enumerate(traces):
            found += pool.submit(trace, number)
        found += pool.drain()
        assert pool.starts == 2
    assert [each.token for each in found] == list(range(len(traces)))
    for each in found:
        assert each.replay.death is None
        assert len(each.replay.observations) == len(each.trace.commands)
        assert all("return" in step.reply for step in each.replay.observations)


def test_a_death_costs_a_fresh_process_and_nothing_else(target: Target) -> None:
    target.run(LOOK)
    daemon = target.daemon
    os.kill(daemon.pid, signal.SIGSEGV)
    while daemon.alive:
        time.sleep(0.01)
    assert target.run(LOOK).death is None
    seen = target.run(Trace((), ({"execute": "query-version"}, {"execute": "quit"})))
    assert seen.death is not None
    assert seen.death.kind == "exit"
    assert target.run(LOOK).death is None
    assert target.starts == 3


@pytest.mark.parametrize(
    ("number", "died"), [(signal.SIGSEGV, True), (signal.SIGKILL, False), (signal.SIGSTOP, False)]
)
def test_a_death_while_nodes_are_removed_counts_for_the_end_of_the_trace(
    build: Build, tmp_path: Path, number: signal.Signals, *, died: bool
) -> None:
    """Unless it is somebody's doing: that takes nothing from the answers."""
    trace = Trace((), (add("n", driver="null-co"),))
    with Target(build, parent=tmp_path, timeout=0.3) as target:
        pid = target.daemon.pid
        target.begin(trace)
        assert target._running is not None
        exchange = target._running.exchange
        while exchange.answered < 3:
            for line in target.daemon.connection.receive(5):
                exchange._take(line)
        exchange._answered = 1
        os.kill(pid, number)
        seen = target.finish()
        assert target._daemon is None
    assert len(seen.observations) == 1
    if died:
        assert seen.death is not None
        assert (seen.death.kind, seen.death.step) == ("crash", 1)
    else:
        assert seen.death is None


def test_confirm_uses_a_fresh_process_and_finds_the_exact_step(target: Target) -> None:
    target.run(LOOK)
    pid = target.daemon.pid
    assert target.confirm(LOOK).death is None
    assert target.daemon.pid != pid
    lost = target.confirm(Trace((), (add("a", driver="null-co"), {"execute": "quit"})))
    assert lost.death is not None
    assert (lost.death.kind, lost.death.step) == ("exit", 1)
    assert len(lost.observations) >= 1


def test_a_bad_image_is_refused_before_anything_runs(target: Target) -> None:
    with pytest.raises(TargetError, match="scratch directory"):
        target.run(Trace((ImageSpec("../hd0.qcow2", "qcow2", MIB),), ()))
    assert target.run(LOOK).death is None


def test_an_empty_trace_is_nothing_special(target: Target) -> None:
    assert target.run(Trace((), ())).observations == ()


def test_begin_and_finish_alternate(target: Target) -> None:
    with pytest.raises(TargetError, match="runs no trace"):
        target.finish()
    target.begin(LOOK)
    with pytest.raises(TargetError, match="still runs"):
        target.begin(LOOK)
    assert target.finish().death is None


def test_a_pool_returns_everything_in_order_and_survives_deaths(
    build: Build, tmp_path: Path
) -> None:
    dies = Trace((), ({"execute": "quit"},))
    with Pool[int](build, 2, parent=tmp_path) as pool:
        found: list[Finished[int]] = []
        for index in range(20):
            found += pool.submit(dies if index % 7 == 3 else chain(), index)
        with pytest.raises(TargetError):
            pool.submit(Trace((ImageSpec("/hd0", "raw", MIB),), ()), -1)
        found += pool.drain()
        assert pool.starts == 2 + 3
    assert [each.token for each in found] == list(range(20))
    deaths = [each.token for each in found if each.replay.death is not None]
    assert deaths == [3, 10, 17]
    assert list(tmp_path.iterdir()) == []


def test_a_pool_that_is_left_early_cleans_up(build: Build, tmp_path: Path) -> None:
    def interrupted() -> None:
        with Pool[int](build, 2, parent=tmp_path) as pool:
            for index in range(3):
                pool.submit(chain(), index)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_trace_has_its_objects_from_the_start(build: Build) -> None:
    """A daemon is started anew for other objects, and kept for the same."""

    def throttled(group: str) -> Trace:
        own = {"execute": OBJECT, "arguments": {"qom-type": "throttle-group", "id": group}}
        file = {"driver": "null-co"}
        return Trace((), (own, add("t", driver="throttle", file=file, **{"throttle-group": group})))

    with Target(build) as target:
        starts = []
        for group in ("a", "a", "b"):
            seen = target.run(throttled(group)).observations
            assert [each.reply for each in seen] == [{"return": {}}] * 2
            starts.append(target.starts)
    assert starts == [1, 1, 2]

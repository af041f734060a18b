# SPDX-License-Identifier: GPL-2.0-or-later
"""What a QMP client costs: QEMU's own (``qemu.qmp``) against the bare socket of `targets`.

Every client sends the same commands, each followed by the two queries that observe the
graph, to a fresh daemon per trace; starting and stopping is not counted. A client that
adds nothing would be as fast as the daemon.

Use: ``python -m benchmarks.client [DAEMON] [TRACES]``
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from model.values.trace import Command, ImageSpec, Trace
from qemu.qmp import ExecuteError, QMPClient

from targets.binaries import Build, find_daemon
from targets.daemon import Daemon
from targets.errors import TargetError
from targets.images import ImageStore
from targets.replay import GRAPH, NODES, replay

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 30
IMAGES = 3
SIZE = 1 << 20
CONNECT_WITHIN = 10.0


@attrs.frozen
class Cost:
    """Seconds for one trace: on the clock, of our processor time, of the daemon's."""

    clock: float
    ours: float
    daemon: float


def example() -> Trace:
    """Return a trace like those that the checker makes: a chain, then reopens of its nodes."""
    images = tuple(ImageSpec(f"hd{i}.qcow2", "qcow2", SIZE) for i in range(IMAGES))
    commands: list[Command] = []
    for index, image in enumerate(images):
        arguments = {
            "driver": "qcow2",
            "node-name": f"hd{index}",
            "file": {"driver": "file", "filename": image.name},
            "backing": f"hd{index - 1}" if index else None,
        }
        commands.append({"execute": "blockdev-add", "arguments": arguments})
    top = IMAGES - 1
    for step in range(len(commands), STEPS):
        options = {
            "driver": "qcow2",
            "node-name": f"hd{top}",
            "file": {"driver": "file", "filename": images[top].name},
            "backing": None if step % 3 == 0 else f"hd{step % 3 - 1}",
            "read-only": step % 4 == 0,
        }
        commands.append({"execute": "blockdev-reopen", "arguments": {"options": [options]}})
    return Trace(images, tuple(commands))


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks_per_second = 100
    return (int(fields[11]) + int(fields[12])) / ticks_per_second


def measure(pid: int, work: Callable[[], object]) -> Cost:
    """Return what some work costs while a daemon serves it."""
    daemon, ours, clock = processor_time(pid), time.process_time(), time.perf_counter()
    work()
    clock, ours = time.perf_counter() - clock, time.process_time() - ours
    return Cost(clock, ours, processor_time(pid) - daemon)


def with_socket(
    build: Build,
    images: ImageStore,
    trace: Trace,
    *,
    lockstep: bool = False,
    out_of_band: bool = True,
) -> Cost:
    """Return the cost of a trace through the bare socket."""
    with Daemon(build, out_of_band=out_of_band) as daemon:
        images.create(daemon.directory, trace.images)
        return measure(daemon.pid, lambda: replay(daemon, trace, lockstep=lockstep))


def with_client(build: Build, images: ImageStore, trace: Trace, *, pipelined: bool) -> Cost:
    """Return the cost of a trace through ``qemu.qmp``, awaiting each reply or all at once."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="reopencheck-") as scratch:
        images.create(Path(scratch), trace.images)
        chardev = f"socket,id=monitor0,fd={theirs.fileno()}"
        with subprocess.Popen(
            [*build.argv, "--chardev", chardev, "--monitor", "chardev=monitor0"],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        ) as process:
            theirs.close()
            try:
                return asyncio.run(_through_client(ours, process.pid, trace, pipelined=pipelined))
            finally:
                process.kill()


async def _through_client(sock: socket.socket, pid: int, trace: Trace, *, pipelined: bool) -> Cost:
    client = QMPClient("benchmark")
    await asyncio.wait_for(client.connect(sock), CONNECT_WITHIN)
    messages = [each for command in trace.commands for each in (command, NODES, GRAPH)]
    daemon, ours, clock = processor_time(pid), time.process_time(), time.perf_counter()
    if pipelined:
        requests = [
            client.execute_msg(client.make_execute_msg(each["execute"], each.get("arguments")))
            for each in messages
        ]
        await asyncio.gather(*requests, return_exceptions=True)
    else:
        for each in messages:
            with contextlib.suppress(ExecuteError):  # releases before 6.1 have no reopen
                await client.execute(each["execute"], each.get("arguments"))
    clock, ours = time.perf_counter() - clock, time.process_time() - ours
    cost = Cost(clock, ours, processor_time(pid) - daemon)
    await client.disconnect()
    return cost


def main(daemon: str = "qemu-storage-daemon", traces: str = "50") -> None:
    """Print the table."""
    build = find_daemon(daemon)
    images = ImageStore()
    trace = example()
    ways: dict[str, Callable[[], Cost]] = {
        "qemu.qmp, awaiting each reply": lambda: with_client(build, images, trace, pipelined=False),
        "qemu.qmp, all at once": lambda: with_client(build, images, trace, pipelined=True),
        "bare socket, one command at a time": lambda: with_socket(
            build, images, trace, lockstep=True
        ),
        "bare socket, pipelined, without oob": lambda: with_socket(
            build, images, trace, out_of_band=False
        ),
        "bare socket, pipelined": lambda: with_socket(build, images, trace),
    }
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(int(traces)):
        # Alternating, so that a busy machine slows all of them alike.
        for way, run in ways.items():
            costs[way].append(run())
    print(f"{build.text}; {traces} traces of {STEPS} commands, observed after each")
    print(f"{'client':36}{'commands/s':>12}{'ours us':>10}{'daemon us':>11}   (per command)")
    for way, found in costs.items():
        clock = statistics.median(cost.clock for cost in found) / STEPS
        ours = statistics.mean(cost.ours for cost in found) / STEPS
        theirs = statistics.mean(cost.daemon for cost in found) / STEPS
        print(f"{way:36}{1 / clock:12.0f}{ours * 1e6:10.0f}{theirs * 1e6:11.0f}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TargetError as error:
        sys.exit(f"benchmarks.client: {error}")

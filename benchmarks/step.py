# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the spec takes for one reopen in a graph of eight nodes.

    python -m benchmarks.step [--repeat N]

Prints the median and the 90th percentile in microseconds of processor time (a step does
nothing but compute), with and without a change of the graph. The first reopen takes the five
nodes below along. The bar is a median under 150.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from model import Monitor, step

if TYPE_CHECKING:
    from model.values.trace import Command

BAR = 150.0
NODES = 8


def eight_nodes() -> Monitor:
    """A chain of three qcow2 images, a file node each, under a throttle; one node to spare."""
    monitor = Monitor("qemu-7.2")
    for i in range(3):
        monitor.images.create(f"hd{i}.qcow2", format="qcow2", size=1 << 20)

    def add(name: str, options: dict[str, Any]) -> None:
        arguments = {"node-name": name, **options}
        reply = monitor.execute({"execute": "blockdev-add", "arguments": arguments})
        if "error" in reply:
            raise SystemExit(f"the benchmark's graph was refused: {reply['error']['desc']}")

    group = {"qom-type": "throttle-group", "id": "tg0"}
    monitor.execute({"execute": "object-add", "arguments": group})
    backing: dict[str, Any] | None = None
    for i in range(3):
        layer = {
            "driver": "qcow2",
            "node-name": f"hd{i}",
            "file": {"driver": "file", "filename": f"hd{i}.qcow2", "node-name": f"hd{i}f"},
            "backing": backing,
        }
        backing = layer
    add("hd2", {k: v for k, v in layer.items() if k != "node-name"})
    add("top", {"driver": "throttle", "throttle-group": "tg0", "file": "hd2"})
    add("spare", {"driver": "null-co"})
    if len(monitor.state.nodes) != NODES:
        raise SystemExit(f"the benchmark's graph has {len(monitor.state.nodes)} nodes")
    return monitor


def reopen(**options: Any) -> Command:
    """A reopen of the top image."""
    node = {"driver": "qcow2", "node-name": "hd2", "file": "hd2f", "backing": "hd1", **options}
    return {"execute": "blockdev-reopen", "arguments": {"options": [node]}}


def measure(monitor: Monitor, command: Command, repeat: int) -> list[float]:
    """Microseconds of each of ``repeat`` steps from the same state."""
    state, dialect = monitor.state, monitor.dialect
    times = []
    for _ in range(repeat):
        start = time.thread_time_ns()
        outcome = step(state, command, dialect)
        times.append((time.thread_time_ns() - start) / 1000)
        if not outcome.ok:
            raise SystemExit(f"the benchmark's reopen was refused: {outcome.reply}")
    return times


def main() -> int:
    """Run the benchmark; status 1 if a median is over the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeat", type=int, default=5000)
    repeat = parser.parse_args().repeat
    monitor = eight_nodes()
    worst = 0.0
    for what, command in (
        ("options changed", reopen(**{"l2-cache-size": 131072})),
        ("backing replaced", reopen(backing="spare")),
        ("backing removed", reopen(backing=None)),
    ):
        times = sorted(measure(monitor, command, repeat))
        median = statistics.median(times)
        worst = max(worst, median)
        print(f"{what:18} median {median:6.1f} us   p90 {times[len(times) * 9 // 10]:6.1f} us")
    print(f"bar: {BAR:.0f} us, {'met' if worst < BAR else 'missed'}")
    return 0 if worst < BAR else 1


if __name__ == "__main__":
    sys.exit(main())

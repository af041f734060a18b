# SPDX-License-Identifier: GPL-2.0-or-later
"""What it costs to compare the data that guests read.

    python -m benchmarks.data [DAEMON] [--examples N] [--seed S]

Generates traces once, then compares them with the daemon as `diff` does, as they are and
without a guest's reads and writes. The bar is half of the pace, in traces.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import attrs
from model.values.trace import READ, WRITE

from checker.diff import DiffOptions, run_diff
from checker.generate import examples
from checker.judge import Example
from checker.oracle import oracle
from checker.settling import settled
from checker.sides import open_sides
from checker.tally import Amount, Tally
from model import nearest_dialect
from targets.binaries import DAEMON, Build, find_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect
    from model.values.trace import Trace

BAR = 0.5
_GUEST = (READ, WRITE)


def reads(trace: Trace) -> bool:
    """Whether a guest's data are compared in a trace."""
    return any(command.get("execute") in _GUEST for command in trace.commands)


def without_guests(trace: Trace, dialect: Dialect) -> Trace:
    """The trace without what guests do, and with the waits that it then needs."""
    kept = tuple(command for command in trace.commands if command.get("execute") not in _GUEST)
    return settled(attrs.evolve(trace, commands=kept), dialect)


def compare(build: Build, dialect: Dialect, traces: list[Trace]) -> float:
    """Seconds for what `diff` does with finished traces."""

    def generate(sink: Callable[[Example], None], /) -> None:
        for trace in traces:
            sink(Example(trace, oracle(dialect)(trace)))

    tally = Tally("diff", dialect, seed=0, release=build.release)
    start = time.perf_counter()
    with open_sides(build, dialect) as sides:
        run_diff(tally, generate, sides, DiffOptions(reduce_replays=0))
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; status 1 below the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("daemon", nargs="?", default=DAEMON)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    build = find_daemon(options.daemon)
    major, minor = map(int, build.release.split("."))
    dialect = nearest_dialect((major, minor))

    traces: list[Trace] = []
    amount = Amount(options.examples, 40, options.seed)
    examples(dialect, amount)(lambda example: traces.append(example.trace))
    bare = [without_guests(trace, dialect) for trace in traces]
    share = sum(map(reads, traces)) / len(traces)

    compared = compare(build, dialect, traces)
    plain = compare(build, dialect, bare)
    ratio = plain / compared
    print(f"traces that compare data  {share:.0%}")
    print(f"with data     {len(traces) / compared:6.1f} traces/s")
    print(f"without data  {len(traces) / plain:6.1f} traces/s")
    print(f"ratio {ratio:.2f}, bar {BAR}: {'met' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The pace of `diff` against the daemon's own.

    python -m benchmarks.pace [DAEMON] [--examples N] [--seed S]

Generates traces once, then, in one run and with as many daemons: the whole of `diff`
(generation, model, replay, comparison), and a bare pipelined replay of the very same
traces (with the same two queries after each command). The bar is half of the bare pace.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from checker.diff import DiffOptions, run_diff
from checker.generate import examples
from checker.sides import open_sides
from checker.tally import Amount, Tally
from model import nearest_dialect
from targets.binaries import DAEMON, Build, find_daemon
from targets.pool import Pool

if TYPE_CHECKING:
    from model.values.trace import Trace

    from checker.judge import Example

BAR = 0.5


def bare(build: Build, traces: list[Trace]) -> float:
    """Seconds for replaying ``traces`` and looking at nothing."""
    start = time.perf_counter()
    with Pool[None](build) as pool:
        for trace in traces:
            pool.submit(trace, None)
        for _ in pool.drain():
            pass
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; status 1 below the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("daemon", nargs="?", default=DAEMON)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    build = find_daemon(options.daemon)
    major, minor = map(int, build.release.split("."))
    dialect = nearest_dialect((major, minor))
    amount = Amount(options.examples, 30, options.seed)

    traces: list[Trace] = []

    def keep(example: Example) -> None:
        traces.append(example.trace)

    examples(dialect, amount)(keep)
    commands = sum(len(trace.commands) for trace in traces)

    bare_seconds = bare(build, traces)
    tally = Tally("diff", dialect, seed=amount.seed, release=build.release)
    start = time.perf_counter()
    with open_sides(build, dialect) as sides:
        summary = run_diff(tally, examples(dialect, amount), sides, DiffOptions(reduce_replays=0))
    diff_seconds = time.perf_counter() - start

    ratio = bare_seconds / diff_seconds * summary.commands / commands
    print(f"bare replay  {commands / bare_seconds:7.0f} commands/s ({commands} commands)")
    print(f"diff         {summary.commands / diff_seconds:7.0f} commands/s")
    print(f"ratio {ratio:.2f}, bar {BAR}: {'met' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())

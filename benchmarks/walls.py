# SPDX-License-Identifier: GPL-2.0-or-later
"""What the walls cost: the pace of `diff` behind them against that without any.

    python -m benchmarks.walls [BUILD] [--examples N] [--seed S] [--pairs P]

Both do the very same traces, in turn, in pairs; the ratio of each pair is taken, and the median of
those must be at least 0.95. It also tells how long a daemon takes from its start to its greeting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import attrs

from checker.compare.dialect_of import dialect_for
from checker.runs.diff import DiffOptions, run_diff
from checker.runs.generate import examples
from checker.runs.sides import open_sides
from checker.runs.tally import Amount, Tally
from targets.builds.binaries import DAEMON, Build
from targets.builds.debian import find_build
from targets.daemons.daemon import Daemon
from targets.walls.standing import EVERYTHING, Walls, trusting

BAR = 0.95
_STARTS = 15


def pace(build: Build, amount: Amount) -> float:
    """Commands in a second, from the opening of both sides to the end."""
    dialect, _ = dialect_for(build)
    tally = Tally("diff", dialect, seed=amount.seed, release=build.release)
    start = time.perf_counter()
    with open_sides(build, dialect) as sides:
        summary = run_diff(tally, examples(dialect, amount), sides, DiffOptions(reduce_replays=0))
    return summary.commands / (time.perf_counter() - start)


def start_time(build: Build) -> float:
    """The median of some starts, in milliseconds."""
    times = []
    for _ in range(_STARTS):
        begun = time.perf_counter()
        with Daemon(build):
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


def main() -> int:
    """Run the benchmark; status 1 below the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("build", nargs="?", default=DAEMON)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    walled = find_build(options.build, Walls())
    bare = attrs.evolve(walled, walls=trusting((EVERYTHING,)))
    print(f"walls: {', '.join(sorted(walled.walls.up)) or 'none can stand here'}")
    print(f"start  {start_time(walled):6.1f} ms behind them, {start_time(bare):.1f} ms without")
    ratios = []
    for number in range(options.pairs):
        amount = Amount(options.examples, 30, options.seed + number)
        # Whatever the first one leaves warm helps the other: so they take turns at being first.
        order = (walled, bare) if number % 2 else (bare, walled)
        found = {build.walls: pace(build, amount) for build in order}
        ratios.append(found[walled.walls] / found[bare.walls])
        paced = f"{found[walled.walls]:6.0f} commands/s behind them"
        print(f"pair {number + 1}  {paced}, ratio {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"ratio {ratio:.3f}, bar {BAR}: {'met' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())

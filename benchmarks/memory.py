# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of `diff` after ever more examples: flat after the first five hundred.

    python -m benchmarks.memory [DAEMON] [--examples N] [--every N] [--seed S]

Prints the resident memory of this process, in MiB, every so many examples; the daemons are others.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from checker.runs.diff import DiffOptions, run_diff
from checker.runs.generate import examples
from checker.runs.sides import open_sides
from checker.runs.tally import Amount, Tally
from model import nearest_dialect
from targets.builds.binaries import DAEMON
from targets.builds.debian import find_build

if TYPE_CHECKING:
    from checker.runs.tally import Tally as Counts

FIRST = 500
"""Examples after which the memory is to be flat."""
BAR = 1.10
"""How much of what it was then it may come to."""
_MIB = 1 << 20


def resident() -> float:
    """The resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def main() -> int:
    """Run the benchmark; status 1 above the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("daemon", nargs="?", default=DAEMON)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    build = find_build(options.daemon)
    major, minor = map(int, build.release.split("."))
    dialect = nearest_dialect((major, minor), build.program)
    seen: dict[int, float] = {}

    def watch(tally: Counts) -> None:
        if tally.examples % options.every == 0 and tally.examples not in seen:
            seen[tally.examples] = resident()
            print(f"{tally.examples:6} examples  {seen[tally.examples]:6.1f} MiB", flush=True)

    with open_sides(build, dialect) as sides:
        tally = Tally("diff", dialect, seed=options.seed)
        amount = Amount(options.examples, 30, options.seed)
        run_diff(tally, examples(dialect, amount), sides, DiffOptions(reduce_replays=0), watch)
    early = [memory for count, memory in seen.items() if count <= FIRST]
    late = [memory for count, memory in seen.items() if count > FIRST]
    if not early or not late:
        return 0
    growth = max(late) / early[-1]
    print(f"after {FIRST} examples it grew by {100 * (growth - 1):.0f} %")
    return int(growth > BAR)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills daemons, and the tool itself, at random moments: no finding may be lost or invented.

    python -m benchmarks.kills [--daemons 200] [--tool 50] [--seed S] [--examples N]

The model lacks some rules, so there is much to find, and a quiet run says what. Then the same
seed runs again while daemons die (KILL, TERM, SEGV, ABRT, STOP), and while the tool itself is
killed (INT, TERM, INT twice, KILL) and started once more. Each time the findings must be those
of the quiet run, and after the next start nothing may be left: no process, mount, socket or
scratch directory. Status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from random import Random
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.killing import Ended, Killer, Place

if TYPE_CHECKING:
    import subprocess

LACKS: Final = "reopen.backing-missing, del.in-use, permissions.read-only"
"""Rules without which the model is wrong often, and in many ways."""
MOST_RUNS: Final = 200
"""Runs after which no more daemons are looked for."""
FOUND: Final = (1, 3)
"""The statuses of a run that has found something."""
ENDS: Final = {"INT": (130,), "TERM": (130,), "INT INT": (130,), "KILL": (-9,)}
"""How the tool is killed, and the statuses with which it may end then, besides 0 and 1."""


@attrs.define
class Report:
    """What was done, and what was wrong."""

    daemons: int = 0
    tool: int = 0
    wrong: list[str] = attrs.Factory(list)

    def complain(self, what: str) -> None:
        """Note and print that something was wrong."""
        self.wrong.append(what)
        print(f"WRONG  {what}", flush=True)

    def same(self, run: str, quiet: set[str], found: set[str]) -> None:
        """Compare the findings of a run with those of the quiet one."""
        for signature in sorted(quiet - found):
            self.complain(f"{run}: lost {signature}")
        for signature in sorted(found - quiet):
            self.complain(f"{run}: invented {signature}")


def workloads(examples: int, seed: int) -> dict[str, list[str]]:
    """The commands that are disturbed."""
    lacking = f"qemu-7.2 without {LACKS}"
    amount = ["--examples", str(examples), "--steps", "20", "--seed", str(seed)]
    diff = ["diff", "--qemu", "qemu-storage-daemon", "--reduce", "5", "--report", "report"]
    return {
        "diff": [*diff, "--dialect", lacking, *amount],
        "compare": ["compare", "qemu-7.2", lacking, "--budget", "10m", *amount],
        "check": ["check", "--dialect", lacking, "--report", "report", *amount],
    }


def run_quietly(place: Place, name: str, arguments: list[str]) -> tuple[set[str], float]:
    """What a run finds that nobody disturbs, and its seconds."""
    start = time.monotonic()
    ended = place.end(place.start(arguments, f"quiet-{name}"), f"quiet-{name}")
    if ended.status not in FOUND:
        raise SystemExit(f"the quiet {name} ends with {ended.status}: {ended.error[-500:]}")
    found = ended.signatures()
    print(f"{name}: {len(found)} findings in a quiet run", flush=True)
    return found, time.monotonic() - start


def kill_daemons(
    place: Place,
    name: str,
    arguments: list[str],
    quiet: set[str],
    report: Report,
    killer_of: Random,
) -> int:
    """One run whose daemons are killed; returns how many were."""
    results = f"{name}-daemons-{report.daemons}"
    process = place.start(arguments, results)
    killer = Killer(process.pid, killer_of, 20)
    killer.start()
    ended = place.end(process, results)
    killed = killer.stop()
    run = f"{name} with {killed} daemons killed"
    if ended.status not in FOUND:
        report.complain(f"{run}: status {ended.status}: {_last_line(ended)}")
    report.same(run, quiet, ended.signatures())
    for line in place.leftovers():
        report.complain(f"{run}: left {line}")
    return killed


def kill_tool(
    place: Place,
    name: str,
    arguments: list[str],
    quiet: tuple[set[str], float],
    report: Report,
    random: Random,
) -> None:
    """One run that is killed, and the next start."""
    found, seconds = quiet
    results = f"{name}-tool-{report.tool}"
    how = random.choice(list(ENDS))
    process = place.start(arguments, results)
    time.sleep(random.uniform(0.2, seconds))
    _send(process, how, random)
    ended = place.end(process, results)
    run = f"{name} killed by {how}"
    if ended.status not in (0, 1, *ENDS[how]):
        report.complain(f"{run}: status {ended.status}: {_last_line(ended)}")
    kept = place.cases(results)
    for signature in sorted((kept | ended.signatures()) - found):
        report.complain(f"{run}: invented {signature}")
    # Of what was written down, all must be in what is printed; the dead print nothing.
    if how != "KILL" and kept:
        for signature in sorted(kept - ended.signatures()):
            report.complain(f"{run}: not printed {signature}")
    again = place.end(place.start(arguments, results), results)
    report.same(f"{run}, and started again", found, again.signatures())
    for line in place.leftovers():
        report.complain(f"{run}, and started again: left {line}")


def _send(process: subprocess.Popen[bytes], how: str, random: Random) -> None:
    for word in how.split():
        if process.poll() is None:
            os.kill(process.pid, signal.Signals[f"SIG{word}"])
            time.sleep(random.uniform(0, 0.03))


def _last_line(ended: Ended) -> str:
    return (ended.error.strip().splitlines() or [""])[-1][:300]


def main() -> int:
    """Run the benchmark; status 1 if anything was lost, invented or left behind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--daemons", type=int, default=200)
    parser.add_argument("--tool", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=60)
    options = parser.parse_args()
    random = Random(options.seed)  # noqa: S311 - reproducible, not secret
    report = Report()
    every = workloads(options.examples, options.seed)
    with Place() as place:
        quiet = {name: run_quietly(place, name, every[name]) for name in every}
        runs = 0
        while report.daemons < options.daemons and runs < MOST_RUNS:
            runs += 1
            name = "compare" if runs % 4 == 0 else "diff"
            killed = kill_daemons(place, name, every[name], quiet[name][0], report, random)
            report.daemons += killed
        while report.tool < options.tool:
            name = list(every)[report.tool % len(every)]
            kill_tool(place, name, every[name], quiet[name], report, random)
            report.tool += 1
    print(f"{report.daemons} daemons and {report.tool} runs killed: {len(report.wrong)} wrong")
    met = not report.wrong and report.daemons >= options.daemons
    print(f"bar: nothing lost, invented or left behind: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""A finding that needs a job: found, confirmed, reduced with its waits put right, and replayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from checker.case import load
from checker.compare import compare_trace
from checker.diff import DiffOptions, run_diff
from checker.judge import Example
from checker.oracle import expect
from checker.replay import compare_case
from checker.settling import settled
from checker.sides import open_sides
from checker.tally import Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from targets.pool import Target
from tests.checker.jobs import ADD, COMMIT, PAUSE, READ, REOPEN, TRACE, command, file, wait

if TYPE_CHECKING:
    from targets.binaries import Build

MUTANT = QEMU_7_2.without("job.paused-already")
OTHER = command("blockdev-add", driver="raw", node_name="other", file=file("mid.qcow2"))
NOISE = (
    command("query-jobs"),
    command("reopencheck-write", node="base", offset=0, length=4096, pattern=9),
    OTHER,
    command("job-resume", id="nobody"),
)


def test_a_job_is_kept_with_just_its_waits(build: Build, tmp_path: Path) -> None:
    commands = (*NOISE, ADD, *NOISE, COMMIT, PAUSE, READ, REOPEN, *NOISE, PAUSE, READ, *NOISE)
    noisy = attrs.evolve(TRACE, commands=commands)
    trace = settled(noisy, MUTANT)
    assert not any(e.hazards for e in expect(trace, MUTANT))

    def generate(sink: Any) -> None:
        sink(Example(trace, expect(trace, MUTANT)))

    tally = Tally("diff", MUTANT, seed=1, cases=tmp_path)
    with open_sides(build, MUTANT) as sides:
        summary = run_diff(tally, generate, sides, DiffOptions())
    assert (summary.divergences, summary.unconfirmed) == (1, 0)
    (finding,) = summary.findings
    assert finding.signature == (
        "job-pause | reply | accepted | success | GenericError: Job is already paused"
    )
    case = load(Path(str(finding.case_file)))
    assert [step.command["execute"] for step in case.steps] == [
        "blockdev-add",
        "block-commit",
        "reopencheck-wait",
        "job-pause",
        "reopencheck-wait",
        "job-pause",
        "reopencheck-wait",
    ]
    assert case.trace() == settled(case.trace(), MUTANT)
    assert case.difference is not None
    assert case.difference.step == 5
    with Target(build) as target:
        seen = target.confirm(case.trace())
    replayed = compare_case(case, build.text, seen.observations, seen.death)
    assert replayed.mismatch is not None
    assert replayed.mismatch.step == 5


def test_the_model_and_the_daemon_agree_on_the_whole_trace(build: Build) -> None:
    trace = attrs.evolve(
        TRACE, commands=(ADD, COMMIT, TRACE.commands[2], PAUSE, wait("j0", "paused"), REOPEN)
    )
    for each in (trace, TRACE):
        expected = expect(each, QEMU_7_2)
        with Target(build) as target:
            seen = target.confirm(each)
        assert compare_trace([e.observation for e in expected], seen.observations) is None
